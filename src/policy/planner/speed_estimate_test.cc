// SPDX-License-Identifier: Apache-2.0
#include "policy/planner/speed_estimate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

namespace pantry {
namespace {

// 10 GB/s of memory, 1 T int8 operations a second; a disk whose every read of 1 MB takes 1 ms, four at a time no longer.
MachineRates Machine() {
  MachineRates rates;
  rates.memory_bytes_per_s = 10e9;
  rates.int8_ops_per_s = 1e12;
  rates.f32_flops = 100e9;
  rates.disk = {{1, 1e9}, {4, 4e9}, {16, 4e9}};
  return rates;
}

// 1 GB of every token; 10 layers of 64 experts of 10 MB each, 8 used, each read in 10 pieces of 1 MB: 0.8 GB of a token.
ModelWork Mixture() {
  ModelWork work;
  work.dense_bytes = 1'000'000'000;
  work.int8_macs = 3'000'000'000;
  work.n_expert_layers = 10;
  work.n_experts = 64;
  work.n_experts_used = 8;
  work.expert_bytes = work.expert_file_bytes = 10e6;
  work.expert_pieces = 10;
  return work;
}

TEST(SpeedEstimate, AResidentTokenTakesItsBytesOverTheMemoryRate) {
  const SpeedEstimate token = EstimateToken(Machine(), Mixture(), 0, {1, 1, 1});
  EXPECT_NEAR(token.low_s, 1.8e9 / 10e9, 1e-9);
  EXPECT_NEAR(token.likely_s, 0.18 / 0.86, 1e-9);
  EXPECT_NEAR(token.high_s, 0.18 / 0.75, 1e-9);
  EXPECT_EQ(token.disk_s, 0);
  EXPECT_EQ(token.binds, Resource::kMemory);
}

TEST(SpeedEstimate, KeysAndValuesOfThePositionsAreRead) {
  ModelWork work = Mixture();
  work.kv_bytes_per_position = 100'000;
  const double without = EstimateToken(Machine(), work, 0, {}).low_s;
  EXPECT_NEAR(EstimateToken(Machine(), work, 1000, {}).low_s - without, 1000 * 1e5 / 10e9, 1e-9);
}

// By hand: 8 experts of 10 pieces at hit 0.75 are 20 pieces a layer, which at 4 GB/s take 5 ms: 50 ms for 10 layers.
// Memory: 1 GB + 10 layers x 10 MB x (8 used + 2 x 2 missed) = 2.2 GB, 220 ms, of which experts are 120.
TEST(SpeedEstimate, WhatIsMissingCostsDiskAndMemory) {
  const HitRange hits = {0.75, 0.75, 0.75};
  const SpeedEstimate token = EstimateToken(Machine(), Mixture(), 0, hits);
  EXPECT_NEAR(token.low_s, 0.220, 1e-9);  // all of the disk is hidden
  // A layer that misses k experts waits for as much of their k x 2.5 ms as its 12 ms of experts do not hide.
  double waits_s = 0, ways_to = 1;
  for (int k = 0; k <= 8; ++k) {
    const double chance = ways_to * std::pow(0.25, k) * std::pow(0.75, 8 - k);
    waits_s += 10 * chance * std::max(k * 0.0025 / 0.9 - 0.012 / 0.86, 0.0);
    ways_to = ways_to * (8 - k) / (k + 1);
  }
  EXPECT_GT(waits_s, 1e-5);
  EXPECT_NEAR(token.likely_s, 0.220 / 0.86 + waits_s, 1e-9);
  EXPECT_NEAR(token.high_s, (0.220 + 0.050) / 0.75, 1e-9);  // nothing is hidden
  EXPECT_NEAR(token.disk_s, 0.050 / 0.9, 1e-9);
  EXPECT_EQ(token.binds, Resource::kMemory);
}

TEST(SpeedEstimate, AnEmptyCacheIsBoundByTheDisk) {
  MachineRates slow = Machine();
  slow.disk = {{1, 1e9}};
  const SpeedEstimate token = EstimateToken(slow, Mixture(), 0, {0, 0, 0});
  EXPECT_EQ(token.binds, Resource::kDisk);
  EXPECT_NEAR(token.low_s, 0.8, 1e-9);  // 0.8 GB at 1 GB/s
  // Work: 1 GB + 3 x 0.8 GB; its dense part hides nothing.
  EXPECT_NEAR(token.likely_s, 0.1 / 0.86 + 0.8 / 0.9, 1e-9);
  EXPECT_NEAR(token.high_s, (0.34 + 0.8) / 0.75, 1e-9);
}

TEST(SpeedEstimate, APromptIsBoundByArithmetic) {
  ModelWork dense;
  dense.dense_bytes = 1'000'000'000;
  dense.int8_macs = 1'000'000'000;
  const SpeedEstimate prompt = EstimatePrompt(Machine(), dense, 512, 512, false, 1);
  EXPECT_EQ(prompt.binds, Resource::kArithmetic);
  // Weights come once, and are decoded once, which takes as long as three more rows.
  EXPECT_NEAR(prompt.low_s, 515 * 2e9 / 1e12 / 0.65 + 0.1, 1e-6);
  EXPECT_NEAR(prompt.high_s, 515 * 2e9 / 1e12 / 0.40 + 0.1 / 0.75, 1e-6);
}

// Four tokens of a prompt leave each of ten experts one row, 400 of them a hundred: a token of many costs less.
TEST(SpeedEstimate, ExpertsOfFewRowsAreDecodedForFew) {
  ModelWork work = Mixture();
  work.int8_macs = 800'000'000;
  work.expert_int8_macs = 10'000'000;  // x 10 layers x 8 used: all of it
  const auto arithmetic_s = [&](int64_t n) { return EstimatePrompt(Machine(), work, n, 512, false, 1).arithmetic_s; };
  const double of_token = 2 * 0.8e9 / 1e12 / 0.5;
  EXPECT_NEAR(arithmetic_s(4), 4 * of_token, 1e-9) << "few rows are decoded on the way";
  EXPECT_NEAR(arithmetic_s(512), (512 + 3 * 8) * of_token, 1e-6) << "64 experts are as much as 8 tokens";
  EXPECT_NEAR(arithmetic_s(8), (8 + 3 * 8 * (1 - std::pow(0.875, 8))) * of_token, 1e-9);
}

// Of 100 neurons of a layer a token fires 10, and 512 tokens 50: those go up for all rows, and all go down.
TEST(SpeedEstimate, NeuronsRunForAllRowsOfAPrompt) {
  ModelWork work;
  work.n_expert_layers = 10;
  work.n_experts = 100;
  work.n_experts_used = 10;
  work.expert_int8_macs = 1'000'000;
  work.int8_macs = 100'000'000;
  work.rows_share = 1;
  work.used_by_run = {0.1, 0.2, 0.3, 0.4, 0.5};
  const auto arithmetic_s = [&](int64_t n) { return EstimatePrompt(Machine(), work, n, 512, false, 1).arithmetic_s; };
  const double of_neurons = 2 * 10 * 1e6 / 1e12 / 0.5;  // one of each layer, for one row
  EXPECT_NEAR(arithmetic_s(1), 10 * of_neurons, 1e-12);
  EXPECT_NEAR(arithmetic_s(4), 4 * 30 * of_neurons, 1e-12);
  EXPECT_NEAR(arithmetic_s(512), (512 * 75 + 3 * 50) * of_neurons, 1e-9);
  work.rows_share = 0.25;  // of experts: of the rows a quarter use each
  EXPECT_NEAR(arithmetic_s(512), (512 * 75 * 0.25 + 3 * 50) * of_neurons, 1e-9);
}

TEST(SpeedEstimate, NeighboursShareARead) {
  MachineRates rates = Machine();
  rates.disk_bytes_per_s = 2e9;
  ModelWork work = Mixture();
  work.expert_pieces = 1;
  work.expert_file_bytes = 1e6;
  work.used_by_run = {0.125, 0.5, 0.75, 1};
  const auto disk_s = [&](int64_t n) { return EstimatePrompt(rates, work, n, 512, true, 0).disk_s * 0.9 / 10; };
  EXPECT_NEAR(disk_s(2), 32 * 1e6 / 4e9, 1e-9);
  work.neighbour_bytes = 0.5e6;
  EXPECT_NEAR(disk_s(2), 16 * 1e6 / 4e9 + 16 * 0.5e6 / 2e9, 1e-9) << "half of all: two in a row in the mean";
  EXPECT_NEAR(disk_s(4), 12 * 1e6 / 4e9 + 36 * 0.5e6 / 2e9, 1e-9);
  EXPECT_NEAR(disk_s(8), 4 * 1e6 / 4e9 + 60 * 0.5e6 / 2e9, 1e-9) << "sixteen at most";
}

TEST(SpeedEstimate, AttentionOfAPromptGrowsWithItsSquare) {
  ModelWork work;
  work.attention_macs_per_position = 1'000'000;
  const double short_s = EstimatePrompt(Machine(), work, 1000, 1000, false, 1).low_s;
  const double long_s = EstimatePrompt(Machine(), work, 2000, 1000, false, 1).low_s;
  // Token i sees i + 1 positions: n (n + 1) / 2 pairs.
  EXPECT_NEAR(short_s, 1000.0 * 1001 / 2 * 2e6 / 100e9 / 0.65, 1e-6);
  EXPECT_NEAR(long_s, 2000.0 * 2001 / 2 * 2e6 / 100e9 / 0.65, 1e-6);
}

// One token of a prompt alone uses 8 experts a layer; 512 together use all of them once, not 512 x 8.
TEST(SpeedEstimate, ABatchReadsAnExpertOnce) {
  const SpeedEstimate one = EstimatePrompt(Machine(), Mixture(), 1, 512, true, 0.5);
  const SpeedEstimate many = EstimatePrompt(Machine(), Mixture(), 512, 512, true, 0.5);
  EXPECT_NEAR(one.disk_s, 10 * 8 * 10e6 / 4e9 / 0.9, 1e-6);
  EXPECT_NEAR(many.disk_s, 10 * 64 * 10e6 / 4e9 / 0.9, 1e-6);
  // The second batch finds there what the cache holds.
  const SpeedEstimate twice = EstimatePrompt(Machine(), Mixture(), 1024, 512, true, 0.5);
  EXPECT_NEAR(twice.disk_s, 1.5 * many.disk_s, 1e-6);
}

TEST(SpeedEstimate, TokensThatShareExpertsReadFewer) {
  ModelWork work = Mixture();
  work.used_by_run = {0.125, 0.15, 0.25};  // of 64 experts, by 1, 2 and 4 tokens
  const auto disk_s = [&](int64_t n, double warm_hits) {
    return EstimatePrompt(Machine(), work, n, 512, true, 0.1, warm_hits).disk_s;
  };
  EXPECT_NEAR(disk_s(1, 0), 10 * 8 * 10e6 / 4e9 / 0.9, 1e-9);
  EXPECT_NEAR(disk_s(4, 0), 10 * 16 * 10e6 / 4e9 / 0.9, 1e-9);
  EXPECT_NEAR(disk_s(100, 0), disk_s(4, 0), 1e-9);
  const double of_three = 0.15 + 0.1 * (std::log2(3.0) - 1);
  EXPECT_NEAR(disk_s(3, 0), 10 * 64 * of_three * 10e6 / 4e9 / 0.9, 1e-9);
  // A tenth of all is there, which the tokens use, and half of it gives way to what is read before its turn comes; of a fifth, an eighth of it.
  EXPECT_NEAR(disk_s(4, 0.9), 0.8 * disk_s(4, 0), 1e-4);
  EXPECT_NEAR(EstimatePrompt(Machine(), work, 4, 512, true, 0.2, 0.9).disk_s, 0.3 * disk_s(4, 0), 1e-4);
  EXPECT_EQ(EstimatePrompt(Machine(), work, 4, 512, true, 0.3, 1).disk_s, 0);
  EXPECT_NEAR(EstimatePrompt(Machine(), work, 4, 512, true, 0.3, 0.6).disk_s, 0.4 * disk_s(4, 0), 1e-4)
      << "what it holds is not what is wanted";
}

TEST(SpeedEstimate, MoreMemoryIsNeverSlower) {
  MachineRates noisy = Machine();
  noisy.disk = {{1, 0.5e9}, {4, 2.5e9}, {16, 1.9e9}, {32, 2.1e9}};
  SpeedEstimate before = EstimateToken(noisy, Mixture(), 100, ExpectedHits(0));
  SpeedEstimate prompt_before = EstimatePrompt(noisy, Mixture(), 1500, 512, true, 0);
  for (int percent = 1; percent <= 100; ++percent) {
    const SpeedEstimate token = EstimateToken(noisy, Mixture(), 100, ExpectedHits(percent / 100.0));
    EXPECT_LE(token.low_s, before.low_s + 1e-12) << percent;
    EXPECT_LE(token.likely_s, before.likely_s + 1e-12) << percent;
    EXPECT_LE(token.high_s, before.high_s + 1e-12) << percent;
    before = token;
    const SpeedEstimate prompt = EstimatePrompt(noisy, Mixture(), 1500, 512, true, percent / 100.0);
    EXPECT_LE(prompt.likely_s, prompt_before.likely_s + 1e-12) << percent;
    prompt_before = prompt;
  }
  // And all of it is as good as a resident run.
  EXPECT_NEAR(before.likely_s, EstimateToken(noisy, Mixture(), 100, {1, 1, 1}).likely_s, 1e-12);
}

TEST(SpeedEstimate, AWarmPromptIsNeverSlowerThanAColdOne) {
  for (const double share : {0.1, 0.5, 0.9}) {
    for (const int64_t n : {16, 512, 2048}) {
      const double cold_s = EstimatePrompt(Machine(), Mixture(), n, 512, true, share).disk_s;
      EXPECT_LT(EstimatePrompt(Machine(), Mixture(), n, 512, true, share, share).disk_s, cold_s) << share << " " << n;
    }
  }
}

TEST(SpeedEstimate, TheLongestBinds) {
  EXPECT_EQ(BindingOf({.memory_s = 3, .arithmetic_s = 2, .disk_s = 1}), Resource::kMemory);
  EXPECT_EQ(BindingOf({.memory_s = 2, .arithmetic_s = 3, .disk_s = 1}), Resource::kArithmetic);
  EXPECT_EQ(BindingOf({.memory_s = 1, .arithmetic_s = 2, .disk_s = 3}), Resource::kDisk);
}

TEST(SpeedEstimate, NextToNoMemoryIsAsSlowAsNone) {
  for (const int32_t n_used : {1, 8, 32, 64}) {
    ModelWork work = Mixture();
    work.n_experts_used = n_used;
    const double none_s = EstimateToken(Machine(), work, 0, {0, 0, 0}).disk_s;
    for (const double hit : {1e-15, 1e-12, 1e-9, 1e-6, 1e-3}) {
      EXPECT_NEAR(EstimateToken(Machine(), work, 0, {hit, hit, hit}).disk_s, none_s * (1 - hit), 0.01 * none_s)
          << n_used << " of a layer, hits " << hit;
    }
  }
}

TEST(SpeedEstimate, LoopsAndReadsTakeCoresTime) {
  MachineRates rates = Machine();
  rates.disk = {{1, 1e12}};  // never waited for
  ModelWork work = Mixture();
  work.n_loops = 100;
  work.n_bursts = 8;
  const HitRange hits = {0.75, 0.75, 0.75};
  const SpeedEstimate free = EstimateToken(rates, work, 0, hits);
  rates.loop_s = 1e-5;
  EXPECT_NEAR(EstimateToken(rates, work, 0, hits).likely_s - free.likely_s, 100 * 1e-5, 1e-9);
  rates.loop_s = 0;
  rates.read_s = 1e-6;  // 20 reads a layer
  rates.burst_s = 1e-5;
  const SpeedEstimate asked = EstimateToken(rates, work, 0, hits);
  EXPECT_NEAR(asked.likely_s - free.likely_s, 10 * (20 * 1e-6 + 8 * 1e-5), 1e-9);
  EXPECT_NEAR(asked.high_s - free.high_s, 10 * (20 * 1e-6 + 8 * 1e-5), 1e-9);
  EXPECT_EQ(EstimateToken(rates, work, 0, {}).likely_s, EstimateToken(Machine(), work, 0, {}).likely_s) << "no reads";
  // Where the disk is waited for, there is time for it.
  rates.disk = {{1, 0.5e9}};
  const double asked_s = EstimateToken(rates, work, 0, {0, 0, 0}).likely_s;
  rates.read_s = rates.burst_s = 0;
  EXPECT_NEAR(asked_s, EstimateToken(rates, work, 0, {0, 0, 0}).likely_s, 1e-12);
}

// Few blocks a layer: one that misses is waited for though the mean of all layers were hidden. Many: each layer is like the mean.
TEST(SpeedEstimate, AMissIsHiddenByItsOwnLayerOnly) {
  MachineRates rates = Machine();
  rates.disk = {{1, 1e9}};
  ModelWork few = Mixture();
  few.n_experts = few.n_experts_used = 1;
  few.expert_bytes = few.expert_file_bytes = 80e6;  // 8 ms of memory, 80 of the disk
  ModelWork many = Mixture();
  many.n_experts = many.n_experts_used = 8000;
  many.expert_bytes = many.expert_file_bytes = 1e4;
  many.expert_pieces = 0.01;
  const HitRange hits = {0.95, 0.95, 0.95};
  const double bytes_s = (1 + 10 * 0.080 * 1.1) / 10 / 0.86, hides_s = 0.0088 / 0.86;
  EXPECT_NEAR(EstimateToken(rates, few, 0, hits).likely_s, bytes_s + 10 * 0.05 * (0.080 / 0.9 - hides_s), 1e-9);
  EXPECT_NEAR(EstimateToken(rates, many, 0, hits).likely_s, bytes_s, 1e-9) << "4 ms of the disk in 9 of memory";
  EXPECT_NEAR(EstimateToken(rates, few, 0, hits).disk_s, EstimateToken(rates, many, 0, hits).disk_s, 1e-9);
}

TEST(SpeedEstimate, PartsOfATokenShareALayersTime) {
  MachineRates rates = Machine(), quick = Machine();
  quick.disk = {{1, 100e9}};
  const WorkPart blocks = {rates, Mixture(), {0.5, 0.6, 0.7}};
  EXPECT_EQ(EstimateToken(blocks, {rates, {}, {}}, 7).likely_s,
            EstimateToken(rates, blocks.work, 7, blocks.hits).likely_s);
  ModelWork neurons;  // 10 layers of 1000 that fire, 1 MB each, a tenth absent: 100 reads
  neurons.n_expert_layers = 10;
  neurons.n_experts = neurons.n_experts_used = 1000;
  neurons.expert_bytes = neurons.expert_file_bytes = 1e6;
  neurons.expert_pieces = 1;
  const WorkPart part = {quick, neurons, {0.9, 0.9, 0.9}};
  const SpeedEstimate all = EstimateToken({rates, Mixture(), {1, 1, 1}}, part, 0);
  EXPECT_NEAR(all.memory_s, (1 + 0.8 + 10 * 1.2) / 10 / 0.86, 1e-9);
  EXPECT_NEAR(all.disk_s, 10 * 0.100 / 100 / 0.9, 1e-9);
  EXPECT_NEAR(all.likely_s, all.memory_s, 1e-9) << "11 ms of the disk in 1.3 s";
  const SpeedEstimate none = EstimateToken({rates, Mixture(), {0, 0, 0}}, part, 0);
  EXPECT_NEAR(none.disk_s - all.disk_s, 10 * 0.020 / 0.9, 1e-9) << "8 experts of 10 MB at 4 GB/s";
  EXPECT_LE(none.low_s, none.likely_s);
  EXPECT_LE(none.likely_s, none.high_s);
}

TEST(SpeedEstimate, ItsRangeIsInOrder) {
  for (int percent = 0; percent <= 100; ++percent) {
    const SpeedEstimate token = EstimateToken(Machine(), Mixture(), 0, ExpectedHits(percent / 100.0));
    EXPECT_LE(token.low_s, token.likely_s) << percent;
    EXPECT_LE(token.likely_s, token.high_s) << percent;
  }
}

TEST(SpeedEstimate, UnknownRatesCostNothing) {
  const SpeedEstimate token = EstimateToken({}, Mixture(), 0, {0, 0, 0});
  EXPECT_EQ(token.low_s, 0);
  EXPECT_EQ(token.high_s, 0);
}

TEST(ExpectedHits, RiseFromNothingToAllThroughTheMeasuredShares) {
  EXPECT_EQ(ExpectedHits(0).high, 0);
  EXPECT_EQ(ExpectedHits(1).low, 1);
  EXPECT_EQ(ExpectedHits(2).low, 1);
  EXPECT_EQ(ExpectedHits(-1).high, 0);
  EXPECT_NEAR(ExpectedHits(0.25).low, 0.76, 1e-12);
  EXPECT_NEAR(ExpectedHits(0.25).likely, 0.815, 1e-12);
  EXPECT_NEAR(ExpectedHits(0.25).high, 0.87, 1e-12);
  HitRange before = ExpectedHits(0);
  for (int i = 1; i <= 1000; ++i) {
    const HitRange hits = ExpectedHits(i / 1000.0);
    EXPECT_GT(hits.low, before.low);
    EXPECT_GT(hits.high, before.high);
    EXPECT_LE(hits.low, hits.high);
    before = hits;
  }
}

TEST(DiskSeconds, ReadsUnderWayTogetherShareTheirTime) {
  EXPECT_NEAR(DiskSeconds(Machine(), 1, 1e6), 1e-3, 1e-12);
  EXPECT_NEAR(DiskSeconds(Machine(), 4, 1e6), 1e-3, 1e-12);
  EXPECT_NEAR(DiskSeconds(Machine(), 16, 1e6), 4e-3, 1e-12);
  EXPECT_NEAR(DiskSeconds(Machine(), 160, 1e6), 40e-3, 1e-12);
  EXPECT_NEAR(DiskSeconds(Machine(), 0.25, 1e6), 0.25e-3, 1e-12);
  EXPECT_EQ(DiskSeconds(Machine(), 0, 1e6), 0);
}

HardwareProfile Profile() {
  HardwareProfile profile;
  profile.dram_read_bytes_per_s = {{1, 10e9}, {2, 16e9}};
  profile.int8_ops_per_s = {{1, 100e9}, {2, 200e9}};
  profile.f32_flops = {{1, 50e9}};
  profile.disk.emplace();
  profile.disk->random = {{4096, 1, 0.1e9, 0},
                          {4096, 4, 0.3e9, 0},
                          {65536, 1, 0.5e9, 0},
                          {65536, 4, 1.1e9, 0},
                          {1 << 20, 1, 2e9, 0}};  // the disk was too slow for the last cell
  return profile;
}

TEST(MachineRates, AreThoseOfThreadCountAndPieceSize) {
  const MachineRates rates = RatesFor(Profile(), 2, 65536);
  EXPECT_EQ(rates.memory_bytes_per_s, 16e9);
  EXPECT_EQ(rates.int8_ops_per_s, 200e9);
  EXPECT_EQ(rates.f32_flops, 50e9);
  EXPECT_GT(rates.loop_s, 0);
  const MachineRates alone = RatesFor(Profile(), 1, 65536);
  EXPECT_EQ(alone.loop_s, 0) << "nobody to wake";
  EXPECT_EQ(alone.read_s, 2 * rates.read_s) << "nobody computes meanwhile";
  ASSERT_EQ(rates.disk.size(), 2u);
  EXPECT_EQ(rates.disk[0].queue_depth, 1);
  EXPECT_EQ(rates.disk[0].bytes_per_s, 0.5e9);
  EXPECT_EQ(rates.disk[1].bytes_per_s, 1.1e9);
}

TEST(MachineRates, LieBetweenTheBlockSizesThatWereMeasured) {
  // 16 KiB is half the way from 4 to 64 KiB, in powers of two.
  EXPECT_NEAR(RatesFor(Profile(), 1, 16384).disk[0].bytes_per_s, 0.3e9, 1);
  EXPECT_NEAR(RatesFor(Profile(), 1, 2048).disk[0].bytes_per_s, 0.05e9, 1);  // half a block takes as long as a block
  EXPECT_NEAR(RatesFor(Profile(), 1, 8 << 20).disk[0].bytes_per_s, 2e9, 1);
  EXPECT_NEAR(RatesFor(Profile(), 1, 8 << 20).disk[1].bytes_per_s, 1.1e9, 1);
}

TEST(MachineRates, ADiskThatWasNotMeasuredHasNone) {
  HardwareProfile profile = Profile();
  profile.disk.reset();
  EXPECT_TRUE(RatesFor(profile, 1, 65536).disk.empty());
  EXPECT_TRUE(RatesFor(Profile(), 1, 0).disk.empty());
}

}  // namespace
}  // namespace pantry
