// SPDX-License-Identifier: Apache-2.0
#include "policy/planner/neuron_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/rng.h"

namespace pantry {
namespace {

constexpr int32_t kLayers = 4;
constexpr int32_t kNeurons = 1000;
constexpr int64_t kPosition = 100;

// 10 GB/s a thread up to 18, and a disk of 40000 reads a second at most.
HardwareProfile Machine() {
  HardwareProfile machine;
  machine.dram_read_bytes_per_s = {{1, 10e9}, {2, 18e9}, {4, 18e9}};
  machine.int8_ops_per_s = {{1, 200e9}, {2, 400e9}, {4, 800e9}};
  machine.f32_flops = {{1, 50e9}, {2, 100e9}, {4, 200e9}};
  machine.disk.emplace();
  machine.disk->random = {{8192, 1, 80e6, 0},   {8192, 32, 320e6, 0},  {8192, 128, 328e6, 0},
                          {1 << 20, 1, 1e9, 0}, {1 << 20, 32, 2e9, 0}, {1 << 20, 128, 2e9, 0}};
  return machine;
}

std::vector<uint16_t> Frequencies(uint64_t seed) {
  Rng rng(seed);
  std::vector<uint16_t> frequency;
  for (int i = 0; i < kLayers * kNeurons; ++i) {
    frequency.push_back(static_cast<uint16_t>(std::pow(rng.NextDouble(), 5) * UINT16_MAX));
  }
  return frequency;
}

struct Case {
  explicit Case(uint64_t seed) : frequency(Frequencies(seed)) {
    const std::span<const uint16_t> all = frequency;
    firing = FiringCurve::Of({&all, 1}, {});
    ModelWork dense;
    dense.dense_bytes = 40'000'000;
    dense.int8_macs = 70'000'000;
    dense.kv_bytes_per_position = 1000;
    dense.n_loops = 21;
    WayRequest resident = {
        .way = RunWay::kResident, .work = dense, .pinned_bytes = 50'000'000, .block_bytes = 32'000'000};
    resident.work.dense_bytes += resident.block_bytes;
    WayRequest matrices = {
        .way = RunWay::kMatrices, .work = dense, .pinned_bytes = 20'000'000, .block_bytes = int64_t{64} << 20};
    matrices.work.dense_bytes = 8'000'000;
    matrices.work.n_expert_layers = kLayers;
    matrices.work.n_experts = matrices.work.n_experts_used = 1;
    matrices.work.reads_ahead = true;
    matrices.work.expert_bytes = matrices.work.expert_file_bytes = int64_t{16} << 20;
    matrices.work.expert_pieces = 16;
    const WayRequest neurons = {.way = RunWay::kNeurons,
                                .work = NeuronWork(dense, *firing, kLayers, kNeurons, 16'000'000, 8000, 8192, 8000),
                                .pinned_bytes = 52'000'000,
                                .block_bytes = kLayers * kNeurons * 8000};
    ways = {resident, matrices, neurons};
    for (const uint16_t times : frequency) {
      const double p = times / 65535.0;
      fires += p;
      for (int n = 0; n <= 63; ++n) {
        const double ways_to = std::exp(std::lgamma(64) - std::lgamma(n + 1) - std::lgamma(64 - n));
        const double chance = ways_to * std::pow(p, n) * std::pow(1 - p, 63 - n);
        warm[static_cast<size_t>(n)].n_neurons += chance;
        warm[static_cast<size_t>(n)].fires += chance * p;
      }
    }
  }
  NeuronPlanRequest Request(int64_t budget_bytes) const {
    return {.ways = ways, .firing = &*firing, .budget_bytes = budget_bytes, .most_threads = 4, .position = kPosition};
  }
  struct Warm {
    double n_neurons = 0, fires = 0;
  };
  std::vector<uint16_t> frequency;
  double fires = 0;                // neurons of a token
  std::array<Warm, 64> warm = {};  // by how often of 63 tokens they fired
  std::optional<FiringCurve> firing;
  std::vector<WayRequest> ways;
};

double SlowRate(int n_threads) { return n_threads == 1 ? 10e9 : 18e9; }

// Until n reads of so many bytes are done: 1, 32 or 128 at a time, in between on a line.
double SlowDisk(double n, bool small) {
  const double one = small ? 8192 / 80e6 : 1048576 / 1e9, at_32 = small ? 32 * 8192 / 320e6 : 32 * 1048576 / 2e9,
               at_128 = std::max(at_32, small ? 128 * 8192 / 328e6 : 128 * 1048576 / 2e9);
  if (n <= 1) return n * one;
  if (n <= 32) return one + (at_32 - one) * (n - 1) / 31;
  return n <= 128 ? at_32 + (at_128 - at_32) * (n - 32) / 96 : at_128 * n / 128;
}

// The share of what fires that hits in a cache of those that fired most often of 63 tokens.
double SlowHits(const Case& one, double held) {
  double left = held * static_cast<double>(one.frequency.size()), hits = 0;
  for (size_t n = one.warm.size(); n-- > 0 && left > 0;) {
    const double share = std::min(left / one.warm[n].n_neurons, 1.0);
    hits += share * one.warm[n].fires;
    left -= one.warm[n].n_neurons;
  }
  return std::min(hits / one.fires, 1.0);
}

// Seconds of a token as the header describes them, neuron by neuron.
double SlowToken(const Case& one, const WayRequest& way, int n_threads, double held) {
  const double rate = SlowRate(n_threads) * 0.86, kv = 1000 * (kPosition + 1);
  const double loop_s = n_threads > 1 ? 5e-6 : 0, read_s = 2.6e-6 / n_threads, burst_s = 40e-6 / n_threads;
  if (way.way == RunWay::kResident) return (72e6 + kv) / rate + 21 * loop_s;
  const bool by_neuron = way.way == RunWay::kNeurons;
  const double used = by_neuron ? std::round(one.fires / kLayers) : 1;
  const double missing = 1 - (by_neuron ? SlowHits(one, held) : held);
  const double bytes = by_neuron ? 1.8 * 8000 : 16 * 1048576.0, dense = (by_neuron ? 40e6 : 8e6) + kv;
  const double blocks_s = kLayers * bytes * used * (1 + 2 * missing) / rate;
  const double reads = used * missing * (by_neuron ? 1 : 16);
  const double disk_s = kLayers * SlowDisk(reads, by_neuron) / 0.9;
  const double asking_s = kLayers * (reads * read_s + std::min(reads, by_neuron ? 8.0 : 1.0) * burst_s);
  if (!by_neuron) return std::max(dense / rate + blocks_s + 21 * loop_s + asking_s, disk_s);
  // Beside attention's: eight parts of gates, what is in memory, and a segment's neurons that were read and its sums.
  const double loops_s = (21 + kLayers * (8 + 1 + 2 * std::ceil(one.fires / kLayers / 512) - 2)) * loop_s;
  const double hides = blocks_s + 0.875 * 16e6 / rate;
  return dense / rate + blocks_s - hides + loops_s + std::max(hides + asking_s, disk_s);
}

// Everything that could be done, one by one.
TEST(NeuronPlan, NothingThatTheBudgetAllowsIsFaster) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const Case one(seed);
    for (int64_t budget = 15'000'000; budget <= 100'000'000; budget += 5'000'000) {
      double best = INFINITY;
      for (const WayRequest& way : one.ways) {
        for (int n_threads = 1; n_threads <= 4; ++n_threads) {
          for (int step = 0; step <= 100; ++step) {
            const double held = way.way == RunWay::kResident ? 1 : step / 100.0;
            const double bytes = static_cast<double>(way.pinned_bytes) + held * static_cast<double>(way.block_bytes);
            if (bytes > static_cast<double>(budget)) continue;
            best = std::min(best, SlowToken(one, way, n_threads, held));
          }
        }
      }
      const NeuronPlan plan = PlanNeurons(Machine(), one.Request(budget));
      ASSERT_EQ(plan.ways.empty(), std::isinf(best)) << budget;
      if (plan.ways.empty()) continue;
      const WayPlan& chosen = plan.ways.front();
      EXPECT_LE(chosen.token.likely_s, best * 1.0201) << seed << " " << budget << " " << RunWayName(chosen.way);
      for (const WayRequest& way : one.ways) {
        if (way.way != chosen.way) continue;
        const double slow = SlowToken(one, way, chosen.n_threads, chosen.held_share);
        EXPECT_NEAR(chosen.token.likely_s, slow, 1e-3 * slow) << seed << " " << budget << " " << RunWayName(way.way);
      }
    }
  }
}

