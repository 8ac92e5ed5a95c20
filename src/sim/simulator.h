// SPDX-License-Identifier: Apache-2.0
// Simulate() runs a model's tokens on a simulated device: the REAL cache, stream, reader, planner and expert policies, with a virtual clock.
//
//   trace -> Begin, Expect, Next, compute, Release of residency/stream -> BlockReader -> FlashQueue (flash_queue.h)
//                                        \-> ThreadPool of one -> SimulatedPlacer -> Machine (machine.h), which every microsecond passes
//
// What it does in a step is what engine/weight_stream.cc and the forward pass do, in their order. No weights are read or touched: slots and
// staging are address space that nobody writes to. The same inputs give the same report, to the bit.
// The cache's memory is committed before the first run, for as long as the engine takes (residency/cache/commit_memory.h), which no run pays.
// An expert policy chooses anew what a recorded token runs, by what the simulated cache holds (sim_router.h); exact is what was recorded.
// What is not in it either: drawing a token, another process on the machine, page faults but those of DeviceProfile::fresh_bytes_per_s.
// Threads: any; each call is on its own.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/status.h"
#include "io/block_read.h"
#include "policy/routing/cache_aware_router.h"
#include "residency/cache/block_cache.h"
#include "residency/stream/block_stream.h"
#include "residency/stream/stream_observer.h"
#include "sim/device_profile.h"
#include "sim/machine.h"
#include "sim/routing_trace.h"
#include "sim/sim_model.h"

namespace pantry {

// What overlaps in a streamed layer.
enum class Overlap : uint8_t {
  kNothing,  // all blocks of an event are brought before the first is computed: to show what the pipeline is worth
  kAll,      // those that are there are computed while others are read
};

struct SimOptions {
  int64_t cache_bytes = 0;    // for blocks; 0: all of them are in memory, and nothing is streamed
  PolicyOptions policy;       // of experts; matrices have rotation
  bool knows_future = false;  // Belady's MIN in its place: the bound for exact routing. Guesses are made as ever
  ExpertPolicyOptions expert_policy;  // of what is streamed; exact: what the trace says
  // What the cache may hold more in a run of n_tokens, after which there are n_positions: what others do not need then, as
  // engine/weight_stream.h's Lend(). Unset: nothing.
  std::function<int64_t(int64_t n_positions, int64_t n_tokens)> idle_bytes;
  int64_t most_idle_bytes = 0;  // that it gives
  int32_t n_cores = 0;          // that compute; 0: the device's
  int64_t n_tokens = 64;        // of a model in rotation, whose trace is made here
  int64_t first_position = 0;
  int64_t skip_steps = 0;  // of the trace, before counting begins: the cache fills
  Overlap overlap = Overlap::kAll;
  // Guesses of the next layer's blocks while a layer is computed: the share of those that it will want which is named. Published for the
  // next layer's router on the present residual stream: 0.77 to 0.87 (models/expert_step.cc).
  double guess_recall = 0.8;  // 0: nobody guesses
  double guess_likelihood = 0.7;
  uint64_t seed = 1;  // of the guesses' errors
  BlockReaderOptions reads;
  int flash_depth = 0;  // 0: the device's

  Status Validate() const;
};

// A token, or several that were computed together.
struct SimRun {
  int64_t first_position = 0;
  int64_t n_tokens = 1;
  double us = 0;
};

struct SimReport {
  int64_t n_runs = 0;     // that count: after skip_steps
  int64_t n_tokens = 0;   // of these
  int64_t n_decoded = 0;  // tokens that were computed alone
  double wall_us = 0;
  double decode_us = 0;                        // of the tokens that were computed alone
  std::array<double, kTimeUses> time_us = {};  // add up to wall_us
  CacheStats cache;
  BlockStreamStats stream;
  BlockReaderStats reader;
  RoutingCounts routing;  // of an expert policy
  double strength = 0;    // its, where it has one, at the end
  double flash_busy_us = 0;
  double memory_bytes = 0;  // that were read to compute
  std::vector<SimRun> runs;

  double tok_per_s() const { return decode_us > 0 ? 1e6 * static_cast<double>(n_decoded) / decode_us : 0; }
  double RunUs(
      double share) const;  // of the tokens that were computed alone, the time that `share` of them do not exceed
};

struct SimObservers {
  StreamObserver* stream = nullptr;
  std::function<void(const SimRun&, int64_t end_us)> run;
};

// `trace` is of the blocks of `model` (a model in rotation needs none). kOutOfBudget: the cache is too small; kInvalidArgument: model, device
// and options do not belong together, or the expert policy needs logits that the trace does not have.
Result<SimReport> Simulate(const SimModel& model, const RoutingTrace& trace, const DeviceProfile& device,
                           const SimOptions& options, const SimObservers& observers = {});

}  // namespace pantry
