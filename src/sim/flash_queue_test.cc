// SPDX-License-Identifier: Apache-2.0
#include "sim/flash_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "sim/sim_test_models.h"

namespace pantry {
namespace {

// A disk as measured, with noise: no formula fits it.
DeviceProfile MeasuredDevice() {
  DeviceProfile device = testing::SmallDevice();
  device.flash = {{4096, 1, 68e6, 0},      {4096, 4, 153e6, 0},     {4096, 16, 281e6, 0},     {4096, 32, 310e6, 0},
                  {65536, 1, 881e6, 0},    {65536, 4, 1425e6, 0},   {65536, 16, 1824e6, 0},   {65536, 32, 1856e6, 0},
                  {1 << 20, 1, 2541e6, 0}, {1 << 20, 4, 2639e6, 0}, {1 << 20, 16, 2406e6, 0}, {1 << 20, 32, 2395e6, 0}};
  device.flash_share = 1;
  device.read_cpu_us = 0;
  return device;
}

// Keeps `depth` reads under way: bytes a second.
double RateAt(const DeviceProfile& device, int64_t block_bytes, int depth) {
  constexpr int kReads = 2000;
  Machine machine(device, 1);
  FlashQueue queue(device, machine, depth);
  const iovec to = {nullptr, static_cast<size_t>(block_bytes)};
  std::array<TransferEnd, 64> ends;
  int n_started = 0, n_done = 0;
  for (uint32_t id = 0; id < static_cast<uint32_t>(depth); ++id, ++n_started) queue.Start({id, 0, 0, {&to, 1}});
  while (n_done < kReads) {
    const size_t n = queue.Wait(ends, DiskQueue::kForever);
    n_done += static_cast<int>(n);
    for (size_t i = 0; i < n; ++i, ++n_started) queue.Start({ends[i].id, 0, 0, {&to, 1}});
  }
  return 1e6 * static_cast<double>(n_done) * static_cast<double>(block_bytes) / machine.now_us();
}

TEST(FlashQueue, GivesTheMeasuredRateAtEveryPointOfTheTable) {
  const DeviceProfile device = MeasuredDevice();
  for (const DiskRate& cell : device.flash) {
    EXPECT_NEAR(RateAt(device, cell.block_bytes, cell.queue_depth), cell.bytes_per_s, 0.02 * cell.bytes_per_s)
        << cell.block_bytes << " bytes, depth " << cell.queue_depth;
  }
}

TEST(FlashQueue, NoMoreComesThanTheMost) {
  DeviceProfile device = MeasuredDevice();
  device.flash_most_bytes_per_s = 1.5e9;
  for (const int32_t together : {0, 1}) {
    device.flash_returns_together = together;
    for (const DiskRate& cell : device.flash) {
      const double expected = std::min(cell.bytes_per_s, 1.5e9);
      EXPECT_NEAR(RateAt(device, cell.block_bytes, cell.queue_depth), expected, 0.02 * expected)
          << cell.block_bytes << " bytes, depth " << cell.queue_depth;
    }
  }
}

TEST(FlashQueue, ReadsThatAreGivenOutTogetherTakeWhatThePlannerSays) {
  const DeviceProfile device = MeasuredDevice();
  const iovec to = {nullptr, 65536};
  std::array<TransferEnd, 64> ends;
  for (const int n : {1, 2, 4, 9, 16, 32}) {
    Machine machine(device, 1);
    FlashQueue queue(device, machine, 32);
    for (int id = 0; id < n; ++id) queue.Start({static_cast<uint32_t>(id), 0, 0, {&to, 1}});
    for (size_t n_done = 0; n_done < static_cast<size_t>(n);) n_done += queue.Wait(ends, DiskQueue::kForever);
    const double planned_us = 1e6 * DiskSeconds(device.Rates(1, 65536), n, 65536);
    EXPECT_NEAR(machine.now_us(), planned_us, 1e-6 * planned_us) << n;
  }
}

TEST(FlashQueue, NothingIsBackSoonerThanASingleRead) {
  const DeviceProfile device = MeasuredDevice();
  const double alone_us = 1e6 * DiskSeconds(device.Rates(1, 4096), 1, 4096);
  Machine machine(device, 1);
  FlashQueue queue(device, machine, 32);
  const iovec to = {nullptr, 4096};
  std::array<TransferEnd, 64> ends;
  for (uint32_t id = 0; id < 8; ++id) queue.Start({id, 0, 0, {&to, 1}});
  ASSERT_GT(queue.Wait(ends, DiskQueue::kForever), 0u);
  EXPECT_GE(machine.now_us(), alone_us);
  EXPECT_LT(machine.now_us(), 1.01 * alone_us);
}

TEST(FlashQueue, LooksWithoutWaiting) {
  const DeviceProfile device = MeasuredDevice();
  Machine machine(device, 1);
  FlashQueue queue(device, machine);
  const iovec to = {nullptr, 4096};
  std::array<TransferEnd, 4> ends;
  queue.Start({7, 0, 0, {&to, 1}});
  EXPECT_EQ(queue.Wait(ends, 0), 0u);
  EXPECT_EQ(machine.now_us(), 0);
  EXPECT_EQ(queue.Wait(ends, 10), 0u);
  EXPECT_DOUBLE_EQ(machine.now_us(), 10);
  EXPECT_EQ(queue.Wait(ends, DiskQueue::kForever), 1u);
  EXPECT_EQ(ends[0].id, 7u);
  EXPECT_EQ(ends[0].n_bytes, 4096);
  EXPECT_EQ(queue.Wait(ends, DiskQueue::kForever), 0u);
}

TEST(FlashQueue, ARequestCostsTheThreadThatAsks) {
  DeviceProfile device = MeasuredDevice();
  device.read_cpu_us = 6;
  Machine machine(device, 1);
  FlashQueue queue(device, machine);
  const iovec to = {nullptr, 4096};
  queue.Start({0, 0, 0, {&to, 1}});
  queue.Start({1, 0, 0, {&to, 1}});
  EXPECT_DOUBLE_EQ(machine.now_us(), 12);
  EXPECT_DOUBLE_EQ(machine.time_us()[static_cast<size_t>(TimeUse::kAsking)], 12);
}

TEST(FlashQueue, TheFirstRequestOfAnIdleFlashCostsMore) {
  DeviceProfile device = MeasuredDevice();
  device.read_cpu_us = 6;
  device.kick_us = 30;
  Machine machine(device, 1);
  FlashQueue queue(device, machine);
  const iovec to = {nullptr, 4096};
  std::array<TransferEnd, 4> ends;
  queue.Start({0, 0, 0, {&to, 1}});
  queue.Start({1, 0, 0, {&to, 1}});
  EXPECT_DOUBLE_EQ(machine.now_us(), 42);
  for (size_t n = 0; n < 2;) n += queue.Wait(ends, DiskQueue::kForever);
  const double waited_us = machine.now_us();
  queue.Start({0, 0, 0, {&to, 1}});
  EXPECT_DOUBLE_EQ(machine.now_us(), waited_us + 36);
}

TEST(FlashQueue, AfterAWaitOneCoreComputesUntilTheOthersAreAwake) {
  DeviceProfile device = MeasuredDevice();
  device.wake_us = 40;
  device.memory_share = 1;
  device.step_us = 0;
  Machine machine(device, 2);  // 10 GB/s one, 20 both
  FlashQueue queue(device, machine);
  const iovec to = {nullptr, 4096};
  std::array<TransferEnd, 4> ends;
  queue.Start({0, 0, 0, {&to, 1}});
  ASSERT_EQ(queue.Wait(ends, DiskQueue::kForever), 1u);
  const double back_us = 1e6 * DiskSeconds(device.Rates(1, 4096), 1, 4096);
  EXPECT_NEAR(machine.now_us(), back_us, 1e-9);
  machine.Compute({.bytes = 1e6}, TimeUse::kBlocks);  // 0.4 MB in 40 us, the rest in 30
  EXPECT_NEAR(machine.now_us(), back_us + 70, 1e-6);
}

DeviceProfile TogetherDevice() {
  DeviceProfile device = MeasuredDevice();
  device.flash_returns_together = 1;
  return device;
}

TEST(FlashQueue, ReadsThatReturnTogetherTakeWhatThePlannerSaysAndNoneIsBackSooner) {
  const DeviceProfile device = TogetherDevice();
  const iovec to = {nullptr, 65536};
  std::array<TransferEnd, 64> ends;
  for (const int n : {1, 3, 16, 32}) {
    Machine machine(device, 1);
    FlashQueue queue(device, machine, 32);
    for (int id = 0; id < n; ++id) queue.Start({static_cast<uint32_t>(id), 0, 0, {&to, 1}});
    EXPECT_EQ(queue.Wait(ends, DiskQueue::kForever), static_cast<size_t>(n));
    const double planned_us = 1e6 * DiskSeconds(device.Rates(1, 65536), n, 65536);
    EXPECT_NEAR(machine.now_us(), planned_us, 1e-6 * planned_us) << n;
    EXPECT_NEAR(queue.busy_us(), planned_us, 1e-6 * planned_us) << n;
  }
}

TEST(FlashQueue, WhoAsksForMoreWaitsLongerForWhatHeAskedFor) {
  const DeviceProfile device = TogetherDevice();
  const iovec to = {nullptr, 65536};
  std::array<TransferEnd, 64> ends;
  Machine machine(device, 1);
  FlashQueue queue(device, machine, 32);
  queue.Start({0, 0, 0, {&to, 1}});
  machine.Spend(10, TimeUse::kBetween);  // it is being served
  for (uint32_t id = 1; id < 4; ++id) queue.Start({id, 0, 0, {&to, 1}});
  EXPECT_EQ(queue.Wait(ends, DiskQueue::kForever), 4u);
  EXPECT_NEAR(machine.now_us(), 1e6 * DiskSeconds(device.Rates(1, 65536), 4, 65536), 1e-6);
  queue.Start({4, 0, 0, {&to, 1}});  // of a flash that is idle again
  const double begin_us = machine.now_us();
  EXPECT_EQ(queue.Wait(ends, DiskQueue::kForever), 1u);
  EXPECT_NEAR(machine.now_us() - begin_us, 1e6 * DiskSeconds(device.Rates(1, 65536), 1, 65536), 1e-6);
}

TEST(FlashQueue, WhileTheCoresComputeItIsServedSlower) {
  for (const int32_t together : {0, 1}) {
    DeviceProfile device = MeasuredDevice();
    device.flash_returns_together = together;
    device.flash_busy_share = 0.5;
    device.memory_share = 1;
    device.step_us = 0;
    const double alone_us = 1e6 * DiskSeconds(device.Rates(1, 1 << 20), 1, 1 << 20);
    Machine machine(device, 1);  // 10 GB/s
    FlashQueue queue(device, machine);
    const iovec to = {nullptr, 1 << 20};
    std::array<TransferEnd, 4> ends;
    queue.Start({0, 0, 0, {&to, 1}});
    machine.Compute({.bytes = 1e6}, TimeUse::kBlocks);  // 100 us, of which the flash had 50
    ASSERT_EQ(queue.Wait(ends, DiskQueue::kForever), 1u);
    EXPECT_NEAR(machine.now_us(), alone_us + 50, 1e-6) << together;
  }
}

TEST(FlashQueue, ComesToAnEndHoweverItsClockIsRounded) {
  for (const int32_t together : {0, 1}) {
    DeviceProfile device = MeasuredDevice();
    device.flash_returns_together = together;
    device.flash_busy_share = 0.7;
    Machine machine(device, 1);
    FlashQueue queue(device, machine);
    const iovec to = {nullptr, 393'216};
    std::array<TransferEnd, 4> ends;
    machine.Spend(1e7, TimeUse::kBetween);
    for (int i = 0; i < 1000; ++i) {
      queue.Start({0, 0, 0, {&to, 1}});
      machine.Compute({.bytes = 1e4 + 100 * i}, TimeUse::kBlocks);
      ASSERT_EQ(queue.Wait(ends, DiskQueue::kForever), 1u) << i;  // and not: nothing, again and again
    }
  }
}

}  // namespace
}  // namespace pantry
