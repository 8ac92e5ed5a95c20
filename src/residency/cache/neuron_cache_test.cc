// SPDX-License-Identifier: Apache-2.0
#include "residency/cache/neuron_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <vector>

#include "base/rng.h"

namespace pantry {
namespace {

constexpr int32_t kLayers = 3;
constexpr int32_t kNeurons = 200;
constexpr int64_t kBundle = 512;

std::unique_ptr<NeuronCache> Make(int64_t n_slots, int64_t most_slots = 0) {
  auto cache = NeuronCache::Create({.n_layers = kLayers,
                                    .n_neurons = kNeurons,
                                    .slot_bytes = kBundle,
                                    .budget_bytes = n_slots * kBundle,
                                    .max_budget_bytes = most_slots * kBundle});
  EXPECT_TRUE(cache.ok()) << cache.status().ToString();
  return *std::move(cache);
}

// One event of one token: everything that fires is there or read. Returns which were absent.
std::vector<int32_t> Event(NeuronCache& cache, int32_t layer, const std::vector<int32_t>& firing) {
  cache.BeginEvent(layer, 1);
  cache.Use(firing, {});
  std::vector<int32_t> absent;
  for (const int32_t neuron : firing) {
    if (cache.Find(neuron) != nullptr) continue;
    absent.push_back(neuron);
    if (uint8_t* const slot = cache.Admit(neuron)) std::memset(slot, layer * 64 + neuron % 64, kBundle);
  }
  return absent;
}

TEST(NeuronCache, WhatIsCommittedAheadIsTheWholeBudgetOnce) {
  constexpr int64_t kSlots = 9000;  // more than two huge pages
  constexpr int32_t kMany = 4000;
  auto made = NeuronCache::Create(
      {.n_layers = kLayers, .n_neurons = kMany, .slot_bytes = kBundle + 8, .budget_bytes = kSlots * (kBundle + 8)});
  ASSERT_TRUE(made.ok());
  NeuronCache& cache = **made;
  Event(cache, 0, {0, 1, 2});
  int64_t n_bytes = 0;
  for (std::span<uint8_t> part = cache.CommitMore(); !part.empty(); part = cache.CommitMore()) {
    std::memset(part.data(), 0xa5, part.size());
    n_bytes += std::ssize(part);
    ASSERT_LE(n_bytes, kSlots * (kBundle + 8));
  }
  EXPECT_GE(n_bytes, (kSlots - 6) * (kBundle + 8));
  EXPECT_GE(cache.committed_bytes(), n_bytes);
  EXPECT_LE(cache.committed_bytes(), (kSlots * (kBundle + 8) + (2 << 20)));
  cache.BeginEvent(0, 1);
  for (const int32_t neuron : {0, 1, 2}) EXPECT_EQ(cache.Find(neuron)[kBundle - 1], neuron);  // not touched
}

TEST(NeuronCache, HoldsWhatWasWrittenForTheNeuronItWasWrittenFor) {
  const auto cache = Make(150);
  Rng rng(3);
  for (int round = 0; round < 400; ++round) {
    const auto layer = static_cast<int32_t>(rng.NextU64() % kLayers);
    std::vector<int32_t> firing;
    for (int32_t neuron = 0; neuron < kNeurons; ++neuron) {
      if (rng.NextDouble() < 0.05 + 0.5 * (neuron % 10 == 0)) firing.push_back(neuron);
    }
    Event(*cache, layer, firing);
    for (int32_t neuron = 0; neuron < kNeurons; ++neuron) {
      const uint8_t* const bundle = cache->Find(neuron);
      if (bundle == nullptr) continue;
      ASSERT_EQ(bundle[0], layer * 64 + neuron % 64);
      ASSERT_EQ(bundle[kBundle - 1], layer * 64 + neuron % 64);
    }
    const CacheStats total = cache->TotalStats();
    ASSERT_LE(total.n_resident, 150);
    ASSERT_EQ(total.n_resident, total.n_admitted - total.n_evicted);
    ASSERT_EQ(total.n_demanded, total.n_hits + total.n_misses);
    ASSERT_EQ(total.resident_bytes, total.n_resident * kBundle);
  }
  EXPECT_EQ(cache->TotalStats().n_resident, 150);
}

TEST(NeuronCache, KeepsWhatFiresOftenThoughMoreFiresThanItHolds) {
  const auto cache = Make(60);
  std::vector<int32_t> hot(20), all(kNeurons);
  std::iota(hot.begin(), hot.end(), 0);
  std::iota(all.begin(), all.end(), 0);
  for (int token = 0; token < 40; ++token) {
    for (int32_t layer = 0; layer < kLayers; ++layer) Event(*cache, layer, hot);
  }
  for (int32_t layer = 0; layer < kLayers; ++layer) Event(*cache, layer, all);  // three times what fits
  for (int32_t layer = 0; layer < kLayers; ++layer) EXPECT_TRUE(Event(*cache, layer, hot).empty()) << layer;
}

TEST(NeuronCache, FollowsWhatFiresNow) {
  const auto cache = Make(60);
  std::vector<int32_t> before(20), after(20);
  std::iota(before.begin(), before.end(), 0);
  std::iota(after.begin(), after.end(), 100);
  for (const auto* firing : {&before, &after}) {
    for (int token = 0; token < 100; ++token) {
      for (int32_t layer = 0; layer < kLayers; ++layer) Event(*cache, layer, *firing);
    }
    for (int32_t layer = 0; layer < kLayers; ++layer) EXPECT_TRUE(Event(*cache, layer, *firing).empty()) << layer;
  }
}

TEST(NeuronCache, ResidentsOfTheLayerAtHandStay) {
  const auto cache = Make(50);
  std::vector<int32_t> all(kNeurons);
  std::iota(all.begin(), all.end(), 0);
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    cache->BeginEvent(layer, 1);
    cache->Use(all, {});
    std::map<int32_t, const uint8_t*> there;
    for (const int32_t neuron : all) {
      if (const uint8_t* bundle = cache->Find(neuron)) there[neuron] = bundle;
      else if (uint8_t* slot = cache->Admit(neuron)) there[neuron] = slot;
      for (const auto& [resident, bundle] : there) ASSERT_EQ(cache->Find(resident), bundle);
    }
  }
}

TEST(NeuronCache, OfARunOfTokensKeepsThoseThatFireForMany) {
  const auto cache = Make(100);
  constexpr uint16_t kTokens = 64;
  std::vector<int32_t> all(kNeurons);
  std::iota(all.begin(), all.end(), 0);
  std::vector<uint16_t> n_uses(kNeurons);
  for (size_t i = 0; i < n_uses.size(); ++i) n_uses[i] = i % 8 == 0 ? kTokens : 1;
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    cache->BeginEvent(layer, kTokens);
    cache->Use(all, n_uses);
    for (const int32_t neuron : all) EXPECT_EQ(cache->Admit(neuron) != nullptr, neuron % 8 == 0) << neuron;
  }
}

