// SPDX-License-Identifier: Apache-2.0
#include "residency/cache/block_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <vector>

#include "base/rng.h"
#include "base/units.h"
#include "residency/cache/reference_cache.h"
#include "sys/memory_info.h"

namespace pantry {
namespace {

constexpr int64_t kSlot = 4096;

std::vector<BlockInfo> Table(int n_layers, int n_of_layer, int64_t n_bytes = kSlot) {
  std::vector<BlockInfo> blocks;
  for (int layer = 0; layer < n_layers; ++layer)
    blocks.insert(blocks.end(), static_cast<size_t>(n_of_layer), {layer, n_bytes});
  return blocks;
}

BlockCacheOptions Options(int64_t budget_bytes, PolicyKind kind = PolicyKind::kLru) {
  BlockCacheOptions options;
  options.budget_bytes = budget_bytes;
  options.policy.kind = kind;
  options.huge_pages = false;
  return options;
}

std::unique_ptr<BlockCache> Make(const std::vector<BlockInfo>& blocks, const BlockCacheOptions& options) {
  auto cache = BlockCache::Create(blocks, options);
  EXPECT_TRUE(cache.ok()) << cache.status().ToString();
  return std::move(cache).value();
}

// One event from beginning to end; returns the number of hits.
int Visit(BlockCache& cache, int layer, const std::vector<uint32_t>& ids) {
  std::vector<BlockId> wanted;
  for (const uint32_t id : ids) wanted.emplace_back(id);
  std::vector<BlockState> before(ids.size());
  cache.Demand(layer, wanted, before);
  int n_hits = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (before[i] == BlockState::kResident) ++n_hits;
    if (before[i] == BlockState::kAbsent) {
      EXPECT_NE(cache.Admit(wanted[i]).memory, nullptr);
      cache.Arrived(wanted[i]);
    }
  }
  for (const BlockId block : wanted) cache.Unpin(block);
  return n_hits;
}

std::vector<uint32_t> Resident(const BlockCache& cache) {
  std::vector<uint32_t> ids;
  for (uint32_t i = 0; i < cache.n_blocks(); ++i) {
    if (cache.state(BlockId(i)) == BlockState::kResident) ids.push_back(i);
  }
  return ids;
}

class EveryPolicy : public ::testing::TestWithParam<PolicyKind> {};
INSTANTIATE_TEST_SUITE_P(Cache, EveryPolicy, ::testing::ValuesIn(kPolicyKinds),
                         [](const auto& param) { return std::string(PolicyName(param.param)); });

// Those that count uses; rotation knows the order only.
class EveryHeatPolicy : public ::testing::TestWithParam<PolicyKind> {};
INSTANTIATE_TEST_SUITE_P(Cache, EveryHeatPolicy,
                         ::testing::Values(PolicyKind::kLru, PolicyKind::kLfu, PolicyKind::kLrfu, PolicyKind::kCycle),
                         [](const auto& param) { return std::string(PolicyName(param.param)); });

TEST_P(EveryPolicy, BlocksKeepTheirBytesWhileResident) {
  const auto blocks = Table(3, 10, 5000);
  auto cache = Make(blocks, Options(8 * 8192, GetParam()));
  Rng rng(1);
  std::vector<BlockState> before(2);
  for (int step = 0; step < 300; ++step) {
    cache->BeginStep();
    for (int layer = 0; layer < 3; ++layer) {
      const auto first = static_cast<uint32_t>(layer * 10) + static_cast<uint32_t>(rng.NextU64() % 9);
      const BlockId wanted[] = {BlockId(first), BlockId(first + 1)};
      cache->Demand(layer, wanted, before);
      for (size_t i = 0; i < 2; ++i) {
        if (before[i] != BlockState::kAbsent) continue;
        uint8_t* const memory = cache->Admit(wanted[i]).memory;
        ASSERT_NE(memory, nullptr);
        ASSERT_EQ(reinterpret_cast<uintptr_t>(memory) % 4096, 0u);
        std::memset(memory, static_cast<int>(wanted[i].value()), 5000);
        cache->Arrived(wanted[i]);
      }
      for (const BlockId block : wanted) {
        const uint8_t* const memory = cache->memory(block);
        ASSERT_TRUE(std::all_of(memory, memory + 5000, [&](uint8_t byte) { return byte == block.value(); }));
        cache->Unpin(block);
      }
    }
  }
  EXPECT_GT(cache->TotalStats().n_evicted, 100);
}

// Random operations on the cache and on the slow one; all they show must agree after each.
TEST_P(EveryPolicy, AgreesWithTheSlowReference) {
  const double half_life = DefaultHalfLife(GetParam()) == 0 ? 0 : 3;
  CacheStats all;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    Rng rng(seed);
    const auto pick = [&](size_t n) { return static_cast<uint32_t>(rng.NextU64() % n); };
    const int n_layers = 1 + static_cast<int>(pick(4));
    const auto blocks = Table(n_layers, 8, 3000);
    BlockCacheOptions options = Options((6 + pick(10)) * kSlot, GetParam());
    options.max_budget_bytes = 32 * kSlot;
    options.floor_bytes = 2 * kSlot;
    options.policy.half_life_tokens = half_life;
    auto cache = Make(blocks, options);
    testing::ReferenceCache slow(blocks, options.budget_bytes, GetParam(), half_life);
    int layer = 0;
    std::vector<BlockState> before(8);
    for (int op = 0; op < 3000; ++op) {
      const BlockId block(pick(blocks.size()));
      const uint32_t id = block.value();
      switch (pick(12)) {
        case 0:
        case 1: {
          if (layer == 0) {
            const int64_t n_tokens = pick(20) == 0 ? 7 : 1;
            cache->BeginStep(n_tokens);
            slow.BeginStep(n_tokens);
          }
          std::vector<BlockId> wanted;
          for (uint32_t i = 0; i < 8; ++i) {
            if (pick(3) == 0) wanted.emplace_back(static_cast<uint32_t>(layer) * 8 + i);
          }
          cache->Demand(layer, wanted, before);
          slow.Demand(layer, wanted);
          layer = (layer + 1) % n_layers;
          break;
        }
        case 2:
        case 3:
          if (slow.Has(id)) break;
          ASSERT_EQ(cache->Admit(block).memory != nullptr, slow.Admit(id, false, false, 0)) << op;
          break;
        case 4: {
          if (slow.Has(id)) break;
          const double likelihood = 0.25 * pick(4);
          ASSERT_EQ(cache->AdmitGuess(block, likelihood).memory != nullptr, slow.Admit(id, true, false, likelihood))
              << op;
          break;
        }
        case 5:
          if (slow.Has(id)) break;
          ASSERT_EQ(cache->AdmitIfRoom(block).memory != nullptr, slow.Admit(id, false, true, 0)) << op;
          break;
        case 6:
          if (!slow.Has(id) || pick(4) != 0) break;
          cache->Pin(block);
          slow.Pin(id);
          break;
        case 7:
          if (pick(40) == 0) {
            const int64_t bytes = pick(33) * kSlot;
            slow.Shrink(std::max<int64_t>(bytes, 2 * kSlot));
            ASSERT_EQ(cache->SetBudget(bytes), slow.budget_bytes);
          } else if (slow.State(id) == BlockState::kResident && slow.Pins(id) == 0 && pick(4) == 0) {
            cache->Drop(block);
            slow.Remove(id);
          } else if (pick(4) == 0) {
            cache->Warm(block, 0.5);
            slow.Warm(id, 0.5);
          }
          break;
        default:  // reads end and pins go, oldest ids first
          for (uint32_t i = 0; i < blocks.size(); ++i) {
            if (slow.State(i) == BlockState::kReading && pick(2) == 0) {
              if (pick(8) == 0) {
                cache->Failed(BlockId(i));
                slow.Remove(i);
              } else {
                cache->Arrived(BlockId(i));
                slow.Arrived(i);
              }
            } else if (slow.Pins(i) > 0 && pick(2) == 0) {
              cache->Unpin(BlockId(i));
              slow.Unpin(i);
            }
          }
      }
      for (uint32_t i = 0; i < blocks.size(); ++i) {
        ASSERT_EQ(cache->state(BlockId(i)), slow.State(i)) << "seed " << seed << " op " << op << " block " << i;
        ASSERT_EQ(cache->pinned(BlockId(i)), slow.Pins(i) > 0);
      }
      const CacheStats total = cache->TotalStats();
      ASSERT_EQ(total.resident_bytes, slow.Used());
      ASSERT_LE(cache->committed_bytes(), cache->budget_bytes());
      ASSERT_EQ(total.n_hits, slow.n_hits);
      ASSERT_EQ(total.n_late, slow.n_late);
      ASSERT_EQ(total.n_misses, slow.n_misses);
      ASSERT_EQ(total.n_evicted, slow.n_evicted);
    }
    all += cache->TotalStats();
  }
  EXPECT_GT(all.n_evicted, 1000);  // everything that can happen did, often
  EXPECT_GT(all.n_hits, 1000);
  EXPECT_GT(all.n_refused, 1000);
  EXPECT_GT(all.n_late, 200);
  EXPECT_GT(all.n_guesses, 200);
  EXPECT_GT(all.n_guesses_used, 20);
  EXPECT_GT(all.n_failed, 200);
}

