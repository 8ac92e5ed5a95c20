// SPDX-License-Identifier: Apache-2.0
#include "weights/pack/pack_head.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "weights/gguf/gguf_cursor.h"
#include "weights/gguf/gguf_head_writer.h"
#include "weights/pack/source_hash.h"

namespace pantry {
namespace {

constexpr size_t kDims = 4;
constexpr size_t kShownChars = 100;

// Which tensors become blocks, in the order of the groups.
struct Blocked {
  std::vector<const TensorInfo*> tensors;
  std::vector<uint32_t> groups;  // of each
  std::unordered_set<const TensorInfo*> set;
};

Result<Blocked> FindBlocked(const GgufFile& source, const PackPlan& plan) {
  if (source.pack() != nullptr) {
    return InvalidArgumentError(
        "'{}' is packed already, for {}; to pack it differently, take the GGUF file it was made of", source.path(),
        IsaName(source.pack()->layout()));
  }
  for (const char* const name : {pack_keys::kChecksumsTensor, pack_keys::kBlocksTensor}) {
    if (source.FindTensor(name) == nullptr) continue;
    return InvalidArgumentError("'{}' has a tensor '{}', which is a name that packs need", source.path(), name);
  }
  if (plan.groups.empty() || plan.placer == nullptr) {
    return InvalidArgumentError("'{}' has no weights that would become blocks", source.path());
  }
  Blocked blocked;
  uint64_t n_blocks = 0;
  for (size_t i = 0; i < plan.groups.size(); ++i) {
    const PackPlanGroup& group = plan.groups[i];
    uint64_t n_bytes = 0;
    for (const std::string& name : group.tensors) {
      const TensorInfo* const tensor = source.FindTensor(name);
      if (tensor == nullptr || !blocked.set.insert(tensor).second) {
        return InternalError("packing '{}': group {} has tensor '{}', which {}", source.path(), i,
                             Printable(name, kShownChars), tensor == nullptr ? "is not there" : "is in another, too");
      }
      blocked.tensors.push_back(tensor);
      blocked.groups.push_back(static_cast<uint32_t>(i));
      n_bytes += tensor->n_bytes;
    }
    n_blocks += group.n_blocks;
    if (group.tensors.empty() || group.n_blocks < 1 || n_blocks > INT32_MAX || group.block_bytes < 1 ||
        group.block_bytes > kMaxPackBlockBytes || n_bytes > group.n_blocks * group.block_bytes) {
      return InternalError("packing '{}': group {} of {} tensors with {} bytes cannot have {} blocks of {} bytes",
                           source.path(), i, group.tensors.size(), n_bytes, group.n_blocks, group.block_bytes);
    }
  }
  return blocked;
}

bool IsCopied(std::string_view key) {
  return key != "general.alignment" && !key.starts_with("split.") && !key.starts_with(pack_keys::kPrefix);
}

Status AddMetadata(const GgufFile& source, const PackPlan& plan, const Blocked& blocked, GgufHeadWriter& head) {
  for (const Metadata::Entry& entry : source.metadata().entries()) {
    if (IsCopied(entry.key)) head.Add(entry.key, entry.value);
  }
  std::vector<uint32_t> n_blocks, types, orders;
  std::vector<uint64_t> block_bytes, dims;
  std::vector<std::string> names;
  for (const PackPlanGroup& group : plan.groups) {
    n_blocks.push_back(group.n_blocks);
    block_bytes.push_back(group.block_bytes);
    orders.push_back(static_cast<uint32_t>(group.order));
  }
  const bool has_orders = std::any_of(plan.groups.begin(), plan.groups.end(),
                                      [](const PackPlanGroup& group) { return group.order != PackOrder::kTiles; });
  for (const TensorInfo* tensor : blocked.tensors) {
    names.push_back(tensor->name);
    types.push_back(static_cast<uint32_t>(tensor->type));
    for (size_t i = 0; i < kDims; ++i) {
      dims.push_back(i < tensor->dims.size() ? static_cast<uint64_t>(tensor->dims[i]) : 0);
    }
  }
  PANTRY_ASSIGN_OR_RETURN(const uint64_t source_hash, SourceHash(source));
  head.AddU32(pack_keys::kVersion, has_orders ? kOrderedPackVersion : kPackVersion);
  head.AddString(pack_keys::kLayout, IsaName(plan.layout));
  head.AddU32(pack_keys::kPieceBytes, kPackPieceBytes);
  head.AddU64(pack_keys::kSourceBytes, source.total_bytes());
  head.AddU64(pack_keys::kSourceHash, source_hash);
  head.AddU32s(pack_keys::kGroupBlocks, n_blocks);
  head.AddU64s(pack_keys::kGroupBlockBytes, block_bytes);
  if (has_orders) head.AddU32s(pack_keys::kGroupOrder, orders);
  head.AddU32s(pack_keys::kTensorGroup, blocked.groups);
  head.AddStrings(pack_keys::kTensorName, names);
  head.AddU32s(pack_keys::kTensorType, types);
  head.AddU64s(pack_keys::kTensorDims, dims);
  return OkStatus();
}

// Blocks and pieces of all groups; offsets count from the first block.
std::vector<PackGroup> PlaceGroups(const PackPlan& plan, uint64_t* n_bytes, uint64_t* n_pieces) {
  std::vector<PackGroup> groups;
  uint32_t n_blocks = 0;
  for (const PackPlanGroup& planned : plan.groups) {
    groups.push_back(
        {planned.tensors, n_blocks, planned.n_blocks, planned.block_bytes, *n_bytes, *n_pieces, planned.order});
    n_blocks += planned.n_blocks;
    *n_bytes += planned.n_blocks * groups.back().stride();
    *n_pieces += planned.n_blocks * ((planned.block_bytes + kPackPieceBytes - 1) / kPackPieceBytes);
  }
  return groups;
}

}  // namespace

Result<PackHead> MakePackHead(const GgufFile& source, const PackPlan& plan) {
  PANTRY_ASSIGN_OR_RETURN(const Blocked blocked, FindBlocked(source, plan));
  GgufHeadWriter writer(kPackAlignment);
  PANTRY_RETURN_IF_ERROR(AddMetadata(source, plan, blocked, writer));
  PackHead head;
  for (const TensorInfo& tensor : source.tensors()) {
    if (blocked.set.contains(&tensor)) continue;
    head.plain_tensors.push_back({&tensor, writer.AddTensor(tensor.name, tensor.type, tensor.dims, tensor.n_bytes)});
  }
  uint64_t n_block_bytes = 0;
  head.groups = PlaceGroups(plan, &n_block_bytes, &head.n_pieces);
  const auto n_pieces = static_cast<int64_t>(head.n_pieces);
  const auto n_data_bytes = static_cast<int64_t>(n_block_bytes);
  head.checksums_offset =
      writer.AddTensor(pack_keys::kChecksumsTensor, TensorType::kI64, {&n_pieces, 1}, head.n_pieces * sizeof(uint64_t));
  head.blocks_offset = writer.AddTensor(pack_keys::kBlocksTensor, TensorType::kI8, {&n_data_bytes, 1}, n_block_bytes);
  head.bytes = writer.Finish();
  const uint64_t begin = head.bytes.size();
  for (PackHead::PlainTensor& tensor : head.plain_tensors) tensor.offset += begin;
  head.checksums_offset += begin;
  head.blocks_offset += begin;
  for (PackGroup& group : head.groups) group.offset += head.blocks_offset;
  head.file_bytes = begin + writer.data_bytes();
  return head;
}

}  // namespace pantry
