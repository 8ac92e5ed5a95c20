// SPDX-License-Identifier: Apache-2.0
#include "residency/cache/cache_pair.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <vector>

namespace pantry {
namespace {

constexpr int64_t kSlot = 64 << 10, kBundle = 512;
constexpr int32_t kBlocks = 8, kNeurons = 1000;
constexpr int64_t kMost = kBlocks * kSlot + kNeurons * kBundle;

struct Bench {
  explicit Bench(int64_t budget_bytes) {
    const std::vector<BlockInfo> table(kBlocks, BlockInfo{0, kSlot});
    BlockCacheOptions options;
    options.budget_bytes = OfBlocks(budget_bytes);
    options.max_budget_bytes = kMost;
    options.floor_bytes = 2 * kSlot;
    options.huge_pages = false;
    blocks = BlockCache::Create(table, options).value();
    neurons =
        NeuronCache::Create(
            {.n_layers = 1, .n_neurons = kNeurons, .slot_bytes = kBundle, .budget_bytes = 0, .max_budget_bytes = kMost})
            .value();
    pair = std::make_unique<CachePair>(*blocks, *neurons, OfBlocks);
    pair->SetBudget(budget_bytes);
  }
  static int64_t OfBlocks(int64_t budget_bytes) { return std::max(budget_bytes / 2 / kSlot, int64_t{2}) * kSlot; }

  std::unique_ptr<BlockCache> blocks;
  std::unique_ptr<NeuronCache> neurons;
  std::unique_ptr<CachePair> pair;
};

TEST(CachePair, ABudgetIsDividedAndTheSumHolds) {
  Bench bench(5 * kSlot);
  for (const int64_t budget : {5 * kSlot, 9 * kSlot, 3 * kSlot, 12 * kSlot, 4 * kSlot + 100}) {
    EXPECT_EQ(bench.pair->SetBudget(budget), budget);
    EXPECT_EQ(bench.blocks->budget_bytes(), Bench::OfBlocks(budget));
    EXPECT_EQ(bench.neurons->budget_bytes(), budget - Bench::OfBlocks(budget));
    EXPECT_EQ(bench.pair->budget_bytes(), budget);
  }
}

TEST(CachePair, WhatBlocksCannotGiveUpNeuronsDo) {
  Bench bench(12 * kSlot);
  bench.blocks->BeginStep();
  std::vector<BlockId> wanted;
  for (uint32_t i = 0; i < 5; ++i) wanted.emplace_back(i);
  std::array<BlockState, kBlocks> before;
  bench.blocks->Demand(0, wanted, before);
  for (const BlockId block : wanted) ASSERT_NE(bench.blocks->Admit(block).memory, nullptr);
  EXPECT_EQ(bench.pair->SetBudget(6 * kSlot), 6 * kSlot);  // of which three slots should be blocks
  EXPECT_EQ(bench.blocks->budget_bytes(), 5 * kSlot);
  EXPECT_EQ(bench.neurons->budget_bytes(), kSlot);
  for (const BlockId block : wanted) bench.blocks->Failed(block);
  EXPECT_EQ(bench.pair->SetBudget(6 * kSlot), 6 * kSlot);
  EXPECT_EQ(bench.blocks->budget_bytes(), 3 * kSlot);
}

TEST(CachePair, AllOfItIsCommittedAheadOnce) {
  Bench bench(8 * kSlot);
  int64_t n_bytes = 0;
  for (std::span<uint8_t> more = bench.pair->CommitMore(); !more.empty(); more = bench.pair->CommitMore()) {
    std::memset(more.data(), 1, more.size());
    n_bytes += static_cast<int64_t>(more.size());
  }
  EXPECT_EQ(n_bytes, 8 * kSlot);
  EXPECT_GE(bench.pair->committed_bytes(), 8 * kSlot);
}

}  // namespace
}  // namespace pantry
