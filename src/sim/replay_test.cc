// SPDX-License-Identifier: Apache-2.0
#include "sim/replay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "base/rng.h"

namespace pantry {
namespace {

constexpr int64_t kSlot = 4096;

RoutingTrace RandomTrace(Rng& rng, int n_layers, int n_of_layer, int n_chosen, int n_tokens) {
  RoutingTrace trace;
  for (int t = 0; t < n_tokens; ++t) {
    for (int layer = 0; layer < n_layers; ++layer) {
      std::set<uint32_t> ids;
      while (ids.size() < static_cast<size_t>(n_chosen)) {
        const double u = rng.NextDouble();  // some are more popular
        ids.insert(static_cast<uint32_t>(layer * n_of_layer) + static_cast<uint32_t>(u * u * n_of_layer));
      }
      std::vector<BlockId> wanted;
      for (const uint32_t id : ids) wanted.emplace_back(id);
      trace.Add(layer, layer == 0, wanted);
    }
  }
  return trace;
}

std::vector<BlockInfo> Blocks(int n_layers, int n_of_layer) { return MakeBlocks({"", n_layers, n_of_layer, 0}, kSlot); }

// The cache's own counts of a replay; also checks the budget at every moment.
CacheStats RunTrace(const RoutingTrace& trace, const std::vector<BlockInfo>& blocks, int64_t n_slots, PolicyKind kind,
                    bool belady = false) {
  BlockCacheOptions options;
  options.budget_bytes = n_slots * kSlot;
  options.huge_pages = false;
  options.policy.kind = kind;
  auto cache = BlockCache::Create(blocks, options, belady ? MakeBelady(trace, blocks.size()) : nullptr);
  EXPECT_TRUE(cache.ok()) << cache.status().ToString();
  ReplayOptions replay;
  replay.watch = [](const BlockCache& now) { ASSERT_LE(now.committed_bytes(), now.budget_bytes()); };
  const auto stats = Replay(trace, **cache, replay);
  EXPECT_TRUE(stats.ok()) << stats.status().ToString();
  return *stats;
}
CacheStats RunBelady(const RoutingTrace& trace, const std::vector<BlockInfo>& blocks, int64_t n_slots) {
  return RunTrace(trace, blocks, n_slots, PolicyKind::kLru, true);
}

// The fewest misses that any sequence of evictions can have: all of them are tried.
class BruteForce {
 public:
  BruteForce(const RoutingTrace& trace, size_t n_slots) : trace_(trace), n_slots_(n_slots) {}
  int64_t FewestMisses() { return From(0, 0); }