TEST_P(EveryPolicy, MixedSizesObeyOneBudgetToTheByte) {
  std::vector<BlockInfo> blocks;
  for (int i = 0; i < 120; ++i)
    blocks.push_back({i / 30, i % 3 == 0 ? 3 * kSlot : i % 3 == 1 ? 2 * kSlot - 1 : kSlot + 7});
  const auto slot = [&](uint32_t id) { return (blocks[id].n_bytes + kSlot - 1) / kSlot * kSlot; };
  auto cache = Make(blocks, Options(37 * kSlot, GetParam()));
  Rng rng(5);
  std::vector<BlockState> before(4);
  for (int step = 0; step < 2000; ++step) {
    if (step % 4 == 0) cache->BeginStep();
    const int layer = step % 4;
    std::set<uint32_t> ids;
    while (ids.size() < 4) ids.insert(static_cast<uint32_t>(layer * 30) + static_cast<uint32_t>(rng.NextU64() % 30));
    std::vector<BlockId> wanted;
    for (const uint32_t id : ids) wanted.emplace_back(id);
    cache->Demand(layer, wanted, before);
    for (size_t i = 0; i < 4; ++i) {
      if (before[i] != BlockState::kAbsent) continue;
      const auto admission = cache->Admit(wanted[i]);
      ASSERT_NE(admission.memory, nullptr);
      for (const BlockId gone : admission.evicted) ASSERT_EQ(cache->state(gone), BlockState::kAbsent);
      cache->Arrived(wanted[i]);
      int64_t held = 0;
      for (const uint32_t id : Resident(*cache)) held += slot(id);
      ASSERT_EQ(held, cache->TotalStats().resident_bytes);
      ASSERT_LE(held, cache->committed_bytes());
      ASSERT_LE(cache->committed_bytes(), 37 * kSlot);
    }
    for (const BlockId block : wanted) ASSERT_EQ(cache->state(block), BlockState::kResident);
    for (const BlockId block : wanted) cache->Unpin(block);
  }
  EXPECT_GT(cache->committed_bytes(), 33 * kSlot);  // and it is used
}

