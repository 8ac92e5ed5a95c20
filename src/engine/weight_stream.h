// SPDX-License-Identifier: Apache-2.0
// A WeightStream is where a model's weights come from when memory does not hold them all, its experts, the matrices of its layers or their
// neurons: a cache, a reader of the model's file, and the pipeline between them. Experts whose neurons are read alone have two of each: for
// what a token needs as a whole, their gates, and for neurons.
//
// Results are the same bit for bit as those of a resident run, whatever the cache holds: the same packed bytes meet the same kernels, and
// what an expert adds to a token, or a row of a matrix gives, does not depend on when it was computed.
// Threads: one run at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/logger.h"
#include "base/status.h"
#include "engine/embedding_rows.h"
#include "engine/memory_watch.h"
#include "engine/neuron_weights.h"
#include "io/file_changes.h"
#include "io/open_block_reader.h"
#include "models/model.h"
#include "models/weight_placer.h"
#include "models/weight_source.h"
#include "residency/cache/block_cache.h"
#include "residency/cache/cache_pair.h"
#include "residency/cache/commit_memory.h"
#include "residency/stream/block_stream.h"
#include "residency/stream/rotation_ahead.h"
#include "sys/thread_pool.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {

struct WeightStreamOptions {
  int64_t cache_bytes = 0;
  int64_t lendable_bytes = 0;           // the most that Lend() will give
  std::optional<PolicyOptions> policy;  // unset: cycle for experts, rotation for matrices
  bool lookahead =
      true;  // reads what a later layer will probably want, or for certain; off to measure what that brings
  OpenBlockReaderOptions reader;
  std::optional<FileChanges> changes;  // of the file since it was opened; unset: from now on
};

// How often a layer's experts were used, and the neurons of all of its networks fired, of 65535 tokens of some text.
struct LayerUse {
  std::span<const uint16_t> experts;  // [n_experts]; none: it is dense
  std::span<const uint16_t> neurons;  // [n_networks * n_neurons]
};

// What a stretch of a run cost, between two calls of stats().
struct WeightStreamStats {
  CacheStats cache;    // of blocks, or of neurons where there are no blocks
  CacheStats neurons;  // of those beside blocks: experts' that are read alone
  BlockStreamStats stream;
  BlockReaderStats reader;     // of blocks and neurons; busy: while either is read
  BlockReaderStats embedding;  // of rows of tokens

  int64_t bytes_read() const { return reader.bytes_read + embedding.bytes_read; }
};

class WeightStream final : public ExpertSource, public MatrixSource, public NeuronSource {
 public:
  // `file` and `clock` must outlive the stream. A reader given takes the place of options.reader, for blocks or what a dense model has
  // instead, for rows of tokens, and for neurons of experts.
  // kOutOfBudget; the errors of OpenBlockReader().
  static Result<std::unique_ptr<WeightStream>> Open(const GgufFile& file, std::unique_ptr<WeightPlacer> placer,
                                                    const WeightStreamOptions& options, const Clock& clock, Logger& log,
                                                    std::unique_ptr<BlockReader> reader = nullptr,
                                                    std::unique_ptr<BlockReader> row_reader = nullptr,
                                                    std::unique_ptr<BlockReader> neuron_reader = nullptr);
  // What a stream takes besides its cache.
  static int64_t ReadingBytes(const WeightPlacer& placer);
  // The least cache with which every layer can be computed.
  static int64_t LeastCacheBytes(const WeightPlacer& placer);
  // So many blocks fit into a cache, beside what it holds of neurons.
  static int64_t BlocksHeld(const WeightPlacer& placer, int64_t cache_bytes);
  // Of all blocks in a cache's slots.
  static int64_t AllBlocksBytes(const WeightPlacer& placer);

  // `watch` says from now on, at each layer, how much the cache may hold.
  void WatchMemory(std::unique_ptr<MemoryWatch> watch) { watch_ = std::move(watch); }
  // Takes memory for the cache before the first run, so that no run waits for it: as much as kMostCommitUs allow, and the watch. What is lent later
  // is taken in what is left of that time.
  void CommitMemory(ThreadPool& pool);
  // The cache may hold `n_bytes` more than it was made for, at most WeightStreamOptions::lendable_bytes, until this is called again: memory
  // that others do not need now. Less than before is given back at once. REQUIRES: no run at hand.
  void Lend(int64_t n_bytes);
  // The cache shrinks by so much, as far as it can, since whoever comes now was planned for and the system has too little left. What it never
  // committed frees nothing. REQUIRES: no run at hand.
  void GiveWay(int64_t n_bytes) {
    SetBudget(std::max<int64_t>(std::min(cache_bytes(), held().committed_bytes()) - n_bytes, 0));
  }
  // `observer` is told what the pipeline does, besides those that are already; null: nobody is.
  void Observe(StreamObserver* observer) { stream_ != nullptr ? stream_->Observe(observer) : void(); }