 private:
  int64_t From(size_t event, uint32_t in) {
    if (event == trace_.events.size()) return 0;
    const auto known = best_.find({event, in});
    if (known != best_.end()) return known->second;
    uint32_t wanted = 0;
    for (const BlockId block : trace_.blocks_of(event)) wanted |= uint32_t{1} << block.value();
    const int n_misses = __builtin_popcount(wanted & ~in);
    const int n_all = __builtin_popcount(wanted | in);
    const int n_evicted = std::max(0, n_all - static_cast<int>(n_slots_));
    int64_t best = INT64_MAX;
    const uint32_t others = in & ~wanted;
    for (uint32_t out = others;; out = (out - 1) & others) {
      if (__builtin_popcount(out) == n_evicted) best = std::min(best, From(event + 1, (in | wanted) & ~out));
      if (out == 0) break;
    }
    return best_[{event, in}] = best + n_misses;
  }
  const RoutingTrace& trace_;
  const size_t n_slots_;
  std::map<std::pair<size_t, uint32_t>, int64_t> best_;
};

TEST(Belady, IsOptimalWhereEverythingCanBeTried) {
  Rng rng(1);
  for (int round = 0; round < 60; ++round) {
    const int n_layers = 1 + round % 3;
    const int n_of_layer = n_layers == 1 ? 9 : 4;
    const int n_chosen = 1 + round % 2;
    const RoutingTrace trace = RandomTrace(rng, n_layers, n_of_layer, n_chosen, 24 / n_layers);
    for (const int64_t n_slots : {2, 3, 5}) {
      const CacheStats stats = RunBelady(trace, Blocks(n_layers, n_of_layer), n_slots);
      EXPECT_EQ(stats.n_misses, BruteForce(trace, static_cast<size_t>(n_slots)).FewestMisses())
          << round << " " << n_slots;
    }
  }
}

TEST(Belady, NoPolicyMissesLess) {
  Rng rng(2);
  std::vector<std::pair<TraceShape, RoutingTrace>> traces;
  traces.emplace_back(TraceShape{"random", 4, 16, 3}, RandomTrace(rng, 4, 16, 3, 150));
  traces.emplace_back(TraceShape{"one layer", 1, 40, 6}, RandomTrace(rng, 1, 40, 6, 300));
  const TraceShape like_a_model{"made", 6, 32, 4};
  traces.emplace_back(like_a_model, MakeTrace(like_a_model, {.n_tokens = 200}));
  traces.emplace_back(TraceShape{"rotation", 10, 3, 3}, MakeRotation(10, 3, 30));
  for (const auto& [shape, trace] : traces) {
    const auto blocks = MakeBlocks(shape, kSlot);
    const auto n = static_cast<int64_t>(blocks.size());
    for (const int64_t n_slots : {n / 8 + shape.n_chosen, n / 4 + shape.n_chosen, n / 2, n * 3 / 4, n}) {
      const int64_t bound = RunBelady(trace, blocks, n_slots).n_misses;
      for (const PolicyKind kind : kPolicyKinds) {
        EXPECT_LE(bound, RunTrace(trace, blocks, n_slots, kind).n_misses)
            << shape.name << " " << n_slots << " " << PolicyName(kind);
      }
    }
  }
}

TEST(Replay, WithRoomForAllEachBlockIsMissedOnce) {
  Rng rng(3);
  const RoutingTrace trace = RandomTrace(rng, 3, 10, 4, 50);
  const std::set<BlockId> distinct(trace.wanted.begin(), trace.wanted.end());
  for (const PolicyKind kind : kPolicyKinds) {
    const CacheStats stats = RunTrace(trace, Blocks(3, 10), 30, kind);
    EXPECT_EQ(stats.n_misses, static_cast<int64_t>(distinct.size()));
    EXPECT_EQ(stats.n_demanded, 3 * 4 * 50);
    EXPECT_EQ(stats.n_evicted, 0);
  }
}

TEST(Replay, AnEventIsJudgedBeforeItBegins) {
  // Blocks 0 and 1 in turn with room for both; block by block the second event would find what the first part of it brought.
  RoutingTrace trace;
  const BlockId a[] = {BlockId(0), BlockId(1)};
  const BlockId b[] = {BlockId(2), BlockId(0)};
  trace.Add(0, true, a);
  trace.Add(0, true, b);  // 0 is a hit: admitting 2 must not push it out first
  const CacheStats stats = RunTrace(trace, Blocks(1, 3), 2, PolicyKind::kLru);
  EXPECT_EQ(stats.n_hits, 1);
  EXPECT_EQ(stats.n_misses, 3);
}

TEST(Replay, AnEventLargerThanTheBudgetIsWorkedOffBlockByBlock) {
  const RoutingTrace trace = MakeRotation(2, 6, 5);
  for (const PolicyKind kind : kPolicyKinds) {
    const CacheStats stats = RunTrace(trace, Blocks(2, 6), 4, kind);
    EXPECT_EQ(stats.n_demanded, 2 * 6 * 5);
    EXPECT_GT(stats.n_misses, 2 * 6);
  }
}

TEST(Replay, TheFirstStepsCanBeLeftOut) {
  const RoutingTrace trace = MakeRotation(2, 3, 5);
  BlockCacheOptions options;
  options.budget_bytes = 6 * kSlot;
  auto cache = BlockCache::Create(Blocks(2, 3), options).value();
  const CacheStats stats = Replay(trace, *cache, {.skip_steps = 1, .watch = {}}).value();
  EXPECT_EQ(stats.n_demanded, 4 * 6);
  EXPECT_EQ(stats.n_misses, 0);
}

// A dense model in a fixed rotation: LRU never hits, the cycle policy hits nearly as much as the bound, and rotation is the bound.
TEST(Replay, InARotationTwoPoliciesAreAsGoodAsBelady) {
  const RoutingTrace trace = MakeRotation(24, 4, 60);
  const auto blocks = Blocks(24, 4);
  for (const int64_t n_slots : {16, 48, 80}) {
    EXPECT_EQ(RunTrace(trace, blocks, n_slots, PolicyKind::kLru).n_hits, 0);
    const auto bound = static_cast<double>(RunBelady(trace, blocks, n_slots).n_hits);
    EXPECT_GT(bound, 0);
    EXPECT_GE(static_cast<double>(RunTrace(trace, blocks, n_slots, PolicyKind::kCycle).n_hits), 0.97 * bound)
        << n_slots;
    EXPECT_EQ(static_cast<double>(RunTrace(trace, blocks, n_slots, PolicyKind::kRotation).n_hits), bound) << n_slots;
  }
}

TEST(RoutingTrace, TheMadeTraceHasTheLocalityItPromisesAndIsReproducible) {
  const TraceShape shape{"", 8, 64, 8};
  const RoutingTrace trace = MakeTrace(shape, {.n_tokens = 300});
  EXPECT_EQ(trace.n_steps(), 300u);
  EXPECT_EQ(trace.events.size(), 300u * 8);
  const double overlap = NeighbourOverlap(trace);
  EXPECT_GT(overlap, 0.40);  // published for trained models: 0.34 to 0.50
  EXPECT_LT(overlap, 0.52);
  EXPECT_EQ(MakeTrace(shape, {.n_tokens = 300}).wanted, trace.wanted);
  for (size_t i = 0; i < trace.events.size(); ++i) {
    const auto wanted = trace.blocks_of(i);
    ASSERT_EQ(std::set<BlockId>(wanted.begin(), wanted.end()).size(), 8u);
    for (const BlockId block : wanted) ASSERT_EQ(block.value() / 64, trace.events[i].layer);
  }
}

}  // namespace
}  // namespace pantry