TEST(NeuronPlan, MoreMemoryAndMoreThreadsAreNeverSlower) {
  const Case one(7);
  for (const int32_t most_threads : {1, 2, 4}) {
    double before = INFINITY, reads_before = INFINITY;
    for (int64_t budget = 20'000'000; budget <= 110'000'000; budget += 1'000'000) {
      NeuronPlanRequest request = one.Request(budget);
      request.most_threads = most_threads;
      const NeuronPlan plan = PlanNeurons(Machine(), request);
      ASSERT_FALSE(plan.ways.empty());
      EXPECT_LE(plan.ways.front().token.likely_s, before * 1.02);  // speeds as near as that are the same
      before = plan.ways.front().token.likely_s;
      request.most_threads = 1;
      EXPECT_LE(before, PlanNeurons(Machine(), request).ways.front().token.likely_s * 1.02);
      if (plan.batches.empty()) continue;
      EXPECT_LE(plan.batches.front().n_reads, reads_before);
      reads_before = plan.batches.front().n_reads;
    }
    EXPECT_EQ(reads_before, 0) << "at last everything is held";
  }
}

TEST(NeuronPlan, NoThreadTooMany) {
  const Case one(8);
  for (const WayPlan& way : PlanNeurons(Machine(), one.Request(200'000'000)).ways) {
    EXPECT_EQ(way.n_threads, 2) << RunWayName(way.way) << ": four read memory no faster";
    EXPECT_EQ(way.queue_depth, 0);
  }
  const NeuronPlan tight = PlanNeurons(Machine(), one.Request(60'000'000));
  for (const WayPlan& way : tight.ways) EXPECT_EQ(way.queue_depth, 32) << RunWayName(way.way) << ": 128 give 2 % more";
}

