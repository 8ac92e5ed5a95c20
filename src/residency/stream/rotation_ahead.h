// SPDX-License-Identifier: Apache-2.0
// A RotationAhead reads blocks that are wanted in a fixed order, token after token, ahead of their use.
//
// The order is that of their numbers, and after the last comes the first again, so what is wanted next is known for certain. Without it a
// disk runs dry while the blocks that are there are computed. What lies there unused is missing in the cache, so it goes a bounded way only.
// Threads: as the stream.
// Invariant: what was read ahead and not wanted yet takes at most the bound and one block.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/block_id.h"
#include "residency/cache/block_cache.h"
#include "residency/stream/block_stream.h"

namespace pantry {

class RotationAhead {
 public:
  // The bound: twice the bytes that are under way at once (twice as much again was 3 % slower), but a small cache keeps all but a quarter of
  // itself for what it holds.
  static constexpr int64_t kMostBytes = int64_t{64} << 20;
  static constexpr int64_t kShareOfCache = 4;

  // Both must outlive this; the cache has its budget.
  RotationAhead(const BlockCache& cache, BlockStream& stream);

  // The cache has got another budget.
  void BudgetChanged();
  // The event at hand wants `blocks`, in their order. To be called before the stream's Begin(). REQUIRES: not empty.
  void Wanted(std::span<const BlockId> blocks);
  // Asks for what comes behind them, as far as it may, once all that is wanted has room. To be called whenever the disk may take more.
  void Read();
  // The cache is empty.
  void Forget();

 private:
  const BlockCache& cache_;
  BlockStream& stream_;
  int64_t most_bytes_ = 0;
  int64_t ahead_bytes_ = 0;        // that lie there, or come, and were not wanted yet
  std::vector<uint8_t> is_ahead_;  // by block: part of that
  BlockId first_wanted_, last_wanted_;
  uint32_t next_ = 1;  // to look at, counted from the last that is wanted
};

}  // namespace pantry
