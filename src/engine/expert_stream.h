// SPDX-License-Identifier: Apache-2.0
// An ExpertStream is where a model's experts come from when memory does not hold them all: a cache of blocks, a reader of the model's file,
// and the pipeline between them.
//
// Results are the same bit for bit as those of a resident run, whatever the cache holds: the same packed bytes meet the same kernels, and
// what an expert adds to a token does not depend on when it was computed.
// Threads: one run at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/logger.h"
#include "base/status.h"
#include "io/open_block_reader.h"
#include "models/expert_placer.h"
#include "models/expert_source.h"
#include "residency/cache/block_cache.h"
#include "residency/stream/block_stream.h"
#include "sys/thread_pool.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {

struct ExpertStreamOptions {
  int64_t cache_bytes = 0;
  int32_t first_layer = 0;  // of the model that has experts
  PolicyOptions policy;
  OpenBlockReaderOptions reader;
};

// What a stretch of a run cost, between two calls of stats().
struct ExpertStreamStats {
  CacheStats cache;
  BlockStreamStats stream;
  BlockReaderStats reader;
};

class ExpertStream final : public ExpertSource {
 public:
  // `file` and `clock` must outlive the stream. A `reader` given takes the place of options.reader. kOutOfBudget; the errors of
  // OpenBlockReader().
  static Result<std::unique_ptr<ExpertStream>> Open(const GgufFile& file, std::unique_ptr<ExpertPlacer> placer,
                                                    const ExpertStreamOptions& options, const Clock& clock, Logger& log,
                                                    std::unique_ptr<BlockReader> reader = nullptr);
  // What a stream takes besides its cache.
  static int64_t ReadingBytes(const ExpertPlacer& placer);
  // The least cache with which every layer can be computed.
  static int64_t LeastCacheBytes(const ExpertPlacer& placer);
  // Of all blocks in a cache's slots.
  static int64_t AllBlocksBytes(const ExpertPlacer& placer);

  // A run of `n_tokens` begins; what it computes, it computes with `pool`. `keep_going`, if given, is asked at each layer and must live until
  // the run has ended: where it says no, Provide() is kCancelled.
  void BeginRun(ThreadPool& pool, int64_t n_tokens, const std::function<bool()>* keep_going = nullptr);
  Status Provide(int32_t layer, std::span<ExpertTask> tasks, const ExpertSink& compute) override;
  void Expect(int32_t layer, std::span<const int32_t> experts, double likelihood) override;

  int64_t cache_bytes() const { return cache_->budget_bytes(); }
  const ExpertPlacer& placer() const { return *placer_; }
  std::string_view queue_name() const { return reader_->queue_name(); }
  ExpertStreamStats stats() const;  // since the stream was opened
  // The same of each layer that has experts, live; first_layer() is the first of them in the model.
  std::span<const CacheStats> layer_stats() const { return cache_->layer_stats(); }
  int32_t first_layer() const { return first_layer_; }

 private:
  ExpertStream() = default;

  std::unique_ptr<ExpertPlacer> placer_;
  int32_t first_layer_ = 0;
  std::unique_ptr<BlockReader> reader_;
  std::unique_ptr<BlockCache> cache_;
  std::unique_ptr<BlockStream> stream_;  // dies first
  ThreadPool* pool_ = nullptr;
  const std::function<bool()>* keep_going_ = nullptr;
  std::vector<BlockId> wanted_;   // of the layer at hand
  std::vector<BlockId> guesses_;  // of a later layer, to be read behind what the next event demands
  double guess_likelihood_ = 0;
  std::vector<int32_t> task_of_;  // by expert: index into the tasks of the layer at hand
};

}  // namespace pantry
