// SPDX-License-Identifier: Apache-2.0
// A CachePair is one budget over two caches: blocks of experts, and the neurons that these experts read one by one.
//
// How a budget is divided is the maker's business; the sum holds at any moment, since whoever shrinks goes first. Where blocks cannot shrink
// as far as they should (what is pinned or being read stays), neurons make room for them.
// Threads: as the caches. Borrows both.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "residency/cache/block_cache.h"
#include "residency/cache/budgeted_cache.h"
#include "residency/cache/neuron_cache.h"

namespace pantry {

class CachePair final : public BudgetedCache {
 public:
  // `of_blocks`: how much of a budget blocks get.
  CachePair(BlockCache& blocks, NeuronCache& neurons, std::function<int64_t(int64_t budget_bytes)> of_blocks)
      : blocks_(blocks), neurons_(neurons), of_blocks_(std::move(of_blocks)) {}

  int64_t SetBudget(int64_t budget_bytes) override {
    const int64_t for_blocks = of_blocks_(budget_bytes);
    if (for_blocks > blocks_.budget_bytes()) neurons_.SetBudget(budget_bytes - for_blocks);
    blocks_.SetBudget(for_blocks);
    neurons_.SetBudget(std::max<int64_t>(budget_bytes - blocks_.budget_bytes(), 0));
    return this->budget_bytes();
  }
  int64_t budget_bytes() const override { return blocks_.budget_bytes() + neurons_.budget_bytes(); }
  int64_t committed_bytes() const override { return blocks_.committed_bytes() + neurons_.committed_bytes(); }
  std::span<uint8_t> CommitMore() override {
    const std::span<uint8_t> of_blocks = blocks_.CommitMore();
    return of_blocks.empty() ? neurons_.CommitMore() : of_blocks;
  }
  std::span<const CacheStats> layer_stats() const override { return blocks_.layer_stats(); }  // of blocks

 private:
  BlockCache& blocks_;
  NeuronCache& neurons_;
  std::function<int64_t(int64_t)> of_blocks_;
};

}  // namespace pantry
