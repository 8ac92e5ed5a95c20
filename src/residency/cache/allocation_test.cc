// SPDX-License-Identifier: Apache-2.0
// The cache takes no memory after it was made: counted by replacing operator new for this program.
#include <gtest/gtest.h>

#include <vector>

#include "base/rng.h"
#include "residency/cache/block_cache.h"
#include "support/count_allocations.h"

namespace pantry {
namespace {

class CacheAllocation : public ::testing::TestWithParam<PolicyKind> {};
INSTANTIATE_TEST_SUITE_P(Cache, CacheAllocation, ::testing::ValuesIn(kPolicyKinds),
                         [](const auto& param) { return std::string(PolicyName(param.param)); });

TEST_P(CacheAllocation, NoOperationAllocates) {
  std::vector<BlockInfo> blocks;
  for (int i = 0; i < 400; ++i) blocks.push_back({i / 100, i % 3 == 0 ? 5 * 4096 : 4096});
  BlockCacheOptions options;
  options.budget_bytes = 100 * 4096;
  options.max_budget_bytes = 120 * 4096;
  options.policy.kind = GetParam();
  auto cache = BlockCache::Create(blocks, options).value();
  const int64_t before = testing::n_allocations;
  ASSERT_GT(before, 0);
  Rng rng(3);
  BlockId wanted[4];
  BlockState was[4];
  for (int i = 0; i < 4000; ++i) {
    const int layer = i % 4;
    if (layer == 0) cache->BeginStep();
    for (uint32_t b = 0; b < 4; ++b) {
      wanted[b] = BlockId(static_cast<uint32_t>(layer) * 100 + b * 25 + static_cast<uint32_t>(rng.NextU64() % 25));
    }
    cache->Demand(layer, wanted, was);
    for (size_t b = 0; b < 4; ++b) {
      if (was[b] == BlockState::kAbsent && cache->Admit(wanted[b]).memory != nullptr) cache->Arrived(wanted[b]);
    }
    for (const BlockId block : wanted) {
      if (cache->pinned(block)) cache->Unpin(block);
    }
    const BlockId guess(static_cast<uint32_t>(rng.NextU64() % 400));
    if (cache->state(guess) == BlockState::kAbsent && cache->AdmitGuess(guess, 0.5).memory != nullptr) {
      i % 2 == 0 ? cache->Arrived(guess) : cache->Failed(guess);
    }
    cache->Warm(guess, 0.1);
    if (i % 100 == 0) cache->SetBudget((80 + i / 100 % 50) * 4096);
    if (i % 1000 == 999) cache->Forget();
    (void)cache->TotalStats();
  }
  EXPECT_EQ(testing::n_allocations - before, 0);
  EXPECT_GT(cache->TotalStats().n_evicted, 1000);
}

}  // namespace
}  // namespace pantry
