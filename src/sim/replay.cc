// SPDX-License-Identifier: Apache-2.0
#include "sim/replay.h"

#include <algorithm>

namespace pantry {

Result<CacheStats> Replay(const RoutingTrace& trace, BlockCache& cache, const ReplayOptions& options) {
  std::vector<BlockState> before;
  std::vector<BlockId> pinned;
  int64_t n_steps = 0;
  const auto watch = [&] {
    if (options.watch) options.watch(cache);
  };
  const auto unpin_all = [&] {
    for (const BlockId block : pinned) cache.Unpin(block);
    pinned.clear();
  };
  for (size_t i = 0; i < trace.events.size(); ++i) {
    const RoutingTrace::Event& event = trace.events[i];
    const auto wanted = trace.blocks_of(i);
    if (event.begins_step) {
      if (n_steps++ == options.skip_steps) cache.ResetCounts();
      cache.BeginStep(event.n_tokens);
    }
    before.resize(std::max(before.size(), wanted.size()));
    cache.Demand(event.layer, wanted, before);
    for (size_t b = 0; b < wanted.size(); ++b) {
      if (before[b] != BlockState::kAbsent) pinned.push_back(wanted[b]);
    }
    for (size_t b = 0; b < wanted.size(); ++b) {
      if (before[b] != BlockState::kAbsent) continue;
      if (cache.Admit(wanted[b]).memory == nullptr) {
        unpin_all();
        if (cache.Admit(wanted[b]).memory == nullptr) {
          return OutOfBudgetError("replay: event {}: no room for block {} in {} bytes", i, wanted[b].value(),
                                  cache.budget_bytes());
        }
      }
      watch();
      cache.Arrived(wanted[b]);
      pinned.push_back(wanted[b]);
    }
    unpin_all();
    watch();
  }
  return cache.TotalStats();
}

}  // namespace pantry