TEST_P(EveryPolicy, WhatIsPinnedOrBeingReadIsNeverEvicted) {
  const auto blocks = Table(1, 8);
  auto cache = Make(blocks, Options(3 * kSlot, GetParam()));
  ASSERT_NE(cache->Admit(BlockId(0)).memory, nullptr);  // stays in reading
  ASSERT_NE(cache->Admit(BlockId(1)).memory, nullptr);
  cache->Arrived(BlockId(1));  // pinned
  EXPECT_EQ(Visit(*cache, 0, {2}), 0);
  for (uint32_t id = 3; id < 8; ++id) {
    cache->BeginStep();
    Visit(*cache, 0, {id});
    EXPECT_EQ(cache->state(BlockId(0)), BlockState::kReading);
    EXPECT_EQ(cache->state(BlockId(1)), BlockState::kResident);
  }
  cache->Pin(BlockId(7));
  const auto refused = cache->Admit(BlockId(2));
  EXPECT_EQ(refused.memory, nullptr);
  EXPECT_TRUE(refused.evicted.empty());
  EXPECT_EQ(cache->TotalStats().n_refused, 1);
  cache->Unpin(BlockId(7));
  const auto admitted = cache->Admit(BlockId(2));
  EXPECT_NE(admitted.memory, nullptr);
  ASSERT_EQ(admitted.evicted.size(), 1u);
  EXPECT_EQ(admitted.evicted[0], BlockId(7));
}

