// SPDX-License-Identifier: Apache-2.0
// A HeatPolicy evicts the block of least heat; a subclass says how time passes. LFU and LRFU are such.
#pragma once

#include <vector>

#include "residency/cache/block_heap.h"
#include "residency/cache/eviction_policy.h"
#include "residency/cache/heat.h"

namespace pantry {

class HeatPolicy : public EvictionPolicy {
 public:
  explicit HeatPolicy(size_t n_blocks)
      : heat_(n_blocks), entries_(n_blocks), positions_(n_blocks), heap_(entries_, positions_) {}

  void Demanded(int, std::span<const BlockId> blocks) override {
    for (const BlockId block : blocks) heat_.Add(block, 1);
  }
  void Expected(BlockId block, double n_uses) override { heat_.Add(block, n_uses); }
  void Insert(BlockId block) override { heap_.Push({heat_.heat(block), heat_.last_use(block), block.value()}); }
  void Erase(BlockId block) override { heap_.Erase(block); }
  BlockId Coldest() const override { return heap_.empty() ? kNoBlock : BlockId(heap_.coldest().id); }
  bool IsColder(BlockId victim, BlockId guess, double likelihood) const override {
    return heat_.heat(victim) < heat_.heat(guess) + likelihood * heat_.unit();
  }
  void Forget() override {
    PANTRY_CHECK(heap_.empty());
    heat_.Forget();
    Restart();
  }
  int64_t bookkeeping_bytes() const override {
    return heat_.bookkeeping_bytes() + static_cast<int64_t>(entries_.capacity() * sizeof(BlockHeap::Entry) +
                                                            positions_.capacity() * sizeof(uint32_t));
  }

 protected:
  void SetTime(double half_lives) {
    const double factor = heat_.SetTime(half_lives);
    if (factor != 1) heap_.Scale(factor);
  }
  virtual void Restart() = 0;  // time begins at 0 again

 private:
  HeatTable heat_;
  std::vector<BlockHeap::Entry> entries_;
  std::vector<uint32_t> positions_;
  BlockHeap heap_;
};

}  // namespace pantry
