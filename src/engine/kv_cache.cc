// SPDX-License-Identifier: Apache-2.0
#include "engine/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "base/units.h"

namespace pantry {
namespace {

constexpr int64_t kAlignment = 64;  // a cache line, and the widest vector

}  // namespace

Status KvCache::CheckType(const ModelShape& shape, KvType type) {
  const int64_t block = KvBlock(type);
  if (shape.head_dim % block == 0) return OkStatus();
  return UnsupportedError(
      "KV cache in {}: needs heads of a multiple of {} numbers, this model's have {}; use --cache-type-k f16 "
      "--cache-type-v f16",
      KvTypeName(type), block, shape.head_dim);
}

Result<KvCache> KvCache::Allocate(const ModelShape& shape, KvType k_type, KvType v_type, int64_t n_positions) {
  PANTRY_RETURN_IF_ERROR(CheckType(shape, k_type));
  PANTRY_RETURN_IF_ERROR(CheckType(shape, v_type));
  const int64_t k_bytes = AlignUp(KvHeadBytes(k_type, shape.head_dim, kAttentionTile), kAlignment);
  const int64_t v_bytes = AlignUp(KvHeadBytes(v_type, shape.head_dim, kAttentionTile), kAlignment);
  const int64_t head_stride = k_bytes + v_bytes;
  const int64_t layer_bytes = shape.n_kv_heads * head_stride;
  const int64_t tile_stride = shape.n_layers * layer_bytes;
  const int64_t n_tiles = (n_positions + kAttentionTile - 1) / kAttentionTile;

  KvCache cache;
  PANTRY_ASSIGN_OR_RETURN(cache.memory_, AlignedBuffer::Allocate(static_cast<size_t>(n_tiles * tile_stride),
                                                                 AlignedBuffer::HugePages::kNever));
  cache.memory_.WantHugePages(static_cast<size_t>(tile_stride));
  for (int32_t layer = 0; layer < shape.n_layers; ++layer) {
    uint8_t* const first = cache.memory_.data() + layer * layer_bytes;
    cache.layers_.push_back({.k_type = k_type,
                             .v_type = v_type,
                             .k = first,
                             .v = first + k_bytes,
                             .n_positions = n_positions,
                             .n_kv_heads = shape.n_kv_heads,
                             .head_dim = shape.head_dim,
                             .head_stride = head_stride,
                             .tile_stride = tile_stride});
  }
  return cache;
}

int64_t KvCache::BytesFor(int64_t n_positions) const {
  const KvLayerView& layer = layers_.front();
  if (n_positions > kAttentionTile || n_positions <= 0) {
    const int64_t n_tiles = (n_positions + kAttentionTile - 1) / kAttentionTile;
    return std::min(n_tiles * layer.tile_stride, n_bytes());
  }
  const auto page = static_cast<int64_t>(AlignedBuffer::PageBytes());
  // What begins within a page may lie in one more.
  const int64_t more = layer.head_stride % page == 0 && (layer.v - layer.k) % page == 0 ? 0 : page;
  const auto pages_of = [&](KvType type) {
    return AlignUp(KvHeadBytes(type, layer.head_dim, n_positions), page) + more;
  };
  const int64_t n_heads = std::ssize(layers_) * layer.n_kv_heads;
  return std::min(n_heads * (pages_of(layer.k_type) + pages_of(layer.v_type)), std::min(layer.tile_stride, n_bytes()));
}

bool KvCache::IsLike(const KvCache& other) const {
  const KvLayerView &a = layers_.front(), &b = other.layers_.front();
  return layers_.size() == other.layers_.size() && a.k_type == b.k_type && a.v_type == b.v_type &&
         a.n_kv_heads == b.n_kv_heads && a.head_dim == b.head_dim;
}

// Pack by pack, so that of a tile's memory only what holds positions is touched.
void KvCache::CopyFrom(const KvCache& from, int64_t begin, int64_t end) {
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    const KvLayerView &to = layers_[layer], &source = from.layers_[layer];
    const auto k_bytes = static_cast<size_t>(KvHeadBytes(to.k_type, to.head_dim, kKvPack));
    const auto v_bytes = static_cast<size_t>(KvHeadBytes(to.v_type, to.head_dim, kKvPack));
    for (int32_t head = 0; head < to.n_kv_heads; ++head) {
      for (int64_t position = begin / kKvPack * kKvPack; position < end; position += kKvPack) {
        std::memcpy(to.KPack(head, position), source.KPack(head, position), k_bytes);
        std::memcpy(to.VPack(head, position), source.VPack(head, position), v_bytes);
      }
    }
  }
}

}  // namespace pantry
