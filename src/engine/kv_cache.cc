// SPDX-License-Identifier: Apache-2.0
#include "engine/kv_cache.h"

#include <utility>

namespace pantry {
namespace {

constexpr int64_t kAlignment = 64;  // a cache line, and the widest vector

int64_t AlignUp(int64_t n_bytes) { return (n_bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Status KvCache::CheckType(const ModelShape& shape, KvType type) {
  constexpr int32_t kQ8Block = 32;
  if (type != KvType::kQ8_0 || shape.head_dim % kQ8Block == 0) return OkStatus();
  return UnsupportedError(
      "KV cache in q8_0: needs heads of a multiple of {} numbers, this model's have {}; use --cache-type-k f16 "
      "--cache-type-v f16",
      kQ8Block, shape.head_dim);
}

Result<KvCache> KvCache::Allocate(const ModelShape& shape, KvType k_type, KvType v_type, int64_t n_positions) {
  PANTRY_RETURN_IF_ERROR(CheckType(shape, k_type));
  PANTRY_RETURN_IF_ERROR(CheckType(shape, v_type));
  const int64_t k_bytes = AlignUp(shape.n_kv_heads * KvHeadBytes(k_type, shape.head_dim, n_positions));
  const int64_t v_bytes = AlignUp(shape.n_kv_heads * KvHeadBytes(v_type, shape.head_dim, n_positions));

  KvCache cache;
  // Each (layer, K or V, head) fills its own run from the start: with huge pages the first token would commit most of the cache.
  PANTRY_ASSIGN_OR_RETURN(cache.memory_,
                          AlignedBuffer::Allocate(static_cast<size_t>(shape.n_layers * (k_bytes + v_bytes)),
                                                  AlignedBuffer::HugePages::kNever));
  cache.layers_.resize(static_cast<size_t>(shape.n_layers));
  uint8_t* next = cache.memory_.data();
  for (KvLayerView& layer : cache.layers_) {
    layer.k_type = k_type;
    layer.v_type = v_type;
    layer.k = std::exchange(next, next + k_bytes);
    layer.v = std::exchange(next, next + v_bytes);
    layer.n_positions = n_positions;
    layer.n_kv_heads = shape.n_kv_heads;
    layer.head_dim = shape.head_dim;
  }
  return cache;
}

}  // namespace pantry
