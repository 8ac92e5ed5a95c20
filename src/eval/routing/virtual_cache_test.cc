// SPDX-License-Identifier: Apache-2.0
#include "eval/routing/virtual_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "base/rng.h"
#include "eval/routing/belady_line.h"
#include "policy/routing/expert_chooser.h"
#include "residency/cache/block_cache.h"
#include "sim/replay.h"

namespace pantry {
namespace {

constexpr ExpertLayers kLayers = {.first_layer = 2, .n_layers = 3, .n_experts = 12, .n_used = 3};

std::vector<uint8_t> There(const VirtualCache& cache, int32_t layer) {
  std::vector<uint8_t> there(static_cast<size_t>(kLayers.n_experts));
  cache.Look(layer, there);
  return there;
}
std::vector<int32_t> ListOf(const std::vector<uint8_t>& there) {
  std::vector<int32_t> list;
  for (size_t i = 0; i < there.size(); ++i) {
    if (there[i] != 0) list.push_back(static_cast<int32_t>(i));
  }
  return list;
}

// [n_layers][tokens * n_used]: distinct experts, some more popular, with a habit of coming again.
std::vector<std::vector<int32_t>> RandomChoices(Rng& rng, size_t n_tokens) {
  std::vector<std::vector<int32_t>> choices(static_cast<size_t>(kLayers.n_layers));
  for (auto& of_layer : choices) {
    std::vector<int32_t> last;
    for (size_t t = 0; t < n_tokens; ++t) {
      std::vector<int32_t> token;
      while (token.size() < static_cast<size_t>(kLayers.n_used)) {
        const double u = rng.NextDouble();
        int32_t expert = static_cast<int32_t>(u * u * kLayers.n_experts);
        if (!last.empty() && rng.NextDouble() < 0.4) expert = last[rng.NextU64() % last.size()];
        if (std::ranges::find(token, expert) == token.end()) token.push_back(expert);
      }
      of_layer.insert(of_layer.end(), token.begin(), token.end());
      last = token;
    }
  }
  return choices;
}

int64_t MissesOf(const std::vector<std::vector<int32_t>>& choices, int32_t capacity) {
  VirtualCache cache(kLayers, capacity);
  const auto n_used = static_cast<size_t>(kLayers.n_used);
  for (size_t layer = 0; layer < choices.size(); ++layer) {
    for (size_t at = 0; at < choices[layer].size(); at += n_used) {
      cache.Use(kLayers.first_layer + static_cast<int32_t>(layer), std::span(choices[layer]).subspan(at, n_used));
    }
  }
  return cache.figures().n_misses;
}

TEST(VirtualCache, TheLargestWeightOfATokenLeavesFirst) {
  VirtualCache cache(kLayers, 4);
  cache.Use(2, std::vector<int32_t>{5, 1, 9});
  EXPECT_EQ(ListOf(There(cache, 2)), (std::vector<int32_t>{1, 5, 9}));
  cache.Use(2, std::vector<int32_t>{0, 9, 3});  // five would be there: 5, the heaviest of the token before, goes
  EXPECT_EQ(ListOf(There(cache, 2)), (std::vector<int32_t>{0, 1, 3, 9}));
  cache.Use(2, std::vector<int32_t>{7, 8, 1});  // 1 stays: it is used; 0 and 9 go in the order of weight, and 3 stays
  EXPECT_EQ(ListOf(There(cache, 2)), (std::vector<int32_t>{1, 3, 7, 8}));
  EXPECT_EQ(cache.figures().n_misses, 3 + 2 + 2);
  EXPECT_EQ(cache.figures().n_evicted, 1 + 2);
  EXPECT_EQ(cache.figures().n_stayed, 0 + 3 + 4);
  EXPECT_EQ(ListOf(There(cache, 3)), std::vector<int32_t>());  // each layer has its own
  cache.Clear();
  EXPECT_EQ(ListOf(There(cache, 2)), std::vector<int32_t>());
  EXPECT_EQ(cache.figures().n_misses, 7);
}

TEST(VirtualCache, WhatATokenUsesIsNotEvictedForIt) {
  VirtualCache cache(kLayers, 3);
  cache.Use(2, std::vector<int32_t>{0, 1, 2});
  cache.Use(2, std::vector<int32_t>{3, 4, 0});  // 0 is the oldest, and a hit
  EXPECT_EQ(cache.figures().n_misses, 3 + 2);
  EXPECT_EQ(ListOf(There(cache, 2)), (std::vector<int32_t>{0, 3, 4}));
}

TEST(VirtualCache, SlotsWithoutAnExpertAreNeitherHitNorMiss) {
  VirtualCache cache(kLayers, 6);
  cache.Use(4, std::vector<int32_t>{2, ExpertChooser::kNone, ExpertChooser::kNone});
  EXPECT_EQ(cache.figures().n_misses, 1);
  EXPECT_EQ(cache.figures().n_slots, 3);
  EXPECT_EQ(ListOf(There(cache, 4)), std::vector<int32_t>{2});
}

// An expert stays from the token that brings it to the one that evicts it.
TEST(VirtualCache, LifetimeIsTheMeanStay) {
  VirtualCache cache({.n_layers = 1, .n_experts = 12, .n_used = 1}, 2);
  for (int32_t token = 0; token < 1000; ++token) cache.Use(0, std::vector<int32_t>{token % 12});
  EXPECT_NEAR(cache.figures().lifetime(), 2, 0.01);  // in turn: each one stays for two tokens
  EXPECT_EQ(cache.figures().miss_rate(), 1);
  VirtualCache never({.n_layers = 1, .n_experts = 12, .n_used = 1}, 2);
  for (int32_t token = 0; token < 10; ++token) never.Use(0, std::vector<int32_t>{token % 2});
  EXPECT_EQ(never.figures().lifetime(), std::numeric_limits<double>::infinity());
}

// The engine's own cache, with one layer and slots for as many experts, replaying the same choices.
TEST(VirtualCache, MissesWhatTheRealCacheMissesUnderLru) {
  Rng rng(1);
  const auto choices = RandomChoices(rng, 300);
  for (const int32_t capacity : {3, 5, 8, 12}) {
    int64_t n_misses = 0;
    for (const auto& of_layer : choices) {
      RoutingTrace trace;
      for (size_t at = 0; at < of_layer.size(); at += 3) {
        std::vector<BlockId> wanted;
        for (const int32_t expert : std::span(of_layer).subspan(at, 3))
          wanted.emplace_back(static_cast<uint32_t>(expert));
        trace.Add(0, true, wanted);
      }
      BlockCacheOptions options;
      options.budget_bytes = capacity * int64_t{4096};
      options.policy.kind = PolicyKind::kLru;
      auto cache = BlockCache::Create(MakeBlocks({"", 1, 12, 3}, 4096), options);
      ASSERT_TRUE(cache.ok()) << cache.status().ToString();
      n_misses += Replay(trace, **cache).value().n_misses;
    }
    EXPECT_EQ(MissesOf(choices, capacity), n_misses) << capacity;
  }
}

TEST(BeladyMisses, AreNoMoreThanThoseOfLruWhichAreNoMoreThanAll) {
  Rng rng(2);
  for (int round = 0; round < 5; ++round) {
    const auto choices = RandomChoices(rng, 200);
    int64_t before = 3 * 3 * 200;  // without a cache
    for (const int32_t capacity : {3, 4, 6, 9, 12}) {
      const int64_t n_lru = MissesOf(choices, capacity);
      const int64_t n_belady = BeladyMisses(choices, kLayers, capacity).value();
      EXPECT_LE(n_belady, n_lru);
      EXPECT_LE(n_lru, before);
      if (capacity > 3 && capacity < 12) {
        EXPECT_LT(n_belady, n_lru);
      }
      before = n_lru;
    }
    EXPECT_EQ(before, BeladyMisses(choices, kLayers, 12).value());  // with room for all, each expert once
  }
}

TEST(CapacityOf, IsTheShareButHoldsAToken) {
  EXPECT_EQ(CapacityOf(kLayers, 0.5), 6);
  EXPECT_EQ(CapacityOf(kLayers, 0.01), 3);
  EXPECT_EQ(CapacityOf(kLayers, 1), 12);
}

}  // namespace
}  // namespace pantry