TEST_P(EveryHeatPolicy, AGuessEvictsNothingDemandedInThisStepAndNothingWarmer) {
  const auto blocks = Table(2, 4);
  auto cache = Make(blocks, Options(3 * kSlot, GetParam()));
  Visit(*cache, 0, {0, 1, 2});
  if (GetParam() != PolicyKind::kCycle) {
    EXPECT_EQ(cache->AdmitGuess(BlockId(4), 0.9).memory, nullptr);  // all were demanded in this step
  }
  for (int step = 0; step < 5; ++step) {
    cache->BeginStep();
    Visit(*cache, 0, {0, 1, 2});
  }
  cache->BeginStep();
  EXPECT_EQ(cache->AdmitGuess(BlockId(4), 0.0).memory, nullptr);  // never used: colder than all
  EXPECT_EQ(Resident(*cache), (std::vector<uint32_t>{0, 1, 2}));
}

// What the layer before has used is not needed for nearly a whole token.
TEST(BlockCache, WhereTheOrderOfLayersIsKnownALikelyGuessTakesThePlaceOfWhatWasJustUsed) {
  auto cache = Make(Table(4, 2), Options(3 * kSlot, PolicyKind::kCycle));
  for (int step = 0; step < 3; ++step) {
    cache->BeginStep();
    Visit(*cache, 0, {0, 1});
  }
  Visit(*cache, 1, {2});
  EXPECT_EQ(cache->AdmitGuess(BlockId(4), 0.05).memory, nullptr);  // too unlikely
  const auto guess = cache->AdmitGuess(BlockId(4), 0.9);
  ASSERT_NE(guess.memory, nullptr);
  ASSERT_EQ(guess.evicted.size(), 1u);
  EXPECT_EQ(guess.evicted[0], BlockId(2));
}

TEST(BlockCache, InARotationTheBlockUsedLastGoesFirst) {
  auto cache = Make(Table(3, 2), Options(4 * kSlot, PolicyKind::kRotation));
  Visit(*cache, 0, {0, 1});
  Visit(*cache, 1, {2, 3});
  Visit(*cache, 2, {4, 5});  // 4 takes the room of 3, then 5 of 2
  EXPECT_EQ(Resident(*cache), (std::vector<uint32_t>{0, 1, 4, 5}));
  cache->BeginStep();
  EXPECT_EQ(Visit(*cache, 0, {0, 1}), 2);
  const auto guess = cache->AdmitGuess(BlockId(2), 0.5);
  EXPECT_EQ(guess.memory, nullptr);  // 4 and 5 come after it, but 0 and 1 were wanted in this step
  const auto certain = cache->AdmitCertain(BlockId(2));
  ASSERT_EQ(certain.evicted.size(), 1u);
  EXPECT_EQ(certain.evicted[0], BlockId(1));  // which comes last of all
  cache->Failed(BlockId(2));
  EXPECT_NE(cache->AdmitCertain(BlockId(1)).memory, nullptr);
  cache->Arrived(BlockId(1));
  EXPECT_EQ(Visit(*cache, 0, {0, 1}), 2);
  EXPECT_EQ(cache->SetBudget(3 * kSlot), 3 * kSlot);
  EXPECT_EQ(Resident(*cache), (std::vector<uint32_t>{0, 4, 5}));
}

