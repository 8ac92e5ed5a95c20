// SPDX-License-Identifier: Apache-2.0
#include "sim/simulator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/units.h"
#include "policy/planner/firing_curve.h"
#include "policy/planner/speed_estimate.h"
#include "residency/cache/commit_memory.h"
#include "sim/replay.h"
#include "sim/sim_test_models.h"
#include "sys/memory_info.h"

namespace pantry {
namespace {

using testing::SmallDevice;
using testing::SmallModel;
using testing::SmallTrace;

SimOptions HalfCache(const SimModel& model, double share = 0.5) {
  SimOptions options;
  options.cache_bytes = static_cast<int64_t>(share * model.block_bytes());
  return options;
}

SimReport Simulated(const SimModel& model, const RoutingTrace& trace, const DeviceProfile& device,
                    const SimOptions& options, const SimObservers& observers = {}) {
  auto report = Simulate(model, trace, device, options, observers);
  EXPECT_TRUE(report.ok()) << report.status().ToString();
  return report.ok() ? *std::move(report) : SimReport();
}

void ExpectSame(const SimReport& a, const SimReport& b) {
  EXPECT_EQ(a.wall_us, b.wall_us);
  EXPECT_EQ(a.time_us, b.time_us);
  EXPECT_EQ(a.cache.n_hits, b.cache.n_hits);
  EXPECT_EQ(a.reader.bytes_read, b.reader.bytes_read);
  ASSERT_EQ(a.runs.size(), b.runs.size());
  for (size_t i = 0; i < a.runs.size(); ++i) EXPECT_EQ(a.runs[i].us, b.runs[i].us);
}

TEST(Simulator, SameInputsGiveTheSameReportToTheBit) {
  const SimModel model = SmallModel();
  const RoutingTrace trace = SmallTrace(model);
  const SimOptions options = HalfCache(model);
  const SimReport first = Simulated(model, trace, SmallDevice(), options);
  EXPECT_GT(first.cache.n_misses, 0);
  EXPECT_GT(first.cache.n_guesses, 0);
  ExpectSame(first, Simulated(model, trace, SmallDevice(), options));
}

TEST(Simulator, TimesOfAllUsesAddUpToTheWall) {
  for (const double share : {0.1, 0.5, 1.0}) {
    for (const bool has_second : {false, true}) {
      SimModel model = SmallModel();
      DeviceProfile device = SmallDevice();
      device.dram_bytes_per_s = 25e9;
      if (has_second) device.second = SecondExecutor{"unit", 15e9, 1e12};
      for (SimStep& step : model.steps) step.beside = {.bytes = 1e6, .int8_macs = 2e6};
      const SimReport report = Simulated(model, SmallTrace(model), device, HalfCache(model, share));
      const double sum = std::accumulate(report.time_us.begin(), report.time_us.end(), 0.0);
      EXPECT_NEAR(sum, report.wall_us, 1e-6 * report.wall_us);
      double of_runs = 0;
      for (const SimRun& run : report.runs) of_runs += run.us;
      EXPECT_NEAR(of_runs, report.wall_us, 1e-6 * report.wall_us);
      // What the pipeline itself counts, by its clock of whole microseconds.
      EXPECT_NEAR(report.time_us[static_cast<size_t>(TimeUse::kPlacing)], static_cast<double>(report.stream.place_us),
                  1.0 * static_cast<double>(report.reader.n_reads) + 1);
    }
  }
}

// A second executor takes all that is beside, but nothing of what chooses the blocks.
TEST(Simulator, WhatChoosesBlocksIsComputedByTheCoresAlone) {
  SimModel model = SmallModel();
  DeviceProfile device = SmallDevice();
  const auto wall_us = [&] { return Simulated(model, SmallTrace(model), device, HalfCache(model)).wall_us; };
  device.second = SecondExecutor{"unit", 15e9, 1e12};
  for (SimStep& step : model.steps) step.beside = {.bytes = 1};
  const double without_us = wall_us();
  for (SimStep& step : model.steps) step.choosing = {.bytes = 20e6};  // a millisecond of two cores
  EXPECT_GT(wall_us(), without_us + 60 * 6 * 900);
  device.second->dram_bytes_per_s *= 10;
  EXPECT_GT(wall_us(), 60 * 6 * 1000);
}

TEST(Simulator, SparseBlocksCostMoreMemoryTrafficThanTheyHaveBytes) {
  SimModel model = SmallModel();
  const auto memory_bytes = [&] {
    return Simulated(model, SmallTrace(model), SmallDevice(), HalfCache(model)).memory_bytes;
  };
  const double dense = memory_bytes();
  model.block_cost.bytes = model.block_cost.traffic = 1.5;
  const double n_blocks = 60.0 * 6 * 4;  // tokens, layers, used
  EXPECT_NEAR(memory_bytes() - dense, 0.5 * n_blocks * 600'000, 1);
}

TEST(Simulator, BytesReadAreThoseOfTheBlocksBroughtIn) {
  const SimModel model = SmallModel(4, 16, 4, 64 * kKiB);  // pieces of whole pages: nothing is read beside them
  SimOptions options = HalfCache(model);
  options.guess_recall = 0;
  const SimReport report = Simulated(model, SmallTrace(model), SmallDevice(), options);
  EXPECT_GT(report.cache.n_misses, 0);
  EXPECT_EQ(report.cache.n_late, 0);
  EXPECT_EQ(report.reader.bytes_read, report.cache.n_misses * 3 * 64 * kKiB);
  EXPECT_EQ(report.reader.bytes_read, report.cache.missed_bytes);
}

// The stream of a simulation and the bare cache see the same.
TEST(Simulator, WithoutGuessesCountsAreThoseOfTheReplayer) {
  const SimModel model = SmallModel();
  const RoutingTrace trace = SmallTrace(model, 120);
  for (const PolicyKind policy : {PolicyKind::kLru, PolicyKind::kLfu, PolicyKind::kLrfu, PolicyKind::kCycle}) {
    for (const double share : {0.1, 0.3, 0.7}) {
      SCOPED_TRACE(fmt::format("{} {}", PolicyName(policy), share));
      SimOptions options = HalfCache(model, share);
      options.policy.kind = policy;
      options.guess_recall = 0;
      options.skip_steps = 20;
      const SimReport report = Simulated(model, trace, SmallDevice(), options);
      BlockCacheOptions cache_options;
      cache_options.budget_bytes = options.cache_bytes;
      cache_options.policy.kind = policy;
      auto cache = BlockCache::Create(model.blocks, cache_options);
      ASSERT_TRUE(cache.ok());
      const auto replayed = Replay(trace, **cache, {.skip_steps = 20, .watch = {}});
      ASSERT_TRUE(replayed.ok());
      EXPECT_EQ(report.cache.n_hits, replayed->n_hits);
      EXPECT_EQ(report.cache.n_misses, replayed->n_misses);
      EXPECT_EQ(report.cache.n_evicted, replayed->n_evicted);
      EXPECT_EQ(report.cache.missed_bytes, replayed->missed_bytes);
    }
  }
}

TEST(Simulator, AFasterDiskIsNeverSlower) {
  for (const uint64_t seed : {1, 2, 3, 4}) {
    const SimModel model = SmallModel();
    const RoutingTrace trace = SmallTrace(model, 40, seed);
    for (const double recall : {0.0, 0.5}) {
      double before_us = 0;
      for (const double rate : {8e9, 4e9, 2e9, 1e9, 0.3e9, 0.05e9}) {
        SimOptions options = HalfCache(model, 0.3);
        options.guess_recall = recall;
        options.seed = seed;
        const double wall_us = Simulated(model, trace, SmallDevice(rate), options).wall_us;
        // Other blocks come first, and guesses see another cache: a thousandth is not a slower disk.
        EXPECT_GT(wall_us, 0.999 * before_us) << rate;
        before_us = wall_us;
      }
    }
  }
}

TEST(Simulator, ALargerCacheReadsLessAndIsFaster) {
  const SimModel model = SmallModel();
  const RoutingTrace trace = SmallTrace(model, 150);
  double before = 0;
  int64_t bytes_before = INT64_MAX;
  for (const double share : {0.15, 0.3, 0.5, 0.8}) {
    const SimReport report = Simulated(model, trace, SmallDevice(), HalfCache(model, share));
    EXPECT_GT(report.tok_per_s(), before);
    EXPECT_LT(report.reader.bytes_read, bytes_before);
    before = report.tok_per_s();
    bytes_before = report.reader.bytes_read;
  }
  SimOptions resident;
  EXPECT_GT(Simulated(model, trace, SmallDevice(), resident).tok_per_s(), before);
}

// Where nothing is missing, the simulator says what the planner says of the same rates.
TEST(Simulator, ResidentSpeedIsThatOfTheSpeedEstimate) {
  SimModel model = SmallModel();
  DeviceProfile device = SmallDevice();
  device.step_us = 0;
  device.memory_share = 0.86;  // what the planner takes for likely
  const SimReport report = Simulated(model, SmallTrace(model, 1), device, {});
  ModelWork work;
  work.n_expert_layers = model.n_layers();
  work.n_experts = model.n_experts;
  work.n_experts_used = model.n_used;
  work.expert_bytes = static_cast<double>(model.blocks[0].n_bytes);
  work.dense_bytes = static_cast<int64_t>(6 * 4e6 + 20e6);
  work.int8_macs = static_cast<int64_t>(6 * 7e6 + 6 * 4 * model.block_macs[0]);
  work.output_int8_macs = 35'000'000;
  work.kv_bytes_per_position = 20'000;
  const SpeedEstimate estimate = EstimateToken(device.Rates(2, 0), work, 0, {});
  EXPECT_EQ(estimate.binds, Resource::kMemory);
  EXPECT_NEAR(report.tok_per_s(), 1 / estimate.likely_s, 1e-3 / estimate.likely_s);
  work.expert_cost = model.block_cost = FiredCost(kExpertFiringShare);
  const double sparse_s = EstimateToken(device.Rates(2, 0), work, 0, {}).likely_s;
  EXPECT_LT(sparse_s, estimate.likely_s);
  EXPECT_NEAR(Simulated(model, SmallTrace(model, 1), device, {}).tok_per_s(), 1 / sparse_s, 1e-3 / sparse_s);
}

TEST(Simulator, AModelInRotationReadsWhatTheCacheDoesNotHold) {
  const auto shape = FindShape("llama-7b");
  ASSERT_TRUE(shape.ok());
  const SimModel model = ModelOf(*shape, 512);
  SimOptions options = HalfCache(model, 0.5);
  options.n_tokens = 4;
  options.skip_steps = 1;
  const int64_t before = ResidentSetBytes();
  const SimReport report = Simulated(model, {}, SmallDevice(), options);
  const double per_token = static_cast<double>(report.reader.bytes_read) / 3;
  EXPECT_GT(per_token, 0.48 * model.block_bytes());
  EXPECT_LT(per_token, 0.56 * model.block_bytes());
  // The disk is what it waits for, and is never idle for long.
  EXPECT_GT(report.flash_busy_us, 0.9 * report.wall_us);
  EXPECT_LT(ResidentSetBytes() - before, 64 * kMiB) << "a model of 3.7 GB was touched";
}

TEST(Simulator, AnEarlyRouterHidesReadsBehindAttention) {
  SimModel late = SmallModel();
  SimModel early = late;
  for (SimStep& step : early.steps) {
    step.between = step.before;
    step.before = {};
  }
  SimOptions options = HalfCache(late, 0.3);
  options.guess_recall = 0;
  const RoutingTrace trace = SmallTrace(late);
  const SimReport a = Simulated(late, trace, SmallDevice(), options),
                  b = Simulated(early, trace, SmallDevice(), options);
  EXPECT_LT(b.wall_us, a.wall_us);
  EXPECT_GT(b.cache.n_late, 0);
}

TEST(Simulator, WithoutOverlapATokenTakesLonger) {
  const SimModel model = SmallModel();
  SimOptions options = HalfCache(model, 0.4);
  const RoutingTrace trace = SmallTrace(model);
  const double overlapped = Simulated(model, trace, SmallDevice(), options).wall_us;
  options.overlap = Overlap::kNothing;
  const double together = Simulated(model, trace, SmallDevice(), options).wall_us;
  EXPECT_LT(overlapped, together);
}

TEST(Simulator, FreshMemoryThatWasNotCommittedBeforeIsPaidForOnce) {
  const SimModel model = SmallModel();
  DeviceProfile device = SmallDevice();
  const SimOptions options = HalfCache(model, 0.5);
  const RoutingTrace trace = SmallTrace(model);
  const double free_us = Simulated(model, trace, device, options).wall_us;
  device.fresh_bytes_per_s = 1e9;
  EXPECT_EQ(Simulated(model, trace, device, options).wall_us, free_us);
  // So slow that half of the cache is committed.
  const auto half_bytes = static_cast<double>(options.cache_bytes) / 2;
  device.fresh_bytes_per_s = half_bytes / (1e-6 * kMostCommitUs * std::pow(device.n_cores, 0.85));
  const double paid_us = Simulated(model, trace, device, options).wall_us - free_us;
  const double half_us = 1e6 * half_bytes / device.fresh_bytes_per_s;
  EXPECT_GT(paid_us, 0.5 * half_us);
  EXPECT_LT(paid_us, 1.05 * half_us);
  // So fast, with so many, that no integer holds what they could commit.
  device.n_cores = 64;
  device.fresh_bytes_per_s = 0;
  const double free_of_many_us = Simulated(model, trace, device, options).wall_us;
  device.fresh_bytes_per_s = 9e17;
  EXPECT_EQ(Simulated(model, trace, device, options).wall_us, free_of_many_us);
}

TEST(Simulator, MemoryThatWasGivenBackIsFreshWhenItIsLentAgain) {
  const SimModel model = SmallModel();
  const RoutingTrace trace = SmallTrace(model, 90);
  const int64_t slot_bytes = BlockCache::SlotBytes(600'000), idle_bytes = 10 * slot_bytes;
  SimOptions options;
  options.cache_bytes = 20 * slot_bytes;
  options.most_idle_bytes = idle_bytes;
  options.guess_recall = 0;
  const auto paid_slots = [&](auto idle) {
    options.idle_bytes = [idle, idle_bytes](int64_t n_positions, int64_t) {
      return idle(n_positions) ? idle_bytes : 0;
    };
    DeviceProfile device = SmallDevice();
    device.n_cores = 1;  // which place one block after the other
    const double free_us = Simulated(model, trace, device, options).wall_us;
    device.fresh_bytes_per_s = 1e5;  // next to nothing is committed before, nothing hides behind the disk
    const double paid_us = Simulated(model, trace, device, options).wall_us - free_us;
    return 1e-6 * paid_us * device.fresh_bytes_per_s / static_cast<double>(slot_bytes);
  };
  EXPECT_NEAR(paid_slots([](int64_t) { return true; }), 30, 2);
  EXPECT_NEAR(paid_slots([](int64_t n_positions) { return n_positions <= 30 || n_positions > 60; }), 40, 2);
}

constexpr auto kBlocks = static_cast<size_t>(TimeUse::kBlocks), kBetween = static_cast<size_t>(TimeUse::kBetween);

// Lines that lie apart take longer, but are no more bytes.
TEST(Simulator, WhatRestsIsNeitherReadNorComputed) {
  SimModel model = SmallModel();
  const RoutingTrace trace = SmallTrace(model);
  DeviceProfile device = SmallDevice();
  device.step_us = 0;
  const SimReport all = Simulated(model, trace, device, {});
  model.block_cost = FiredCost(0.1);
  const SimReport some = Simulated(model, trace, device, {});
  EXPECT_NEAR(some.time_us[kBlocks], (1 + 0.2 * kScattered) / 3 * all.time_us[kBlocks], 1);
  EXPECT_NEAR(some.time_us[kBetween], all.time_us[kBetween], 1e-6 * all.time_us[kBetween]);
  const double block_bytes = 60.0 * 6 * 4 * 600'000;
  EXPECT_NEAR(all.memory_bytes - some.memory_bytes, (1 - 1.2 / 3) * block_bytes, 1);
  device.int8_ops_per_s = {{1, 4e9}, {2, 8e9}};
  const SimReport some_slowly = Simulated(model, trace, device, {});
  model.block_cost = {};
  EXPECT_NEAR(some_slowly.time_us[kBlocks], 1.2 / 3 * Simulated(model, trace, device, {}).time_us[kBlocks], 1)
      << "bound by arithmetic, which knows nothing of lines";
}

// What is computed of a block depends on how many rows of a run picked it, not on how long the run is.
TEST(Simulator, BlocksOfFewPicksAreComputedInPart) {
  SimModel model = SmallModel(1);
  const auto blocks_us = [&](int32_t n_tokens, uint32_t n_blocks, bool is_sparse) {
    RoutingTrace trace;
    std::vector<BlockId> wanted;
    for (uint32_t i = 0; i < n_blocks; ++i) wanted.emplace_back(i);
    trace.Add(0, true, wanted, n_tokens);
    model.block_cost = is_sparse ? FiredCost(0.1) : SparseCost();
    DeviceProfile device = SmallDevice();
    device.step_us = 0;
    return Simulated(model, trace, device, {}).time_us[kBlocks];
  };
  const auto share = [&](int32_t n_tokens, uint32_t n_blocks) {
    return blocks_us(n_tokens, n_blocks, true) / blocks_us(n_tokens, n_blocks, false);
  };
  const double gate = 1.0 / 3, rest = 0.2 * kScattered / 3;
  EXPECT_NEAR(share(1, 4), gate + rest, 1e-6);
  EXPECT_NEAR(share(4, 16), gate + rest, 1e-6) << "sixteen picks of sixteen blocks";
  EXPECT_NEAR(share(4, 8), gate + 2 * rest, 1e-6) << "two picks of each";
  EXPECT_NEAR(share(4, 5), gate + 3.2 * rest, 1e-6);
  EXPECT_NEAR(share(2, 4), gate + 2 * rest, 1e-6);
  EXPECT_NEAR(share(4, 4), gate + 4 * rest, 1e-6);
  EXPECT_NEAR(share(5, 4), 1, 1e-6);
}

TEST(Simulator, ATraceOfAnotherModelIsRefused) {
  const SimModel model = SmallModel(2);
  const auto report = Simulate(model, SmallTrace(SmallModel(3)), SmallDevice(), HalfCache(model));
  EXPECT_EQ(report.status().code(), StatusCode::kInvalidArgument);
}

TEST(Simulator, EventsOutOfTheModelsOrderAreRefusedWithTheirToken) {
  const SimModel model = SmallModel(2);
  for (const std::vector<int>& layers : {std::vector<int>{1, 0}, std::vector<int>{0, 0, 1}}) {
    RoutingTrace trace = SmallTrace(model, 1);
    for (size_t i = 0; i < layers.size(); ++i) {
      const BlockId block(static_cast<uint32_t>(layers[i] * model.n_experts));
      trace.Add(layers[i], i == 0, {&block, 1});
    }
    const auto report = Simulate(model, trace, SmallDevice(), HalfCache(model));
    EXPECT_EQ(report.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(report.status().message()), ::testing::HasSubstr("token 1: layer"));
  }
}

// Not even the slowest machine takes forever.
TEST(Simulator, TheLeastRatesStillEnd) {
  DeviceProfile device = SmallDevice();
  device.dram_read_bytes_per_s = device.int8_ops_per_s = device.f32_flops = {{1, 1}};
  device.flash = {{4096, 1, 1, 0}};
  device.dram_bytes_per_s = device.place_bytes_per_s = device.fresh_bytes_per_s = 1;
  device.memory_share = device.arithmetic_share = device.flash_share = 1e-6;
  const SimModel model = SmallModel(2);
  const SimReport report = Simulated(model, SmallTrace(model, 2), device, HalfCache(model));
  EXPECT_TRUE(std::isfinite(report.wall_us));
  EXPECT_GT(report.wall_us, 1e15);
}

// A made-up trace has a token of every topic, however many there are.
TEST(MakeTrace, TopicsWithoutATokenOfTheirOwnGetOne) {
  const RoutingTrace trace = MakeTrace({"many", 1, 4, 1}, {.n_tokens = 500, .n_topics = 8192});
  EXPECT_EQ(trace.n_steps(), 500u);
}

TEST(Simulator, ACacheThatIsTooSmallIsRefused) {
  const SimModel model = SmallModel();
  SimOptions options;
  options.cache_bytes = model.blocks[0].n_bytes / 2;
  EXPECT_EQ(Simulate(model, SmallTrace(model), SmallDevice(), options).status().code(), StatusCode::kOutOfBudget);
}

TEST(Shapes, HaveTheBytesOfTheirModels) {
  const auto gigabytes = [](std::string_view name) {
    const auto shape = FindShape(name);
    EXPECT_TRUE(shape.ok());
    const SimModel model = ModelOf(*shape, 512);
    EXPECT_TRUE(model.Validate().ok());
    return (model.block_bytes() + static_cast<double>(model.memory.dense_bytes)) / 1e9;
  };
  EXPECT_NEAR(gigabytes("llama-7b"), 6.74 * kQ4Bytes, 0.05);      // 6.74 billion weights
  EXPECT_NEAR(gigabytes("bamboo-7b"), 7.24 * kQ4Bytes, 0.05);     // as Mistral
  EXPECT_NEAR(gigabytes("mixtral-47b"), 46.7 * kQ4Bytes, 0.3);    //
  EXPECT_NEAR(gigabytes("qwen3-30b-a3b"), 30.5 * kQ4Bytes, 0.3);  //
  EXPECT_NEAR(gigabytes("olmoe-7b-a1b"), 6.92 * kQ4Bytes, 0.05);  //
  EXPECT_EQ(FindShape("gpt-9").status().code(), StatusCode::kNotFound);
}

TEST(Simulator, BeladyMissesLeast) {
  const SimModel model = testing::SmallModel();
  const RoutingTrace trace = testing::SmallTrace(model);
  SimOptions options;
  options.cache_bytes = int64_t{40} * BlockCache::SlotBytes(600'000);
  options.guess_recall = 0;
  SimOptions bound = options;
  bound.knows_future = true;
  const auto best = Simulate(model, trace, testing::SmallDevice(), bound);
  ASSERT_TRUE(best.ok()) << best.status().ToString();
  for (const PolicyKind policy : {PolicyKind::kLru, PolicyKind::kLfu, PolicyKind::kLrfu, PolicyKind::kCycle}) {
    options.policy.kind = policy;
    const auto other = Simulate(model, trace, testing::SmallDevice(), options);
    ASSERT_TRUE(other.ok());
    EXPECT_LT(best->cache.n_misses, other->cache.n_misses) << PolicyName(policy);
  }
}

TEST(Simulator, WhatIsIdleIsTheCaches) {
  const SimModel model = testing::SmallModel();
  const RoutingTrace trace = testing::SmallTrace(model);
  SimOptions options;
  options.cache_bytes = int64_t{20} * BlockCache::SlotBytes(600'000);
  const int64_t idle_bytes = int64_t{10} * BlockCache::SlotBytes(600'000);
  SimOptions larger = options;
  larger.cache_bytes += idle_bytes;
  SimOptions lent = options;
  lent.most_idle_bytes = idle_bytes;
  lent.idle_bytes = [](int64_t, int64_t) { return INT64_MAX / 4; };  // no more than the most
  const DeviceProfile device = testing::SmallDevice();
  const auto a = Simulate(model, trace, device, larger), b = Simulate(model, trace, device, lent);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->cache.n_hits, b->cache.n_hits);
  EXPECT_EQ(a->wall_us, b->wall_us);
  // What is taken back at half of the positions is evicted.
  lent.idle_bytes = [idle_bytes](int64_t n_positions, int64_t) { return n_positions > 30 ? 0 : idle_bytes; };
  const auto c = Simulate(model, trace, device, lent), d = Simulate(model, trace, device, options);
  ASSERT_TRUE(c.ok() && d.ok());
  EXPECT_LT(c->cache.n_hits, a->cache.n_hits);
  EXPECT_GT(c->cache.n_hits, d->cache.n_hits);
}

}  // namespace
}  // namespace pantry
