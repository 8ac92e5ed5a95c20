// SPDX-License-Identifier: Apache-2.0
// A SimStream is what engine/weight_stream.h is to the engine: cache, reader and pipeline, and the order in which they are asked. Here the
// reader's queue is a FlashQueue, and nothing is in the blocks.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/function_ref.h"
#include "base/rng.h"
#include "io/block_reader.h"
#include "residency/cache/block_cache.h"
#include "residency/stream/block_stream.h"
#include "residency/stream/rotation_ahead.h"
#include "sim/flash_queue.h"
#include "sim/machine.h"
#include "sim/simulated_placer.h"
#include "sim/simulator.h"
#include "sys/thread_pool.h"

namespace pantry {

// Of what is counted from a stream's beginning: after -= before.
void SubtractCounts(const SimReport& before, SimReport& after);

class SimStream {
 public:
  using Compute = FunctionRef<void(std::span<const BlockId>)>;

  // All of them must outlive the stream; `observer` may be null. kOutOfBudget; kInvalidArgument: the device has no flash.
  static Result<std::unique_ptr<SimStream>> Open(const SimModel& model, const RoutingTrace& trace,
                                                 const DeviceProfile& device, const SimOptions& options,
                                                 StreamObserver* observer, Machine& machine);

  // A run of n_tokens, after which there are n_positions.
  void BeginRun(int64_t n_positions, int64_t n_tokens);
  // The next event will want them, for certain.
  void Expect(std::span<const BlockId> blocks, double likelihood);
  // The event after the next one wants `blocks`: some of them, and others, are guessed when the next one begins.
  void Guess(std::span<const BlockId> blocks);
  // Calls compute() with blocks as they come, until all of `wanted` were in one call; and meanwhile() with shares that add up to 1, in turns.
  Status Provide(const SimStep& step, std::span<const BlockId> wanted, FunctionRef<void(double share)> meanwhile,
                 const Compute& compute);

  const BlockCache& cache() const { return *cache_; }
  int64_t wait_us() const { return stream_->stats().wait_us; }
  void Count(SimReport& report) const;  // since the stream was opened

 private:
  SimStream(const SimModel& model, const DeviceProfile& device, const SimOptions& options, Machine& machine)
      : model_(model), options_(options), placer_(model, device, machine), pool_(1), rng_(options.seed) {}
  void SetBudget(int64_t n_bytes);
  Status HandOut(size_t n_wanted, FunctionRef<void(double share)> meanwhile, const Compute& compute);
  Status HandOutTogether(const Compute& compute);
  // As engine/weight_stream.h's CommitMemory(): for so long, once over the stream's life.
  void CommitMemory();
  void NoteFreshMemory();

  const SimModel& model_;
  const SimOptions& options_;
  SimulatedPlacer placer_;
  ThreadPool pool_;  // of one: what is placed passes through the caller
  std::unique_ptr<Reader> file_;
  FlashQueue* queue_ = nullptr;  // the reader's
  std::unique_ptr<BlockReader> reader_;
  std::unique_ptr<BlockCache> cache_;
  std::unique_ptr<BlockStream> stream_;  // dies first
  std::optional<RotationAhead> ahead_;   // of a model in rotation
  Rng rng_;
  std::vector<BlockId> guesses_;
  std::vector<uint32_t> n_uses_;  // by block
  std::vector<BlockId> liked_;    // scratch
  std::vector<BlockId> ready_;    // scratch
  int64_t touched_bytes_ = 0;     // of the cache
  int64_t bytes_to_commit_ = 0;   // before runs begin, at most
};

}  // namespace pantry