TEST(NeuronCache, ASmallerBudgetHoldsAtOnceAndALargerOneFillsAgain) {
  const auto cache = Make(100, 300);
  std::vector<int32_t> all(kNeurons);
  std::iota(all.begin(), all.end(), 0);
  const auto fill = [&] {
    for (int token = 0; token < 5; ++token) {
      for (int32_t layer = 0; layer < kLayers; ++layer) Event(*cache, layer, all);
    }
    return cache->TotalStats().n_resident;
  };
  EXPECT_EQ(fill(), 100);
  EXPECT_EQ(cache->SetBudget(300 * kBundle), 300 * kBundle);
  EXPECT_EQ(fill(), 300);
  EXPECT_EQ(cache->SetBudget(1000 * kBundle), 300 * kBundle) << "no more than it was made for";
  cache->SetBudget(10 * kBundle);
  EXPECT_EQ(cache->TotalStats().n_resident, 10);
  EXPECT_EQ(fill(), 10);
  cache->SetBudget(0);
  EXPECT_EQ(fill(), 0);
  cache->SetBudget(50 * kBundle);
  EXPECT_EQ(fill(), 50);
  cache->Forget();
  EXPECT_EQ(cache->TotalStats().n_resident, 0);
  EXPECT_EQ(fill(), 50);
}

