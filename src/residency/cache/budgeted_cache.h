// SPDX-License-Identifier: Apache-2.0
// A BudgetedCache is what a run sees of a cache, whatever it holds: so many bytes, and what came of them.
//
// Threads: as the cache.
#pragma once

#include <cstdint>
#include <span>

#include "residency/cache/cache_stats.h"

namespace pantry {

class BudgetedCache {
 public:
  virtual ~BudgetedCache() = default;
  // Grows or shrinks, as far as the cache can. Returns the budget that holds from now on.
  virtual int64_t SetBudget(int64_t budget_bytes) = 0;
  virtual int64_t budget_bytes() const = 0;
  virtual int64_t committed_bytes() const = 0;  // of the budget: what has memory
  // Memory that the cache has no use for yet, a slot or a few MiB, for the caller to commit (AlignedBuffer::Touch()) before anything else
  // happens: from now on it counts as committed. Empty: the budget is committed.
  virtual std::span<uint8_t> CommitMore() = 0;
  virtual std::span<const CacheStats> layer_stats() const = 0;  // by layer, live

  CacheStats TotalStats() const {  // O(layers)
    CacheStats total;
    for (const CacheStats& stats : layer_stats()) total += stats;
    return total;
  }
};

}  // namespace pantry
