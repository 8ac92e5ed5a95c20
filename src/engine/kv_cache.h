// SPDX-License-Identifier: Apache-2.0
// A KvCache owns the keys and values of one timeline, all layers in one piece of memory.
//
// Layout: [tile of 256 positions][layer][KV head][keys, values], those laid out as attention.h says. A layer's part of a tile is one run of
// memory, which attention walks from its beginning to its end, and the cache is filled from the front. So memory is committed as the context
// grows, and all but the first tile, where short conversations stay, can lie in huge pages.
// Layers with a sliding window have full capacity too: a window could be a ring, but a ring forbids cutting back behind it.
// Threads: thread-compatible.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "compute/kernels/attention/attention.h"
#include "sys/aligned_buffer.h"
#include "weights/model_shape.h"

namespace pantry {

class KvCache {
 public:
  // kUnsupported when a head does not fill whole blocks of the type; kOutOfBudget.
  static Result<KvCache> Allocate(const ModelShape& shape, KvType k_type, KvType v_type, int64_t n_positions);
  // kUnsupported as Allocate(), before anything is allocated.
  static Status CheckType(const ModelShape& shape, KvType type);

  std::span<const KvLayerView> layers() const { return layers_; }  // [n_layers]
  int64_t n_bytes() const { return static_cast<int64_t>(memory_.size()); }
  // Of it, what the first n_positions commit: of the first tile the pages of each head's packs, of others all.
  int64_t BytesFor(int64_t n_positions) const;

  // Whether it holds the same numbers of heads in the same formats.
  bool IsLike(const KvCache& other) const;
  // Takes over positions [begin, end), and those that share a pack with `begin`. REQUIRES: IsLike(from), and both hold so many.
  void CopyFrom(const KvCache& from, int64_t begin, int64_t end);

 private:
  AlignedBuffer memory_;
  std::vector<KvLayerView> layers_;
};

}  // namespace pantry
