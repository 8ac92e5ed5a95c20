// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/attention/attention.h"

#include <string>

namespace pantry {

#define PANTRY_ATTENTION_OPS(isa, table) extern const AttentionOps table;
#include "compute/kernels/attention/attention.inc"
#undef PANTRY_ATTENTION_OPS

const AttentionOps& AttentionOpsFor(Isa isa) {
  const AttentionOps* best = &kAttentionOpsScalar;
#define PANTRY_ATTENTION_OPS(level, table) \
  if (IsaIncludes(isa, Isa::level)) best = &table;
#include "compute/kernels/attention/attention.inc"
#undef PANTRY_ATTENTION_OPS
  return *best;
}

std::string_view KvTypeName(KvType type) {
  switch (type) {
    case KvType::kF32: return "f32";
    case KvType::kF16: return "f16";
    case KvType::kQ8_0: return "q8_0";
    case KvType::kQ4_0: return "q4_0";
  }
  return "unknown";
}

Result<KvType> ParseKvType(std::string_view name) {
  std::string names;
  for (const KvType type : kAllKvTypes) {
    if (name == KvTypeName(type)) return type;
    if (!names.empty()) names += ", ";
    names += KvTypeName(type);
  }
  return InvalidArgumentError("'{}' is no number format of the KV cache; choose one of: {}", name, names);
}

int64_t KvRowBytes(KvType type, int64_t head_dim) {
  switch (type) {
    case KvType::kF32: return head_dim * 4;
    case KvType::kF16: return head_dim * 2;
    case KvType::kQ8_0: return head_dim / 32 * 34;
    case KvType::kQ4_0: return head_dim / 32 * 18;
  }
  return 0;
}

int64_t KvBlock(KvType type) { return type == KvType::kQ8_0 || type == KvType::kQ4_0 ? 32 : 1; }

int64_t KvHeadBytes(KvType type, int64_t head_dim, int64_t n_positions) {
  return (n_positions + kKvPack - 1) / kKvPack * kKvPack * KvRowBytes(type, head_dim);
}

}  // namespace pantry