  // A run of `n_tokens` begins; what it computes, it computes with `pool`. `keep_going`, if given, is asked at each layer and must live until
  // the run has ended: where it says no, Provide() is kCancelled.
  void BeginRun(ThreadPool& pool, int64_t n_tokens, const std::function<bool()>* keep_going = nullptr);
  // It has ended, and what it gave may be used. kCorruption: the model's file was changed meanwhile by somebody else.
  Status EndRun() const { return changes_.Check(); }
  Status Provide(int32_t layer, std::span<ExpertTask> tasks, const ExpertSink& compute) override;
  Status Provide(std::span<const MatMulTask> tasks, const MatrixSink& compute) override;
  void Expect(int32_t layer, std::span<const int32_t> experts, double likelihood) override;
  Status BeginNeurons(int32_t layer, int64_t n_tokens) override;
  void Look(std::span<const int32_t> neurons, std::span<uint8_t> is_near) const override;
  void Want(int32_t network, std::span<const int32_t> neurons, std::span<const uint16_t> n_uses) override;
  Status Await(std::span<const uint8_t*> bundles) override;
  void Peek(size_t skip, std::span<const uint8_t*> bundles) const override;
  void FetchOn() override;
  void ReleaseNeurons() override;
  void EndNeurons() override;
  // Fills the caches, before the first run, with the experts that are used most and the neurons that fire most by layers[l] of the model's
  // layer l. `progress` hears of bytes; where it says no: kCancelled, and the caches keep what came. Errors of the reader of neurons;
  // kCorruption of them. REQUIRES: experts or neurons; no run at hand.
  Status WarmUp(ThreadPool& pool, std::span<const LayerUse> layers, const LoadProgress& progress);
  // Where a run finds the rows of its tokens; null: in the model's memory.
  EmbeddingSource* embedding() { return embedding_.get(); }

  // Which experts of the model's layer `layer` are in memory or on their way there; [n_experts], all set. REQUIRES: experts.
  void Look(int32_t layer, std::span<uint8_t> is_near) const;
  // Everything leaves memory, as if the stream had just been opened; what was counted stays. REQUIRES: no run at hand.
  void Forget();

  int64_t cache_bytes() const { return held().budget_bytes(); }
  int64_t committed_bytes() const { return held().committed_bytes(); }  // of these: what has memory
  const WeightPlacer& placer() const { return *placer_; }
  std::string_view queue_name() const { return reader_->queue_name(); }
  WeightStreamStats stats() const;                            // since the stream was opened
  int64_t wait_us() const { return stream_stats().wait_us; }  // of stats(), without the rest
  // The same of each layer that has blocks, of which neurons are none beside blocks, live; placer().first_layer() is the first of them in the model.
  std::span<const CacheStats> layer_stats() const { return held().layer_stats(); }

 private:
  WeightStream(FileChanges changes, const Clock& clock) : clock_(clock), changes_(std::move(changes)) {}
  // What lies in memory, of neurons or blocks.
  BudgetedCache& held() const { return *held_; }
  BlockStreamStats stream_stats() const;
  Status OpenCaches(const GgufFile& file, const WeightStreamOptions& options);
  Status OpenBlocks(const WeightStreamOptions& options, int64_t cache_bytes);
  int64_t WantedBytes() const { return planned_bytes_ + lent_bytes_; }
  void SetBudget(int64_t n_bytes);
  void FitMemory();
  Status BeginLayer(int32_t layer);
  std::vector<BlockId> WarmBlocks(std::span<const LayerUse> layers);
  Status FillNeurons(int32_t layer, std::span<const int32_t> neurons);
  template <typename Compute>
  Status HandOut(const Compute& compute);

  const Clock& clock_;
  FileChanges changes_;
  std::unique_ptr<MemoryWatch> watch_;
  std::unique_ptr<WeightPlacer> placer_;
  BusyTime disk_busy_;  // by blocks or neurons
  std::unique_ptr<BlockReader> reader_;
  std::unique_ptr<BlockReader> neuron_reader_;  // null: reader_ is theirs
  std::unique_ptr<NeuronWeights> neurons_;      // where they lie one by one
  std::unique_ptr<BlockCache> cache_;           // null: there are neurons only
  std::unique_ptr<CachePair> pair_;             // of both, if there are both
  BudgetedCache* held_ = nullptr;
  std::unique_ptr<BlockStream> stream_;  // dies before these
  std::unique_ptr<EmbeddingRows> embedding_;
  std::optional<RotationAhead> ahead_;  // of matrices
  bool lookahead_ = true;
  int64_t planned_bytes_ = 0;  // of the cache
  int64_t lent_bytes_ = 0;
  bool is_lent_more_ = false;  // since memory was committed
  int64_t commit_us_left_ = kMostCommitUs;
  int64_t most_lent_bytes_ = 0;
  ThreadPool* pool_ = nullptr;
  const std::function<bool()>* keep_going_ = nullptr;
  int32_t layer_ = -1;            // that was begun last in this run
  std::vector<BlockId> wanted_;   // of the layer at hand
  std::vector<BlockId> guesses_;  // of a later layer, to be read behind what the next event demands
  double guess_likelihood_ = 0;
  std::vector<int32_t> task_of_;  // by index in the layer: the task that wants the block
};

}  // namespace pantry