TEST(BlockCache, AGuessTakesTheRoomOfWhatIsColder) {
  for (const PolicyKind kind : {PolicyKind::kLfu, PolicyKind::kLrfu, PolicyKind::kCycle}) {
    BlockCacheOptions options = Options(3 * kSlot, kind);
    options.policy.half_life_tokens = 2;
    auto cache = Make(Table(2, 4), options);
    Visit(*cache, 0, {0, 1, 2});
    for (int step = 0; step < 20; ++step) {
      cache->BeginStep();
      Visit(*cache, 0, {1, 2});
    }
    cache->BeginStep();
    const auto admission = cache->AdmitGuess(BlockId(4), 0.5);
    ASSERT_NE(admission.memory, nullptr) << PolicyName(kind);
    ASSERT_EQ(admission.evicted.size(), 1u);
    EXPECT_EQ(admission.evicted[0], BlockId(0));
    cache->Arrived(BlockId(4));
    EXPECT_EQ(Visit(*cache, 1, {4}), 1);
    EXPECT_EQ(cache->TotalStats().n_guesses_used, 1);
    EXPECT_EQ(cache->TotalStats().n_guesses_wasted, 0);
  }
}

TEST(BlockCache, AGuessThatIsStillBeingReadIsLateAndIsPinnedByTheDemand) {
  auto cache = Make(Table(1, 4), Options(2 * kSlot));
  ASSERT_NE(cache->AdmitGuess(BlockId(3), 0.9).memory, nullptr);
  const BlockId wanted[] = {BlockId(3)};
  BlockState before[1];
  cache->Demand(0, wanted, before);
  EXPECT_EQ(before[0], BlockState::kReading);
  cache->Arrived(BlockId(3));
  EXPECT_TRUE(cache->pinned(BlockId(3)));
  EXPECT_EQ(cache->TotalStats().n_late, 1);
  EXPECT_EQ(cache->TotalStats().n_hits + cache->TotalStats().n_misses, 0);
  cache->Unpin(BlockId(3));
  EXPECT_EQ(cache->evictable_bytes(), kSlot);
}

TEST(BlockCache, AFailedReadLeavesTheBlockAbsentAndItsSlotFree) {
  auto cache = Make(Table(1, 4), Options(kSlot));
  uint8_t* const memory = cache->Admit(BlockId(0)).memory;
  cache->Failed(BlockId(0));
  EXPECT_EQ(cache->state(BlockId(0)), BlockState::kAbsent);
  EXPECT_FALSE(cache->pinned(BlockId(0)));
  EXPECT_EQ(cache->Admit(BlockId(1)).memory, memory);
  EXPECT_EQ(cache->TotalStats().n_failed, 1);
}

TEST(BlockCache, HitsAreJudgedBeforeTheEventAndCountedByLayerAndByte) {
  auto cache = Make(Table(2, 4, 1000), Options(4 * kSlot));
  EXPECT_EQ(Visit(*cache, 0, {0, 1}), 0);
  EXPECT_EQ(Visit(*cache, 1, {4, 5}), 0);
  cache->BeginStep();
  EXPECT_EQ(Visit(*cache, 0, {1, 2}), 1);
  const CacheStats& stats = cache->layer_stats()[0];
  EXPECT_EQ(stats.n_demanded, 4);
  EXPECT_EQ(stats.n_hits, 1);
  EXPECT_EQ(stats.n_misses, 3);
  EXPECT_EQ(stats.demanded_bytes, 4000);
  EXPECT_EQ(stats.missed_bytes, 3000);
  EXPECT_DOUBLE_EQ(stats.HitRate(), 0.25);
  EXPECT_DOUBLE_EQ(stats.ByteHitRate(), 0.25);
  EXPECT_EQ(cache->layer_stats()[1].n_misses, 2);
  EXPECT_EQ(cache->TotalStats().n_resident, 4);
  cache->ResetCounts();
  EXPECT_EQ(cache->TotalStats().n_demanded, 0);
  EXPECT_EQ(cache->TotalStats().n_resident, 4);
  EXPECT_EQ(cache->TotalStats().resident_bytes, 4 * kSlot);
}

