// SPDX-License-Identifier: Apache-2.0
// NeuronWeights are where a model's neurons come from when they lie one by one in a pack: the cache of those that fire most, a reader, and
// the pipeline between them.
//
// Results are the same bit for bit whatever the cache holds: a neuron is computed from its own bundle wherever that lies, in one order.
// Threads: one run at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/clock.h"
#include "base/status.h"
#include "io/block_reader.h"
#include "models/weight_placer.h"
#include "models/weight_source.h"
#include "residency/cache/neuron_cache.h"
#include "residency/stream/neuron_stream.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {

class NeuronWeights {
 public:
  // What they take besides the cache.
  static int64_t ReadingBytes(const WeightPlacer& placer);
  // Of all neurons in the cache.
  static int64_t AllBytes(const WeightPlacer& placer);

  // `file` is a pack, and the placer's neurons lie in it; both, `reader` and `clock` must outlive them. kOutOfBudget.
  static Result<std::unique_ptr<NeuronWeights>> Open(const GgufFile& file, const WeightPlacer& placer,
                                                     BlockReader& reader, int64_t cache_bytes, int64_t most_cache_bytes,
                                                     const Clock& clock);
  NeuronCache& cache() const { return *cache_; }
  NeuronStream& stream() const { return *stream_; }

 private:
  NeuronWeights() = default;
  NeuronTable table_;
  std::unique_ptr<NeuronCache> cache_;
  std::unique_ptr<NeuronStream> stream_;  // dies first
};

}  // namespace pantry
