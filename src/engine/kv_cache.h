// SPDX-License-Identifier: Apache-2.0
// A KvCache owns the keys and values of one timeline, all layers in one piece of memory.
//
// Layout: layer after layer, K then V, each aligned to 64 bytes and laid out as attention.h says. A head's positions are written from the
// start on, and memory is committed by the system when it is first written: a large context costs what is used of it.
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

 private:
  AlignedBuffer memory_;
  std::vector<KvLayerView> layers_;
};

}  // namespace pantry