TEST(NeuronPlan, BatchesWakeMoreNeuronsButShareTheirReads) {
  const Case one(9);
  const NeuronPlan plan = PlanNeurons(Machine(), one.Request(53'000'000));
  ASSERT_EQ(plan.batches.size(), FiringCurve::kBatches.size());
  for (size_t b = 1; b < plan.batches.size(); ++b) {
    const BatchPlan &fewer = plan.batches[b - 1], &more = plan.batches[b];
    EXPECT_GT(more.n_firing, fewer.n_firing);
    EXPECT_GT(more.n_reads, fewer.n_reads);
    EXPECT_GT(more.run.likely_s, fewer.run.likely_s);
    EXPECT_LT(more.run.likely_s / more.n_tokens, fewer.run.likely_s / fewer.n_tokens);
  }
  EXPECT_EQ(plan.batches.front().run.binds, Resource::kDisk);
  for (const WayPlan& way : plan.ways) {
    if (way.way != RunWay::kNeurons) continue;
    EXPECT_NEAR(way.token.likely_s, plan.batches.front().run.likely_s, 1e-4);
  }
}

TEST(NeuronPlan, TheLeastBudgetForASpeedIsTheLeast) {
  const Case one(10);
  for (const double wanted : {5.0, 20.0, 60.0}) {
    NeuronPlanRequest request = one.Request(200'000'000);
    request.least_tok_per_s = wanted;
    for (const WayPlan& way : PlanNeurons(Machine(), request).ways) {
      if (way.least_budget_bytes == 0) continue;
      // Looked for from below, with the threads that were chosen.
      const auto is_fast = [&](int64_t budget) {
        NeuronPlanRequest less = request;
        less.budget_bytes = budget;
        const NeuronPlan plan = PlanNeurons(Machine(), less);
        return std::any_of(plan.ways.begin(), plan.ways.end(), [&](const WayPlan& other) {
          return other.way == way.way && 1 / other.token.likely_s >= wanted * 0.98;
        });
      };
      EXPECT_TRUE(is_fast(way.least_budget_bytes)) << RunWayName(way.way);
      const bool is_floor = std::any_of(one.ways.begin(), one.ways.end(), [&](const WayRequest& request_way) {
        return request_way.way == way.way && way.least_budget_bytes <= request_way.pinned_bytes + 1;
      });
      EXPECT_FALSE(!is_floor && is_fast(way.least_budget_bytes * 9 / 10)) << RunWayName(way.way) << " " << wanted;
    }
  }
  NeuronPlanRequest request = one.Request(200'000'000);
  request.least_tok_per_s = 1e6;
  for (const WayPlan& way : PlanNeurons(Machine(), request).ways) EXPECT_EQ(way.least_budget_bytes, 0);
}

TEST(NeuronPlan, WhatIsLentHoldsNeuronsButIsTaken) {
  Case one(12);
  NeuronPlanRequest request = one.Request(60'000'000);
  request.least_tok_per_s = 100;
  WayRequest& neurons = one.ways.back();
  request.ways = {&neurons, 1};
  const auto plan = [&] { return PlanNeurons(Machine(), request).ways; };
  const std::vector<WayPlan> none = plan();
  ASSERT_EQ(none.size(), 1u);
  ASSERT_GT(none[0].least_budget_bytes, neurons.pinned_bytes + 1'000'000);
  neurons.lent_bytes = 1'000'000;
  EXPECT_NEAR(plan()[0].held_share, none[0].held_share + 1e6 / static_cast<double>(neurons.block_bytes), 1e-9);
  EXPECT_EQ(plan()[0].least_budget_bytes, none[0].least_budget_bytes - 1'000'000);
  neurons.lent_bytes = neurons.pinned_bytes;
  EXPECT_EQ(plan()[0].least_budget_bytes, neurons.pinned_bytes);
}

TEST(NeuronPlan, ALargeModelIsPlanned) {
  const std::vector<uint16_t> frequency = Frequencies(11);
  const std::vector<std::span<const uint16_t>> layers(200, frequency);  // 800000 neurons
  const FiringCurve firing = FiringCurve::Of(layers, {0.1, 0.15, 0.2, 0.25, 0.3, 0.35});
  Case one(11);
  one.firing = firing;
  NeuronPlanRequest request = one.Request(60'000'000);
  request.most_threads = 64;
  request.least_tok_per_s = 10;
  EXPECT_FALSE(PlanNeurons(Machine(), request).ways.empty());
}

}  // namespace
}  // namespace pantry