TEST_P(EveryHeatPolicy, ShrinkingEvictsTheColdestAndStopsAtWhatIsHeldAndAtTheFloor) {
  BlockCacheOptions options = Options(8 * kSlot, GetParam());
  options.floor_bytes = 2 * kSlot;
  auto cache = Make(Table(1, 8), options);
  Visit(*cache, 0, {0, 1, 2, 3, 4, 5, 6, 7});
  cache->BeginStep();
  Visit(*cache, 0, {6, 7, 5});
  EXPECT_EQ(cache->SetBudget(3 * kSlot + 100), 3 * kSlot + 100);
  EXPECT_EQ(Resident(*cache), (std::vector<uint32_t>{5, 6, 7}));
  for (const uint32_t id : {5, 6, 7}) cache->Pin(BlockId(id));
  EXPECT_EQ(cache->SetBudget(0), 3 * kSlot);
  cache->Unpin(BlockId(6));
  EXPECT_EQ(cache->SetBudget(0), 2 * kSlot);
  cache->Unpin(BlockId(7));
  EXPECT_EQ(cache->SetBudget(0), 2 * kSlot);
  EXPECT_EQ(Resident(*cache), (std::vector<uint32_t>{5, 7}));
  EXPECT_EQ(cache->SetBudget(100 * kSlot), 8 * kSlot);  // the largest it was made for
  cache->BeginStep();
  Visit(*cache, 0, {0, 1, 2, 3, 4, 6});
  EXPECT_EQ(Resident(*cache).size(), 8u);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // sanitizers keep books in memory
TEST(BlockCache, ShrinkingGivesMemoryBackToTheSystem) {
  const int64_t before = ResidentSetBytes();
  if (before < 0) GTEST_SKIP() << "the system does not say how much memory is in use";
  for (const bool huge : {false, true}) {
    for (const int64_t n_bytes : {3 * kMiB - 4096, 2 * kMiB, 300 * kKiB}) {
      const auto n = static_cast<int>(96 * kMiB / n_bytes);
      BlockCacheOptions options = Options(96 * kMiB);
      options.huge_pages = huge;
      auto cache = Make(Table(1, n, n_bytes), options);
      for (uint32_t id = 0; id < static_cast<uint32_t>(n); ++id) {
        std::memset(cache->Admit(BlockId(id)).memory, 1, static_cast<size_t>(n_bytes));
        cache->Arrived(BlockId(id));
        cache->Unpin(BlockId(id));
        EXPECT_LT(ResidentSetBytes() - before, cache->committed_bytes() + 4 * kMiB);
      }
      EXPECT_GT(ResidentSetBytes() - before, 80 * kMiB);
      cache->SetBudget(16 * kMiB);
      EXPECT_LT(ResidentSetBytes() - before, 24 * kMiB);
    }
  }
}
#endif

// All of what CommitMore() gives, by size of part; writes to it.
std::map<int64_t, std::vector<uint8_t*>> CommitAll(BlockCache& cache) {
  std::map<int64_t, std::vector<uint8_t*>> parts;
  int64_t committed = cache.committed_bytes();
  for (std::span<uint8_t> part = cache.CommitMore(); !part.empty(); part = cache.CommitMore()) {
    std::memset(part.data(), 0xa5, part.size());
    parts[std::ssize(part)].push_back(part.data());
    committed += std::ssize(part);
    EXPECT_EQ(cache.committed_bytes(), committed);
    EXPECT_LE(committed, cache.budget_bytes());
  }
  return parts;
}

TEST(BlockCache, WhatIsCommittedAheadIsOfTheBudgetAndIsUsedFirst) {
  std::vector<BlockInfo> blocks = Table(1, 10);
  for (const BlockInfo& block : Table(1, 10, 3 * kSlot)) blocks.push_back({1, block.n_bytes});
  const auto cache = Make(blocks, Options(20 * kSlot));
  Visit(*cache, 0, {0, 1});
  auto parts = CommitAll(*cache);
  EXPECT_EQ(parts[kSlot].size(), 3u);  // five of each size, with the two that are there
  EXPECT_EQ(parts[3 * kSlot].size(), 5u);
  EXPECT_EQ(cache->committed_bytes(), 20 * kSlot);
  EXPECT_EQ(cache->state(BlockId(0)), BlockState::kResident);
  const BlockCache::Admission admission = cache->AdmitIfRoom(BlockId(12));
  EXPECT_NE(std::ranges::find(parts[3 * kSlot], admission.memory), parts[3 * kSlot].end());
  EXPECT_EQ(cache->committed_bytes(), 20 * kSlot);
}

TEST(BlockCache, WhatWasGivenBackIsCommittedAgain) {
  std::vector<BlockInfo> blocks = Table(1, 4);
  for (const BlockInfo& block : Table(1, 4, 3 * kSlot)) blocks.push_back({1, block.n_bytes});
  const auto cache = Make(blocks, Options(16 * kSlot));
  CommitAll(*cache);
  EXPECT_EQ(cache->SetBudget(3 * kSlot), 3 * kSlot);
  EXPECT_EQ(cache->SetBudget(16 * kSlot), 16 * kSlot);
  CommitAll(*cache);
  EXPECT_EQ(cache->committed_bytes(), 16 * kSlot);
}

TEST(BlockCache, WhatIsCommittedAheadGoesFirstWhenTheBudgetShrinks) {
  const auto cache = Make(Table(1, 10), Options(8 * kSlot));
  Visit(*cache, 0, {0, 1});
  while (!cache->CommitMore().empty()) {
  }
  EXPECT_EQ(cache->committed_bytes(), 8 * kSlot);
  EXPECT_EQ(cache->SetBudget(2 * kSlot), 2 * kSlot);
  EXPECT_EQ(cache->committed_bytes(), 2 * kSlot);
  EXPECT_EQ(Resident(*cache), (std::vector<uint32_t>{0, 1}));
  EXPECT_TRUE(cache->CommitMore().empty());
}

TEST(BlockCache, AWarmStartFillsFreeRoomInTheOrderOfWorth) {
  for (const PolicyKind kind : kPolicyKinds) {
    auto cache = Make(Table(1, 8), Options(3 * kSlot, kind));
    int n_admitted = 0;
    for (const uint32_t id : {4, 2, 6, 1}) {
      cache->Warm(BlockId(id), 1.0 / static_cast<double>(++n_admitted + 1));
      if (cache->AdmitIfRoom(BlockId(id)).memory != nullptr) cache->Arrived(BlockId(id));
    }
    EXPECT_EQ(Resident(*cache), (std::vector<uint32_t>{2, 4, 6})) << PolicyName(kind);
    Visit(*cache, 0, {0});
    EXPECT_EQ(Resident(*cache), (std::vector<uint32_t>{0, 2, 4})) << PolicyName(kind);  // the least worth goes first
  }
}

TEST_P(EveryPolicy, AfterForgettingTheCacheBehavesAsNew) {
  BlockCacheOptions options = Options(5 * kSlot, GetParam());
  auto used = Make(Table(2, 8), options);
  Rng rng(9);
  const auto draw = [&](int layer) {
    const auto first = static_cast<uint32_t>(layer * 8) + static_cast<uint32_t>(rng.NextU64() % 7);
    return std::vector<uint32_t>{first, first + 1};
  };
  for (int i = 0; i < 100; ++i) {
    used->BeginStep();
    Visit(*used, i % 2, draw(i % 2));
  }
  used->Forget();
  used->ResetCounts();
  EXPECT_TRUE(Resident(*used).empty());
  EXPECT_EQ(used->evictable_bytes(), 0);
  auto fresh = Make(Table(2, 8), options);
  for (int i = 0; i < 100; ++i) {
    const auto ids = draw(i % 2);
    used->BeginStep();
    fresh->BeginStep();
    ASSERT_EQ(Visit(*used, i % 2, ids), Visit(*fresh, i % 2, ids));
    ASSERT_EQ(Resident(*used), Resident(*fresh));
  }
}

// With a half-life of half a token the last use outweighs all before it, so the order is LRU's; also when heat was rescaled many times.
TEST(BlockCache, HeatKeepsItsOrderForEver) {
  BlockCacheOptions options = Options(6 * kSlot);
  auto lru = Make(Table(1, 12), options);
  options.policy.half_life_tokens = 0.5;
  options.policy.kind = PolicyKind::kLrfu;
  auto lrfu = Make(Table(1, 12), options);
  options.policy.kind = PolicyKind::kCycle;
  auto cycle = Make(Table(1, 12), options);
  Rng rng(2);
  for (int step = 0; step < 5000; ++step) {
    const auto id = static_cast<uint32_t>(rng.NextU64() % 12);
    for (BlockCache* cache : {lru.get(), lrfu.get(), cycle.get()}) {
      cache->BeginStep(step == 2500 ? 1000000 : 1);
      Visit(*cache, 0, {id});
    }
    ASSERT_EQ(Resident(*lrfu), Resident(*lru)) << step;
    ASSERT_EQ(Resident(*cycle), Resident(*lru)) << step;
  }
}

TEST(BlockCache, ForTheSameHeatTheCyclePolicyKeepsTheLayersThatComeNext) {
  auto cache = Make(Table(4, 1), Options(3 * kSlot, PolicyKind::kCycle));
  for (uint32_t layer = 0; layer < 4; ++layer) Visit(*cache, static_cast<int>(layer), {layer});
  EXPECT_EQ(Resident(*cache), (std::vector<uint32_t>{0, 1, 3}));  // at layer 3, layer 2 comes back last
}

TEST(BlockCache, ATableOrBudgetThatCannotWorkIsRefusedWithReasons) {
  const auto code = [](const std::vector<BlockInfo>& blocks, const BlockCacheOptions& options) {
    const auto cache = BlockCache::Create(blocks, options);
    return cache.ok() ? StatusCode::kOk : cache.status().code();
  };
  const auto blocks = Table(1, 4, 5000);
  EXPECT_EQ(code(blocks, Options(8192)), StatusCode::kOk);
  EXPECT_EQ(code(blocks, Options(8191)), StatusCode::kOutOfBudget);
  EXPECT_EQ(code({}, Options(8192)), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(blocks, Options(0)), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{0, 0}}, Options(8192)), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{-1, 1}}, Options(8192)), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{65536, 1}}, Options(8192)), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{0, int64_t{1} << 32}}, Options(int64_t{1} << 40)), StatusCode::kInvalidArgument);
  BlockCacheOptions options = Options(8192);
  options.max_budget_bytes = 4096;
  EXPECT_EQ(code(blocks, options), StatusCode::kInvalidArgument);
  options = Options(8192);
  options.floor_bytes = 8193;
  EXPECT_EQ(code(blocks, options), StatusCode::kInvalidArgument);
  options = Options(8192);
  options.policy.half_life_tokens = 4;  // LRU has none
  EXPECT_EQ(code(blocks, options), StatusCode::kInvalidArgument);
  std::vector<BlockInfo> many;
  for (int64_t i = 1; i <= 65; ++i) many.push_back({0, i * kSlot});
  EXPECT_EQ(code(many, Options(100 * kSlot)), StatusCode::kUnsupported);
}

TEST_P(EveryPolicy, BookkeepingIsAtMost64BytesABlock) {
  const auto blocks = Table(50, 2000);
  auto cache = Make(blocks, Options(100000 * kSlot, GetParam()));
  EXPECT_LE(cache->bookkeeping_bytes(), 64 * 100000 + 50 * 512);
  EXPECT_GT(cache->bookkeeping_bytes(), 24 * 100000);
}

TEST(BlockCache, PolicyNamesAreReadAsTheyAreWritten) {
  for (const PolicyKind kind : kPolicyKinds) EXPECT_EQ(ParsePolicyName(PolicyName(kind)).value(), kind);
  EXPECT_EQ(ParsePolicyName("fifo").status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace pantry