TEST(NeuronCache, NetworksOfALayerCoolTogetherAndAreKeptApart) {
  constexpr int32_t kNetworks = 4, kOfEach = 20;
  const auto cache = NeuronCache::Create({.n_layers = 2,
                                          .n_networks = kNetworks,
                                          .n_neurons = kOfEach,
                                          .slot_bytes = kBundle,
                                          .budget_bytes = kOfEach * kBundle})
                         .value();
  const std::vector<int32_t> some = {1, 7, 19};
  const auto fire = [&](int32_t layer, int32_t network) {
    cache->BeginEvent(layer, 1);
    cache->Select(network);
    cache->Use(some, {});
    for (const int32_t neuron : some) {
      if (cache->Find(neuron) != nullptr) continue;
      if (uint8_t* const slot = cache->Admit(neuron))
        slot[0] = static_cast<uint8_t>(100 * layer + 25 * network + neuron);
    }
  };
  for (int32_t layer = 0; layer < 2; ++layer) {
    for (int32_t network = 0; network < 2; ++network) fire(layer, network);
  }
  for (int32_t layer = 0; layer < 2; ++layer) {
    cache->BeginEvent(layer, 0);
    for (int32_t network = 0; network < kNetworks; ++network) {
      cache->Select(network);
      for (int32_t neuron = 0; neuron < kOfEach; ++neuron) {
        const bool is_there = network < 2 && (neuron == 1 || neuron == 7 || neuron == 19);
        ASSERT_EQ(cache->Find(neuron) != nullptr, is_there) << layer << " " << network << " " << neuron;
        if (!is_there) continue;
        EXPECT_EQ(*cache->Find(neuron), static_cast<uint8_t>(100 * layer + 25 * network + neuron));
      }
    }
  }
  // Tokens that choose another expert cool those of this one: in the end it has all slots, though the first was as hot when it last fired.
  std::vector<int32_t> all(kOfEach);
  std::iota(all.begin(), all.end(), 0);
  for (int i = 0; i < 200; ++i) {
    cache->BeginEvent(0, 1);
    cache->Select(3);
    cache->Use(all, {});
    for (const int32_t neuron : all) {
      if (cache->Find(neuron) == nullptr) (void)cache->Admit(neuron);
    }
  }
  cache->BeginEvent(0, 0);
  cache->Select(0);
  for (const int32_t neuron : some) EXPECT_EQ(cache->Find(neuron), nullptr);
}

TEST(NeuronCache, ImpossibleSizesAreRefused) {
  EXPECT_EQ(NeuronCache::Create({.n_layers = 0, .n_neurons = 1, .slot_bytes = 1}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(NeuronCache::Create({.n_layers = 1 << 20, .n_neurons = 1 << 20, .slot_bytes = 1}).status().code(),
            StatusCode::kInvalidArgument);
  for (const int32_t n_networks : {0, 1 << 30}) {
    EXPECT_EQ(NeuronCache::Create({.n_layers = 2, .n_networks = n_networks, .n_neurons = 1 << 20, .slot_bytes = 1})
                  .status()
                  .code(),
              StatusCode::kInvalidArgument);
  }
}

TEST(NeuronCache, BookkeepingIsASmallShareOfTheBytesItManages) {
  const NeuronCacheOptions shape = {.n_layers = 32, .n_neurons = 14336, .slot_bytes = 4608, .budget_bytes = 400 << 20};
  EXPECT_LT(static_cast<double>(NeuronCache::BookkeepingBytes(shape)), 0.02 * static_cast<double>(shape.budget_bytes));
}

TEST(NeuronCache, OfEquallyWarmNeuronsThoseOfNetworksInUseComeFirst) {
  const auto cache = Make(kNeurons + 3);
  std::vector<uint16_t> heat(kNeurons, 1);
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    heat[5] = layer == 0 ? 1000 : 1;
    cache->SeedHeat(layer, heat);
  }
  std::vector<uint16_t> uses(kLayers, 0);  // a network each
  uses[1] = 7;
  uses[2] = 9;
  const std::vector<std::vector<int32_t>> warmest = cache->WarmestAbsent(uses);
  EXPECT_EQ(warmest[0], std::vector<int32_t>{5});  // the only warm one
  EXPECT_EQ(warmest[1], (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(warmest[2].size(), static_cast<size_t>(kNeurons));
}

TEST(NeuronCache, TheWarmestAbsentFillFreeSlotsAndNoOthers) {
  const auto cache = Make(70);
  Rng rng(8);
  std::vector<std::vector<uint16_t>> heat(kLayers, std::vector<uint16_t>(kNeurons));
  std::vector<uint16_t> all;
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    for (uint16_t& one : heat[layer]) one = rng.NextDouble() < 0.3 ? 0 : static_cast<uint16_t>(rng.NextU64());
    cache->SeedHeat(layer, heat[layer]);
    all.insert(all.end(), heat[layer].begin(), heat[layer].end());
  }
  std::sort(all.rbegin(), all.rend());
  for (const size_t n_free : {size_t{70}, size_t{50}}) {
    const std::vector<std::vector<int32_t>> warmest = cache->WarmestAbsent();
    ASSERT_EQ(warmest.size(), static_cast<size_t>(kLayers));
    std::vector<uint16_t> found;
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      EXPECT_TRUE(std::is_sorted(warmest[layer].begin(), warmest[layer].end()));
      for (const int32_t neuron : warmest[layer]) found.push_back(heat[layer][neuron]);
    }
    std::sort(found.rbegin(), found.rend());
    ASSERT_EQ(found.size(), n_free);
    EXPECT_TRUE(std::equal(found.begin(), found.end(), all.begin() + 70 - static_cast<int64_t>(n_free)));
    int n_admitted = 0;  // the 20 warmest of all, without a token
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      cache->BeginEvent(layer, 0);
      for (const int32_t neuron : warmest[layer]) {
        if (heat[layer][neuron] >= all[19] && n_free == 70) n_admitted += cache->Admit(neuron) != nullptr ? 1 : 0;
      }
    }
    EXPECT_EQ(n_admitted, n_free == 70 ? 20 : 0);
  }
  EXPECT_EQ(cache->TotalStats().n_demanded, 0);
}

