// SPDX-License-Identifier: Apache-2.0
#include "sim/machine.h"

#include <gtest/gtest.h>

#include <numeric>

#include "sim/sim_test_models.h"

namespace pantry {
namespace {

// No shares, no steps: round numbers. One core reads 10 GB/s, two 20.
DeviceProfile PlainDevice() {
  DeviceProfile device = testing::SmallDevice();
  device.memory_share = device.arithmetic_share = device.flash_share = 1;
  device.step_us = 0;
  return device;
}

class ConstantUser final : public MemoryUser {
 public:
  ConstantUser(double bytes_per_s, double end_us) : rate_(bytes_per_s), end_us_(end_us) {}
  double bytes_per_s(double now_us) const override { return now_us < end_us_ ? rate_ : 0; }
  double until_us(double now_us) const override { return now_us < end_us_ ? end_us_ : Machine::kNever; }

 private:
  const double rate_, end_us_;
};

TEST(Machine, WorkTakesTheLongerOfMemoryAndArithmetic) {
  const DeviceProfile device = PlainDevice();
  Machine machine(device, 2);
  machine.Compute({.bytes = 20e6, .int8_macs = 1e6}, TimeUse::kBetween);
  EXPECT_DOUBLE_EQ(machine.now_us(), 1000);
  machine.Compute({.bytes = 20e6, .int8_macs = 800e6}, TimeUse::kBlocks);  // 1.6e9 operations at 800e9
  EXPECT_DOUBLE_EQ(machine.now_us(), 3000);
  EXPECT_DOUBLE_EQ(machine.time_us()[static_cast<size_t>(TimeUse::kBlocks)], 2000);
  EXPECT_DOUBLE_EQ(machine.memory_bytes(), 40e6);
}

TEST(Machine, SharesAndStepsMakeItSlower) {
  DeviceProfile device = PlainDevice();
  device.memory_share = 0.5;
  device.step_us = 7;
  Machine machine(device, 2);
  machine.Compute({.bytes = 20e6, .n_steps = 3}, TimeUse::kBetween);
  EXPECT_DOUBLE_EQ(machine.now_us(), 2021);
}

TEST(Machine, RowsComeOnTopOfWhatTheCoresShare) {
  DeviceProfile device = PlainDevice();
  Machine free(device, 2);
  const Work work = {.bytes = 20e6, .row_bytes = 5e6};
  free.Compute(work, TimeUse::kBetween);
  EXPECT_DOUBLE_EQ(free.now_us(), 1000);  // a device of which nobody knows what they cost
  device.row_bytes_per_s = 10e9;
  for (const int32_t n_cores : {1, 2}) {
    Machine machine(device, n_cores);
    machine.Compute(2 * work, TimeUse::kBetween);
    EXPECT_DOUBLE_EQ(machine.now_us(), 4000.0 / n_cores + 1000);
  }
}

TEST(Machine, WhatTheFlashMovesIsMissingForTheCores) {
  DeviceProfile device = PlainDevice();
  device.dram_bytes_per_s = 20e9;
  Machine machine(device, 2);
  const ConstantUser flash(5e9, 1000);
  machine.Attach(&flash);
  machine.Compute({.bytes = 25e6}, TimeUse::kBetween);  // 15 MB in the first ms, the rest at 20 GB/s
  EXPECT_NEAR(machine.now_us(), 1500, 1e-6);
}

TEST(Machine, BothExecutorsShareMemoryInProportion) {
  DeviceProfile device = PlainDevice();
  device.dram_bytes_per_s = 24e9;
  device.second = SecondExecutor{"unit", 20e9, 1e15};
  Machine machine(device, 2);
  EXPECT_DOUBLE_EQ(machine.SecondShare(), 0.5);
  machine.BeginSecond({.bytes = 12e6});
  machine.Compute({.bytes = 12e6}, TimeUse::kBetween);  // each at 12 GB/s
  EXPECT_NEAR(machine.now_us(), 1000, 1e-6);
  machine.JoinSecond();
  EXPECT_NEAR(machine.now_us(), 1000, 1e-6);
  machine.BeginSecond({.bytes = 20e6});
  machine.JoinSecond();  // alone at 20
  EXPECT_NEAR(machine.now_us(), 2000, 1e-6);
  EXPECT_NEAR(machine.time_us()[static_cast<size_t>(TimeUse::kJoining)], 1000, 1e-6);
}

TEST(Machine, PiecesOfABatchArePlacedByAllCores) {
  const DeviceProfile device = PlainDevice();  // 5 GB/s a core
  Machine machine(device, 2);
  machine.BeginBatch();
  for (int i = 0; i < 3; ++i) machine.Place(5e6, 5e9, 0);  // two cores: two rounds
  EXPECT_DOUBLE_EQ(machine.now_us(), 2000);
  machine.BeginBatch();
  machine.Place(5e6, 5e9, 0);
  EXPECT_DOUBLE_EQ(machine.now_us(), 3000);
}

TEST(Machine, CoresThatPlaceShareTheMemory) {
  DeviceProfile device = PlainDevice();
  device.dram_bytes_per_s = 15e9;  // 5 GB/s of pieces, however many cores
  for (const int n_cores : {1, 2}) {
    Machine machine(device, n_cores);
    machine.BeginBatch();
    for (int i = 0; i < 4; ++i) machine.Place(5e6, 5e9, 0);
    EXPECT_DOUBLE_EQ(machine.now_us(), 4000) << n_cores;
  }
}

TEST(Machine, FreshMemoryIsTouchedByOneCoreAfterAnother) {
  DeviceProfile device = PlainDevice();
  device.fresh_bytes_per_s = 0.5e9;
  Machine machine(device, 2);
  machine.BeginBatch();
  for (int i = 0; i < 2; ++i) machine.Place(5e6, 5e9, 1e6);  // copied together in 1000 us, then 2000 us each
  EXPECT_DOUBLE_EQ(machine.now_us(), 5000);
  machine.BeginBatch();
  machine.Place(5e6, 5e9, 1e6);
  EXPECT_DOUBLE_EQ(machine.now_us(), 8000);
}

}  // namespace
}  // namespace pantry
