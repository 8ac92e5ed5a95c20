// SPDX-License-Identifier: Apache-2.0
#include "weights/gguf/pack_table.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "base/units.h"
#include "weights/gguf/gguf_cursor.h"

namespace pantry {
namespace {

constexpr uint64_t kMaxPieceBytes = 4 << 20;  // readers have some dozen of them in memory
constexpr uint64_t kMaxDims = 4;
constexpr size_t kMaxNameBytes = 1024;  // as the parser of GGUF has it
constexpr size_t kShownChars = 100;
constexpr uint64_t kTensorBytes = 3 * sizeof(TensorInfo) + 256;  // with dims, and nodes and buckets of indices
constexpr char kMend[] = "the file is damaged: pack the model again (pantry pack MODEL.gguf --force)";

uint64_t PiecesOf(uint64_t block_bytes, uint64_t piece_bytes) { return (block_bytes + piece_bytes - 1) / piece_bytes; }

}  // namespace

uint64_t PackChecksum(std::span<const uint8_t> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::string PackBlockName(const PackGroup& group, uint32_t index) {
  std::string name = group.n_blocks > 1 ? fmt::format("block {} of ", index) : std::string();
  for (size_t i = 0; i < group.tensors.size(); ++i) {
    name += (i == 0 ? "" : ", ") + Printable(group.tensors[i], kShownChars);
  }
  return name;
}

// Checks a table from front to back; what it says first is what is wrong first.
class PackTableParser {
 public:
  PackTableParser(const Reader& reader, const Metadata& metadata, uint64_t* memory_left)
      : reader_(reader), metadata_(metadata), memory_left_(memory_left), table_(new PackTable()) {
    table_->path_ = reader.path();
  }

  Result<std::unique_ptr<PackTable>> Parse(std::span<const TensorInfo> tensors, std::vector<TensorInfo>* packed) {
    Status status = ReadVersion();
    if (status.ok()) status = FindData(tensors);
    if (status.ok()) status = ReadGroups();
    if (status.ok()) status = ReadTensors(packed);
    if (status.ok()) status = ReadChecksums();
    if (!status.ok()) return status.WithContext(reader_.path());
    return std::move(table_);
  }

 private:
  Status ReadVersion() {
    PANTRY_ASSIGN_OR_RETURN(const int64_t version, metadata_.GetInt(pack_keys::kVersion));
    if (version != kPackVersion && version != kOrderedPackVersion) {
      return UnsupportedError(
          "the pack has version {}, this program reads versions {} and {}: pack the model again with this program, or "
          "run it with the one that packed it",
          version, kPackVersion, kOrderedPackVersion);
    }
    has_orders_ = version == kOrderedPackVersion;
    PANTRY_ASSIGN_OR_RETURN(const std::string_view layout, metadata_.GetString(pack_keys::kLayout));
    const auto* const isa = std::find_if(std::begin(kAllIsas), std::end(kAllIsas),
                                         [&](Isa candidate) { return IsaName(candidate) == layout; });
    if (isa == std::end(kAllIsas)) {
      return UnsupportedError(
          "the pack is laid out for '{}', which this program does not know: pack the model again with this program",
          Printable(layout, kShownChars));
    }
    table_->layout_ = *isa;
    PANTRY_ASSIGN_OR_RETURN(const int64_t piece_bytes, metadata_.GetInt(pack_keys::kPieceBytes));
    if (piece_bytes < 1 || static_cast<uint64_t>(piece_bytes) > kMaxPieceBytes ||
        static_cast<uint64_t>(piece_bytes) % kPackAlignment != 0) {
      return CorruptionError("metadata key '{}' is {}, expected a multiple of {} up to {}; {}", pack_keys::kPieceBytes,
                             piece_bytes, kPackAlignment, kMaxPieceBytes, kMend);
    }
    table_->piece_bytes_ = static_cast<uint32_t>(piece_bytes);
    return OkStatus();
  }

  Status FindData(std::span<const TensorInfo> tensors) {
    PANTRY_ASSIGN_OR_RETURN(checksums_, Find(tensors, pack_keys::kChecksumsTensor, TensorType::kI64));
    PANTRY_ASSIGN_OR_RETURN(blocks_, Find(tensors, pack_keys::kBlocksTensor, TensorType::kI8));
    if (blocks_->offset % kPackAlignment == 0) return OkStatus();
    return CorruptionError("tensor '{}' begins at offset {}, expected a multiple of {}; {}", pack_keys::kBlocksTensor,
                           blocks_->offset, kPackAlignment, kMend);
  }

  static Result<const TensorInfo*> Find(std::span<const TensorInfo> tensors, std::string_view name, TensorType type) {
    const auto found =
        std::find_if(tensors.begin(), tensors.end(), [name](const TensorInfo& tensor) { return tensor.name == name; });
    if (found == tensors.end()) return CorruptionError("the pack has no tensor '{}'; {}", name, kMend);
    if (found->type == type && found->dims.size() == 1) return &*found;
    return CorruptionError("tensor '{}' is {} of {} dimensions, expected {} of 1; {}", name,
                           TensorTypeName(found->type), found->dims.size(), TensorTypeName(type), kMend);
  }

  // The integers of `key`; n_expected of them unless that is -1.
  Result<std::span<const int64_t>> Integers(std::string_view key, int64_t n_expected) const {
    PANTRY_ASSIGN_OR_RETURN(const MetadataArray* array, metadata_.GetArray(key));
    if (array->integers.size() != array->size() || array->element_type == MetadataType::kBool) {
      return CorruptionError("metadata key '{}': expected an array of integers, found one of {}; {}", key,
                             MetadataTypeName(array->element_type), kMend);
    }
    PANTRY_RETURN_IF_ERROR(CheckCount(key, array->size(), n_expected));
    return std::span<const int64_t>(array->integers);
  }

  static Status CheckCount(std::string_view key, size_t n_found, int64_t n_expected) {
    if (n_expected < 0 || static_cast<int64_t>(n_found) == n_expected) return OkStatus();
    return CorruptionError("metadata key '{}' has {} elements, expected {}; {}", key, n_found, n_expected, kMend);
  }

  Status Charge(uint64_t count, uint64_t bytes_each) {
    if (count > *memory_left_ / bytes_each) {
      return CorruptionError("the table of blocks would take more than {} of memory; {}",
                             FormatBytes(static_cast<int64_t>(*memory_left_)), kMend);
    }
    *memory_left_ -= count * bytes_each;
    return OkStatus();
  }

  Status ReadGroups() {
    PANTRY_ASSIGN_OR_RETURN(const std::span<const int64_t> n_blocks, Integers(pack_keys::kGroupBlocks, -1));
    const auto n_groups = static_cast<int64_t>(n_blocks.size());
    PANTRY_ASSIGN_OR_RETURN(const std::span<const int64_t> block_bytes,
                            Integers(pack_keys::kGroupBlockBytes, n_groups));
    std::span<const int64_t> orders;
    if (has_orders_) {
      PANTRY_ASSIGN_OR_RETURN(orders, Integers(pack_keys::kGroupOrder, n_groups));
    }
    PANTRY_RETURN_IF_ERROR(Charge(n_blocks.size(), sizeof(PackGroup)));
    table_->groups_.reserve(n_blocks.size());
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < n_blocks.size(); ++i) {
      if (n_blocks[i] < 1 || n_blocks[i] > int64_t{INT32_MAX} - table_->n_blocks_ || block_bytes[i] < 1 ||
          static_cast<uint64_t>(block_bytes[i]) > kMaxPackBlockBytes) {
        return CorruptionError("group {} has {} blocks of {} bytes, which is impossible; {}", i, n_blocks[i],
                               block_bytes[i], kMend);
      }
      PackGroup group;
      if (!orders.empty()) {
        if (orders[i] < 0 || orders[i] > static_cast<int64_t>(PackOrder::kGateAndNeurons)) {
          return UnsupportedError(
              "group {} has blocks of kind {}, which this program does not know: pack the model again", i, orders[i]);
        }
        group.order = static_cast<PackOrder>(orders[i]);
        table_->has_neurons_ |= group.order == PackOrder::kNeurons || group.order == PackOrder::kGateAndNeurons;
      }
      group.first_block = table_->n_blocks_;
      group.n_blocks = static_cast<uint32_t>(n_blocks[i]);
      group.block_bytes = static_cast<uint64_t>(block_bytes[i]);
      group.offset = blocks_->offset + n_bytes;
      group.first_piece = n_pieces_;
      if (group.n_blocks > (blocks_->n_bytes - n_bytes) / group.stride()) {
        return CorruptionError("the blocks up to group {} take more than the {} bytes of tensor '{}'; {}", i,
                               blocks_->n_bytes, pack_keys::kBlocksTensor, kMend);
      }
      n_bytes += group.n_blocks * group.stride();
      n_pieces_ += group.n_blocks * PiecesOf(group.block_bytes, table_->piece_bytes_);
      table_->n_blocks_ += group.n_blocks;
      table_->groups_.push_back(std::move(group));
    }
    if (n_bytes == blocks_->n_bytes) return OkStatus();
    return CorruptionError("the blocks of all groups take {} bytes, tensor '{}' has {}; {}", n_bytes,
                           pack_keys::kBlocksTensor, blocks_->n_bytes, kMend);
  }

  // Tensors come in the order of their groups, each group has one or more.
  Status ReadTensors(std::vector<TensorInfo>* packed) {
    PANTRY_ASSIGN_OR_RETURN(const MetadataArray* names, metadata_.GetArray(pack_keys::kTensorName));
    const auto n_tensors = static_cast<int64_t>(names->strings.size());
    PANTRY_RETURN_IF_ERROR(CheckCount(pack_keys::kTensorName, names->size(), n_tensors));
    PANTRY_ASSIGN_OR_RETURN(const std::span<const int64_t> groups, Integers(pack_keys::kTensorGroup, n_tensors));
    PANTRY_ASSIGN_OR_RETURN(const std::span<const int64_t> types, Integers(pack_keys::kTensorType, n_tensors));
    PANTRY_ASSIGN_OR_RETURN(const std::span<const int64_t> dims,
                            Integers(pack_keys::kTensorDims, n_tensors * static_cast<int64_t>(kMaxDims)));
    PANTRY_RETURN_IF_ERROR(Charge(names->strings.size(), kTensorBytes));
    int64_t last = -1;
    uint64_t group_bytes = 0;  // of the source's tensors in group `last`
    for (size_t i = 0; i < names->strings.size(); ++i) {
      if (groups[i] != last && groups[i] != last + 1) return WrongGroup(names->strings[i], groups[i]);
      if (groups[i] != last) group_bytes = 0;
      last = groups[i];
      if (last < 0 || last >= static_cast<int64_t>(table_->groups_.size())) return WrongGroup(names->strings[i], last);
      PackGroup& group = table_->groups_[static_cast<size_t>(last)];
      TensorInfo tensor;
      tensor.name = names->strings[i];
      tensor.pack_group = static_cast<int32_t>(last);
      tensor.offset = group.offset;
      const Status status = SetShape(types[i], dims.subspan(i * kMaxDims, kMaxDims), &tensor);
      if (!status.ok()) return status.WithContext(fmt::format("tensor '{}'", Printable(tensor.name, kShownChars)));
      group_bytes += tensor.n_bytes;
      if (group_bytes > group.n_blocks * group.block_bytes) {
        return CorruptionError("tensor '{}' is larger than the blocks that hold it; {}",
                               Printable(tensor.name, kShownChars), kMend);
      }
      PANTRY_RETURN_IF_ERROR(Charge(3, tensor.name.size() + 1));
      group.tensors.push_back(tensor.name);
      packed->push_back(std::move(tensor));
    }
    if (last + 1 == static_cast<int64_t>(table_->groups_.size())) return OkStatus();
    return CorruptionError("group {} has no tensor; {}", last + 1, kMend);
  }

  static Status WrongGroup(std::string_view tensor, int64_t group) {
    return CorruptionError("tensor '{}' cannot be of group {}: groups are in order and none is left out; {}",
                           Printable(tensor, kShownChars), group, kMend);
  }

  static Status SetShape(int64_t type, std::span<const int64_t> dims, TensorInfo* tensor) {
    if (tensor->name.empty() || tensor->name.size() > kMaxNameBytes) {
      return CorruptionError("a name of {} bytes, expected 1 to {}; {}", tensor->name.size(), kMaxNameBytes, kMend);
    }
    const TensorTypeTraits* const traits =
        type < 0 || type > int64_t{UINT32_MAX} ? nullptr : FindTensorType(static_cast<uint32_t>(type));
    if (traits == nullptr) return UnsupportedError("unknown number format {}: pack the model again", type);
    tensor->type = traits->type;
    uint64_t n_elements = 1;
    for (const int64_t dim : dims) {
      if (dim == 0 && !tensor->dims.empty()) break;  // those behind must be 0, too
      if (dim < 1 || static_cast<uint64_t>(dim) > (uint64_t{1} << 56) / n_elements) {
        return CorruptionError("dimension {} is {}; {}", tensor->dims.size(), dim, kMend);
      }
      n_elements *= static_cast<uint64_t>(dim);
      tensor->dims.push_back(dim);
    }
    const auto behind = dims.subspan(tensor->dims.size());
    if (std::any_of(behind.begin(), behind.end(), [](int64_t dim) { return dim != 0; })) {
      return CorruptionError("a dimension follows one that is 0; {}", kMend);
    }
    if (tensor->dims[0] % traits->block_elements != 0) {
      return CorruptionError("rows of {} weights, expected a multiple of {}, the block of {}; {}", tensor->dims[0],
                             traits->block_elements, traits->name, kMend);
    }
    tensor->n_bytes = static_cast<uint64_t>(RowBytes(tensor->type, tensor->dims[0]) * tensor->n_rows());
    return OkStatus();
  }

  Status ReadChecksums() {
    static_assert(std::endian::native == std::endian::little, "checksums of other byte orders need swapping");
    if (static_cast<uint64_t>(checksums_->dims[0]) != n_pieces_) {
      return CorruptionError("tensor '{}' has {} elements, the blocks have {} pieces; {}", pack_keys::kChecksumsTensor,
                             checksums_->dims[0], n_pieces_, kMend);
    }
    PANTRY_RETURN_IF_ERROR(Charge(n_pieces_, sizeof(uint64_t)));
    table_->checksums_.resize(n_pieces_);
    return reader_.ReadAt(checksums_->offset,
                          {reinterpret_cast<uint8_t*>(table_->checksums_.data()), n_pieces_ * sizeof(uint64_t)});
  }

  const Reader& reader_;
  const Metadata& metadata_;
  uint64_t* const memory_left_;
  bool has_orders_ = false;
  std::unique_ptr<PackTable> table_;
  const TensorInfo* checksums_ = nullptr;
  const TensorInfo* blocks_ = nullptr;
  uint64_t n_pieces_ = 0;
};

Result<std::unique_ptr<PackTable>> PackTable::Read(const Reader& reader, const Metadata& metadata,
                                                   std::span<const TensorInfo> tensors, uint64_t* memory_left,
                                                   std::vector<TensorInfo>* packed) {
  return PackTableParser(reader, metadata, memory_left).Parse(tensors, packed);
}

const PackGroup& PackTable::GroupOf(BlockId block) const {
  PANTRY_CHECK(block.value() < n_blocks_);
  const auto behind =
      std::upper_bound(groups_.begin(), groups_.end(), block.value(),
                       [](uint32_t number, const PackGroup& group) { return number < group.first_block; });
  return *(behind - 1);
}

uint64_t PackTable::BlockOffset(BlockId block) const {
  const PackGroup& group = GroupOf(block);
  return group.offset + (block.value() - group.first_block) * group.stride();
}

int PackTable::n_pieces(BlockId block) const {
  return static_cast<int>(PiecesOf(GroupOf(block).block_bytes, piece_bytes_));
}

uint64_t PackTable::PieceOffset(BlockId block, int piece) const {
  return BlockOffset(block) + static_cast<uint64_t>(piece) * piece_bytes_;
}

size_t PackTable::PieceBytes(BlockId block, int piece) const {
  return std::min<uint64_t>(piece_bytes_, GroupOf(block).block_bytes - static_cast<uint64_t>(piece) * piece_bytes_);
}

size_t PackTable::PieceIndex(BlockId block, int piece) const {
  const PackGroup& group = GroupOf(block);
  const uint64_t n_each = PiecesOf(group.block_bytes, piece_bytes_);
  PANTRY_CHECK(piece >= 0 && static_cast<uint64_t>(piece) < n_each);
  return group.first_piece + (block.value() - group.first_block) * n_each + static_cast<uint64_t>(piece);
}

uint64_t PackTable::Checksum(BlockId block, int piece) const { return checksums_[PieceIndex(block, piece)]; }

bool PackTable::PieceIsIntact(BlockId block, int piece, std::span<const uint8_t> bytes) const {
  PANTRY_CHECK(bytes.size() == PieceBytes(block, piece));
  return PackChecksum(bytes) == Checksum(block, piece);
}

Status PackTable::Damaged(BlockId block, int piece) const {
  const PackGroup& group = GroupOf(block);
  return CorruptionError("{}: {}: the {} bytes at offset {} do not have their checksum; {}", path_,
                         PackBlockName(group, block.value() - group.first_block), PieceBytes(block, piece),
                         PieceOffset(block, piece), kMend);
}

}  // namespace pantry