TEST(NeuronCache, WhatLeavesAShrinkingCacheIsTheColdest) {
  const auto cache = Make(kLayers * kNeurons);
  Rng rng(9);
  std::vector<uint16_t> all;
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    std::vector<uint16_t> heat(kNeurons);
    for (uint16_t& one : heat) one = static_cast<uint16_t>(rng.NextU64());
    cache->SeedHeat(layer, heat);
    all.insert(all.end(), heat.begin(), heat.end());
    cache->BeginEvent(layer, 0);
    for (int32_t neuron = 0; neuron < kNeurons; ++neuron) {
      std::memset(cache->Admit(neuron), layer * 64 + neuron % 64, kBundle);
    }
  }
  for (const size_t n_slots : {450, 70, 70, 1, 0}) {
    cache->SetBudget(static_cast<int64_t>(n_slots) * kBundle);
    std::vector<uint16_t> sorted = all;
    std::sort(sorted.rbegin(), sorted.rend());
    size_t n_held = 0;
    for (int32_t id = 0; id < kLayers * kNeurons; ++id) {
      const int32_t layer = id / kNeurons, neuron = id % kNeurons;
      cache->BeginEvent(layer, 0);
      const uint8_t* const bundle = cache->Find(neuron);
      if (bundle == nullptr) continue;
      ++n_held;
      EXPECT_GE(all[static_cast<size_t>(id)] + 64 + 4, sorted[n_slots - 1]);  // a bin, of heat that is a quarter
      EXPECT_EQ(bundle[0], layer * 64 + neuron % 64);
      EXPECT_EQ(bundle[kBundle - 1], layer * 64 + neuron % 64);
    }
    EXPECT_EQ(n_held, n_slots);
    EXPECT_EQ(cache->TotalStats().n_resident, static_cast<int64_t>(n_slots));
    EXPECT_EQ(cache->TotalStats().n_evicted, kLayers * kNeurons - static_cast<int64_t>(n_slots));
  }
}

TEST(NeuronCache, WhatNeverFiredIsNotWarm) {
  const auto cache = Make(kLayers * kNeurons);
  std::vector<uint16_t> heat(kNeurons, 0);
  heat[7] = 1;
  cache->SeedHeat(1, heat);
  EXPECT_EQ(cache->WarmestAbsent(), (std::vector<std::vector<int32_t>>{{}, {7}, {}}));
}

// Seeded heat defends what is there as heat that was earned does.
TEST(NeuronCache, SeededHeatKeepsTheWarmAgainstPassersBy) {
  const auto cache = Make(40);
  std::vector<uint16_t> heat(kNeurons, 100);
  std::fill_n(heat.begin(), 40, uint16_t{60000});
  cache->SeedHeat(0, heat);
  cache->BeginEvent(0, 0);
  for (int32_t neuron = 0; neuron < 40; ++neuron) ASSERT_NE(cache->Admit(neuron), nullptr);
  std::vector<int32_t> others(kNeurons - 40), warm(40);
  std::iota(others.begin(), others.end(), 40);
  std::iota(warm.begin(), warm.end(), 0);
  EXPECT_EQ(Event(*cache, 0, others).size(), others.size());
  EXPECT_TRUE(Event(*cache, 0, warm).empty());
}

}  // namespace
}  // namespace pantry
