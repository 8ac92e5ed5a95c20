// SPDX-License-Identifier: Apache-2.0
// Replay() runs a routing trace through the real BlockCache, without reading a byte; Belady is the policy that knows the future.
//
// An event is atomic, as in the engine: all its blocks are judged before any is admitted, all are pinned until it ends. (Replayed block by
// block, LRU looks better than it is and policies change places.) Where the budget cannot hold an event at once, those that came first
// count as computed and make room.
// Source: the rule of judging before the event is that of arXiv 2412.00099; the bound is L. A. Belady's MIN (IBM Systems Journal 5(2), 1966).
#pragma once

#include <functional>
#include <memory>

#include "base/status.h"
#include "residency/cache/block_cache.h"
#include "sim/routing_trace.h"

namespace pantry {

struct ReplayOptions {
  int64_t skip_steps = 0;  // not counted: the cache fills
  // Called after each admission and at the end of each event; for tests.
  std::function<void(const BlockCache&)> watch;
};

// The counts are the cache's own. kOutOfBudget when a block finds no room though nothing else is pinned.
Result<CacheStats> Replay(const RoutingTrace& trace, BlockCache& cache, const ReplayOptions& options = {});

// Evicts the block whose next use in `trace` is the furthest away: for blocks of one size no policy misses less. The cache must be shown
// exactly that trace from its beginning. `trace` must outlive it.
std::unique_ptr<EvictionPolicy> MakeBelady(const RoutingTrace& trace, size_t n_blocks);

}  // namespace pantry
