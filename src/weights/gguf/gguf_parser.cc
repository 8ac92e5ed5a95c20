// SPDX-License-Identifier: Apache-2.0
#include "weights/gguf/gguf_parser.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <string>
#include <unordered_set>
#include <utility>

#include "base/units.h"
#include "weights/gguf/gguf_cursor.h"

namespace pantry {
namespace {

constexpr uint64_t kMaxKeyBytes = 65535;  // the specification's limit
constexpr uint64_t kMaxNameBytes = 1024;  // tensor names; ggml itself stops at 64
constexpr uint32_t kMaxDims = 4;
constexpr uint64_t kMaxAlignment = 1 << 20;
constexpr int kMaxNesting = 4;                               // arrays of arrays; none is known in the wild
constexpr uint64_t kMinEntryBytes = 8 + 1 + 4 + 1;           // of a metadata entry
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // of a tensor's row in the table

// What things take in memory, to be charged before they are allocated. The vectors of entries and tensors grow by doubling and
// are moved once: 3 times their size at the worst moment.
constexpr uint64_t kIndexBytes = 96;  // node and bucket of a hash table from a name
constexpr uint64_t kEntryBytes = 3 * sizeof(Metadata::Entry) + kIndexBytes;
constexpr uint64_t kTensorBytes = 3 * sizeof(TensorInfo) + 2 * kIndexBytes + 64;  // dims and PlaceTensors()'s order
constexpr uint64_t kNestedBytes = sizeof(MetadataValue) + sizeof(MetadataArray) + 16;

// Names of the formats that GGUF files may hold and this version cannot compute, for messages.
struct ForeignType {
  uint32_t number;
  const char* name;
};
constexpr ForeignType kForeignTypes[] = {
    {4, "Q4_2"},      {5, "Q4_3"},      {9, "Q8_1"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"},
    {18, "IQ3_XXS"},  {19, "IQ1_S"},    {21, "IQ3_S"}, {22, "IQ2_S"}, {29, "IQ1_M"},   {31, "Q4_0_4_4"},
    {32, "Q4_0_4_8"}, {33, "Q4_0_8_8"}, {34, "TQ1_0"}, {35, "TQ2_0"}, {40, "NVFP4"},
};

uint64_t ElementBytes(MetadataType type) {
  switch (type) {
    case MetadataType::kU8:
    case MetadataType::kI8:
    case MetadataType::kBool: return 1;
    case MetadataType::kU16:
    case MetadataType::kI16: return 2;
    case MetadataType::kU32:
    case MetadataType::kI32:
    case MetadataType::kF32: return 4;
    case MetadataType::kU64:
    case MetadataType::kI64:
    case MetadataType::kF64: return 8;
    case MetadataType::kString: return 8;  // at least
    case MetadataType::kArray: return 12;  // at least
  }
  return 0;
}

class GgufParser {
 public:
  GgufParser(const Reader& reader, uint64_t* memory_left) : reader_(reader), cursor_(reader, memory_left) {}

  Result<GgufHeader> Parse() {
    uint64_t n_tensors = 0;
    uint64_t n_entries = 0;
    PANTRY_RETURN_IF_ERROR(ReadFixedPart(&n_tensors, &n_entries));
    for (uint64_t i = 0; i < n_entries; ++i) {
      cursor_.BeginItem(fmt::format("metadata entry {} of {}", i + 1, n_entries));
      PANTRY_RETURN_IF_ERROR(ReadEntry());
    }
    PANTRY_RETURN_IF_ERROR(ReadAlignment());
    header_.tensors.reserve(n_tensors);
    for (uint64_t i = 0; i < n_tensors; ++i) {
      cursor_.BeginItem(fmt::format("tensor {} of {}", i + 1, n_tensors));
      PANTRY_RETURN_IF_ERROR(ReadTensorInfo());
    }
    PANTRY_RETURN_IF_ERROR(PlaceTensors());
    return std::move(header_);
  }

 private:
  Status ReadFixedPart(uint64_t* n_tensors, uint64_t* n_entries) {
    uint8_t magic[4];
    if (cursor_.remaining() < sizeof(magic)) return NotGgufError(reader_);
    PANTRY_RETURN_IF_ERROR(cursor_.ReadBytes(magic));
    if (std::memcmp(magic, "GGUF", 4) != 0) return NotGgufError(reader_);
    PANTRY_RETURN_IF_ERROR(cursor_.Read(&header_.version));
    if (header_.version != 0 && (header_.version & 0xFFFFu) == 0) {
      return cursor_.Unsupported(
          "the file is big-endian, made for another kind of machine; download or convert the little-endian file");
    }
    if (header_.version == 1) {
      return cursor_.Unsupported("GGUF version 1, from 2023; expected 2 or 3: download or convert the model again");
    }
    if (header_.version != 2 && header_.version != 3) {
      return cursor_.Unsupported(fmt::format(
          "GGUF version {}, expected 2 or 3; the file is damaged or newer than this program", header_.version));
    }
    PANTRY_RETURN_IF_ERROR(cursor_.Read(n_tensors));
    PANTRY_RETURN_IF_ERROR(cursor_.Read(n_entries));
    PANTRY_RETURN_IF_ERROR(cursor_.CheckCount(*n_entries, kMinEntryBytes, "metadata entries"));
    PANTRY_RETURN_IF_ERROR(cursor_.CheckCount(*n_tensors, kMinTensorBytes, "tensors"));
    PANTRY_RETURN_IF_ERROR(cursor_.Charge(*n_entries, kEntryBytes, "metadata entries"));
    return cursor_.Charge(*n_tensors, kTensorBytes, "tensors");
  }

  Status ReadEntry() {
    std::string key;
    PANTRY_RETURN_IF_ERROR(cursor_.ReadString(kMaxKeyBytes, &key));
    if (key.empty()) return cursor_.Corrupt("the key is empty");
    PANTRY_RETURN_IF_ERROR(cursor_.Charge(1, key.size(), "key"));  // the index has its own copy
    cursor_.BeginItem(fmt::format("metadata key '{}'", Printable(key, 100)));
    MetadataValue value;
    PANTRY_RETURN_IF_ERROR(ReadType(&value.type));
    PANTRY_RETURN_IF_ERROR(ReadValue(0, &value));
    if (!header_.metadata.Add(std::move(key), std::move(value))) return cursor_.Corrupt("the key occurs twice");
    return OkStatus();
  }

  Status ReadType(MetadataType* type) {
    uint32_t number = 0;
    PANTRY_RETURN_IF_ERROR(cursor_.Read(&number));
    if (number > static_cast<uint32_t>(MetadataType::kF64)) {
      return cursor_.Corrupt(
          fmt::format("value type {}, expected 0 to {}", number, static_cast<uint32_t>(MetadataType::kF64)));
    }
    *type = static_cast<MetadataType>(number);
    return OkStatus();
  }

  // Reads a T from the file and stores it as a Wide.
  template <typename T, typename Wide>
  Status ReadInto(MetadataValue* value) {
    T raw;
    PANTRY_RETURN_IF_ERROR(cursor_.Read(&raw));
    value->value = static_cast<Wide>(raw);  // NOLINT(bugprone-signed-char-misuse): a signed byte keeps its sign
    return OkStatus();
  }
  template <typename T, typename Wide>
  Status ReadElements(uint64_t count, std::vector<Wide>* out) {
    PANTRY_RETURN_IF_ERROR(cursor_.Charge(count, sizeof(Wide), "array elements"));
    out->reserve(count);
    T raw[4096 / sizeof(T)];
    while (count > 0) {
      const uint64_t n = std::min<uint64_t>(count, std::size(raw));
      PANTRY_RETURN_IF_ERROR(cursor_.ReadBytes({reinterpret_cast<uint8_t*>(raw), n * sizeof(T)}));
      out->insert(out->end(), raw, raw + n);
      count -= n;
    }
    return OkStatus();
  }

  // Any byte but 0 is true; a C++ bool must not hold the others.
  Status ReadBools(uint64_t count, std::vector<int64_t>* out) {
    PANTRY_RETURN_IF_ERROR(ReadElements<uint8_t>(count, out));
    for (int64_t& value : *out) value = value != 0 ? 1 : 0;
    return OkStatus();
  }

  Status ReadValue(int nesting, MetadataValue* value) {
    switch (value->type) {
      case MetadataType::kU8: return ReadInto<uint8_t, uint64_t>(value);
      case MetadataType::kI8: return ReadInto<int8_t, int64_t>(value);
      case MetadataType::kU16: return ReadInto<uint16_t, uint64_t>(value);
      case MetadataType::kI16: return ReadInto<int16_t, int64_t>(value);
      case MetadataType::kU32: return ReadInto<uint32_t, uint64_t>(value);
      case MetadataType::kI32: return ReadInto<int32_t, int64_t>(value);
      case MetadataType::kF32: return ReadInto<float, double>(value);
      case MetadataType::kBool: return ReadInto<uint8_t, bool>(value);
      case MetadataType::kString: return cursor_.ReadString(kMaxHeaderBytes, &value->value.emplace<std::string>());
      case MetadataType::kArray:
        return ReadArray(nesting,
                         value->value.emplace<std::unique_ptr<MetadataArray>>(std::make_unique<MetadataArray>()).get());
      case MetadataType::kU64: return ReadInto<uint64_t, uint64_t>(value);
      case MetadataType::kI64: return ReadInto<int64_t, int64_t>(value);
      case MetadataType::kF64: return ReadInto<double, double>(value);
    }
    return cursor_.Corrupt("unknown value type");
  }

  Status ReadArray(int nesting, MetadataArray* array) {
    PANTRY_RETURN_IF_ERROR(ReadType(&array->element_type));
    uint64_t count = 0;
    PANTRY_RETURN_IF_ERROR(cursor_.Read(&count));
    PANTRY_RETURN_IF_ERROR(cursor_.CheckCount(count, ElementBytes(array->element_type), "array elements"));
    switch (array->element_type) {
      case MetadataType::kU8: return ReadElements<uint8_t>(count, &array->integers);
      case MetadataType::kI8: return ReadElements<int8_t>(count, &array->integers);
      case MetadataType::kU16: return ReadElements<uint16_t>(count, &array->integers);
      case MetadataType::kI16: return ReadElements<int16_t>(count, &array->integers);
      case MetadataType::kU32: return ReadElements<uint32_t>(count, &array->integers);
      case MetadataType::kI32: return ReadElements<int32_t>(count, &array->integers);
      case MetadataType::kBool: return ReadBools(count, &array->integers);
      case MetadataType::kU64: return ReadElements<uint64_t>(count, &array->integers);
      case MetadataType::kI64: return ReadElements<int64_t>(count, &array->integers);
      case MetadataType::kF32: return ReadElements<float>(count, &array->floats);
      case MetadataType::kF64: return ReadElements<double>(count, &array->floats);
      case MetadataType::kString:
        PANTRY_RETURN_IF_ERROR(cursor_.Charge(count, sizeof(std::string), "strings"));
        array->strings.reserve(count);
        for (uint64_t i = 0; i < count; ++i) {
          PANTRY_RETURN_IF_ERROR(cursor_.ReadString(kMaxHeaderBytes, &array->strings.emplace_back()));
        }
        return OkStatus();
      case MetadataType::kArray: return ReadNestedArrays(nesting + 1, count, array);
    }
    return cursor_.Corrupt("unknown element type");
  }

  Status ReadNestedArrays(int nesting, uint64_t count, MetadataArray* array) {
    if (nesting >= kMaxNesting) return cursor_.Corrupt(fmt::format("arrays nested more than {} deep", kMaxNesting));
    PANTRY_RETURN_IF_ERROR(cursor_.Charge(count, kNestedBytes, "arrays"));
    array->nested.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      MetadataValue& element = array->nested.emplace_back();
      element.type = MetadataType::kArray;
      PANTRY_RETURN_IF_ERROR(ReadValue(nesting, &element));
    }
    return OkStatus();
  }

  Status ReadAlignment() {
    cursor_.BeginItem("metadata key 'general.alignment'");
    Result<int64_t> alignment = header_.metadata.GetIntOr("general.alignment", 32);
    if (!alignment.ok()) return alignment.status().WithContext(reader_.path());
    if (*alignment < 1 || *alignment > static_cast<int64_t>(kMaxAlignment) ||
        !std::has_single_bit(static_cast<uint64_t>(*alignment))) {
      return CorruptionError(
          "{}: metadata key 'general.alignment' is {}, expected a power of two up to {}; the file is damaged: "
          "download or convert it again",
          reader_.path(), *alignment, kMaxAlignment);
    }
    alignment_ = static_cast<uint64_t>(*alignment);
    return OkStatus();
  }

  // Leaves the offset relative to the data, as the file has it.
  Status ReadTensorInfo() {
    TensorInfo tensor;
    PANTRY_RETURN_IF_ERROR(cursor_.ReadString(kMaxNameBytes, &tensor.name));
    if (tensor.name.empty()) return cursor_.Corrupt("the name is empty");
    PANTRY_RETURN_IF_ERROR(cursor_.Charge(2, tensor.name.size(), "copies of the name"));  // of both indices
    cursor_.BeginItem(fmt::format("tensor '{}'", Printable(tensor.name, 100)));
    if (!names_.insert(tensor.name).second) return cursor_.Corrupt("a second tensor of this name");
    PANTRY_RETURN_IF_ERROR(ReadDims(&tensor));
    uint32_t number = 0;
    PANTRY_RETURN_IF_ERROR(cursor_.Read(&number));
    PANTRY_RETURN_IF_ERROR(SetType(number, &tensor));
    PANTRY_RETURN_IF_ERROR(cursor_.Read(&tensor.offset));
    if (tensor.offset % alignment_ != 0) {
      return cursor_.Corrupt(
          fmt::format("data offset {}, expected a multiple of {} (general.alignment)", tensor.offset, alignment_));
    }
    header_.tensors.push_back(std::move(tensor));
    return OkStatus();
  }

  Status ReadDims(TensorInfo* tensor) {
    uint32_t n_dims = 0;
    PANTRY_RETURN_IF_ERROR(cursor_.Read(&n_dims));
    if (n_dims < 1 || n_dims > kMaxDims)
      return cursor_.Corrupt(fmt::format("{} dimensions, expected 1 to {}", n_dims, kMaxDims));
    uint64_t n_elements = 1;
    for (uint32_t i = 0; i < n_dims; ++i) {
      uint64_t dim = 0;
      PANTRY_RETURN_IF_ERROR(cursor_.Read(&dim));
      if (dim == 0) return cursor_.Corrupt(fmt::format("dimension {} is 0", i));
      // 2^56 elements of 8 bytes still fit in an int64_t.
      if (dim > (uint64_t{1} << 56) / n_elements)
        return cursor_.Corrupt(fmt::format("dimension {} is {}: too many elements", i, dim));
      n_elements *= dim;
      tensor->dims.push_back(static_cast<int64_t>(dim));
    }
    return OkStatus();
  }

  Status SetType(uint32_t number, TensorInfo* tensor) {
    const TensorTypeTraits* traits = FindTensorType(number);
    if (traits == nullptr) {
      for (const ForeignType& foreign : kForeignTypes) {
        if (foreign.number != number) continue;
        return cursor_.Unsupported(
            fmt::format("number format {} is not supported by this version; take a file quantized as "
                        "Q4_K_M, Q8_0 or another of the supported formats",
                        foreign.name));
      }
      return cursor_.Unsupported(
          fmt::format("unknown number format {}; the file is damaged or newer than this program", number));
    }
    if (tensor->dims[0] % traits->block_elements != 0) {
      return cursor_.Corrupt(fmt::format("rows of {} weights, expected a multiple of {}, the block of {}",
                                         tensor->dims[0], traits->block_elements, traits->name));
    }
    tensor->type = traits->type;
    tensor->n_bytes = static_cast<uint64_t>(RowBytes(traits->type, tensor->dims[0]) * tensor->n_rows());
    return OkStatus();
  }

  // Makes offsets absolute and checks that all data lie in the file, nothing twice: loading a file never takes more than its size.
  Status PlaceTensors() {
    const uint64_t data_offset = (cursor_.offset() + alignment_ - 1) / alignment_ * alignment_;
    const TensorInfo* last = nullptr;
    for (TensorInfo& tensor : header_.tensors) {
      if (tensor.offset > (uint64_t{1} << 62)) {
        return CorruptionError(
            "{}: tensor '{}': data offset {} is out of all bounds; the file is damaged: download or convert it again",
            reader_.path(), Printable(tensor.name, 100), tensor.offset);
      }
      tensor.offset += data_offset;
      if (last == nullptr || tensor.offset + tensor.n_bytes > last->offset + last->n_bytes) last = &tensor;
    }
    if (last != nullptr && last->offset + last->n_bytes > reader_.size()) return Truncated(*last);
    return CheckDisjoint();
  }

  Status Truncated(const TensorInfo& tensor) const {
    const uint64_t end = tensor.offset + tensor.n_bytes;
    std::string fix = "download it again";
    if (reader_.path().find("split-a") != std::string::npos || reader_.path().find("part1of") != std::string::npos) {
      fix = "its name says that it is one part of several: join the parts with 'cat' first";
    }
    return CorruptionError("{}: truncated file: tensor {} ends at {}, file has {} ({} bytes missing); {}",
                           reader_.path(), Printable(tensor.name, 100), FormatBytes(static_cast<int64_t>(end)),
                           FormatBytes(static_cast<int64_t>(reader_.size())), end - reader_.size(), fix);
  }

  Status CheckDisjoint() const {
    std::vector<const TensorInfo*> by_offset;
    by_offset.reserve(header_.tensors.size());
    for (const TensorInfo& tensor : header_.tensors) by_offset.push_back(&tensor);
    std::sort(by_offset.begin(), by_offset.end(),
              [](const TensorInfo* a, const TensorInfo* b) { return a->offset < b->offset; });
    for (size_t i = 1; i < by_offset.size(); ++i) {
      const TensorInfo& before = *by_offset[i - 1];
      if (before.offset + before.n_bytes <= by_offset[i]->offset) continue;
      return CorruptionError(
          "{}: tensor '{}' starts at offset {}, inside tensor '{}' ({} bytes from {}); the file is damaged: download "
          "or convert it again",
          reader_.path(), Printable(by_offset[i]->name, 100), by_offset[i]->offset, Printable(before.name, 100),
          before.n_bytes, before.offset);
    }
    return OkStatus();
  }

  const Reader& reader_;
  GgufCursor cursor_;
  GgufHeader header_;
  std::unordered_set<std::string> names_;
  uint64_t alignment_ = 32;
};

}  // namespace

Result<GgufHeader> ParseGguf(const Reader& reader, uint64_t* memory_left) {
  return GgufParser(reader, memory_left).Parse();
}

}  // namespace pantry
