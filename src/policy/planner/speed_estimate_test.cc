// SPDX-License-Identifier: Apache-2.0
#include "policy/planner/speed_estimate.h"

#include <gtest/gtest.h>

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
  EXPECT_NEAR(token.likely_s, 0.18 / 0.9, 1e-9);
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
  EXPECT_NEAR(token.low_s, 0.220, 1e-9);                    // all of the disk is hidden
  EXPECT_NEAR(token.likely_s, 0.220 / 0.9, 1e-9);           // 50 ms hide behind the experts' 120
  EXPECT_NEAR(token.high_s, (0.220 + 0.050) / 0.75, 1e-9);  // nothing is
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
  EXPECT_NEAR(token.likely_s, (0.1 + 0.8) / 0.9, 1e-9);
  EXPECT_NEAR(token.high_s, (0.34 + 0.8) / 0.75, 1e-9);
}

TEST(SpeedEstimate, APromptIsBoundByArithmetic) {
  ModelWork dense;
  dense.dense_bytes = 1'000'000'000;
  dense.int8_macs = 1'000'000'000;
  const SpeedEstimate prompt = EstimatePrompt(Machine(), dense, 512, 512, false, 1);
  EXPECT_EQ(prompt.binds, Resource::kArithmetic);
  EXPECT_NEAR(prompt.low_s, 512 * 2e9 / 1e12 / 0.65, 1e-6);
  EXPECT_NEAR(prompt.high_s, 512 * 2e9 / 1e12 / 0.40, 1e-6);
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
