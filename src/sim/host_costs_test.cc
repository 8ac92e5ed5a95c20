// SPDX-License-Identifier: Apache-2.0
#include "sim/host_costs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "io/simulated_queue.h"
#include "sim/flash_queue.h"
#include "sim/sim_test_models.h"

namespace pantry {
namespace {

constexpr uint64_t kFileBytes = uint64_t{1} << 30;
constexpr BurstOptions kAtOnce = {.n_repeats = 1, .pause_us = 0};

TEST(MeasureBursts, FindsTheRatesOfADisk) {
  SimulatedClock clock;
  SimulatedQueue queue({}, {.latency_us = 60, .us_per_transfer = 5, .bytes_per_s = 2e9, .depth = 32}, clock);
  DeviceProfile device = testing::SmallDevice();
  const Status status = MeasureBursts(queue, kFileBytes, kAtOnce, clock, device);
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_TRUE(device.Validate().ok());
  EXPECT_EQ(device.flash_returns_together, 0);
  EXPECT_EQ(device.flash_share, 1);
  for (const DiskRate& cell : device.flash) {
    const double n_bytes = static_cast<double>(cell.queue_depth) * static_cast<double>(cell.block_bytes);
    EXPECT_NEAR(1e6 * n_bytes / cell.bytes_per_s, 60 + n_bytes / 2e3, 2)
        << cell.block_bytes << " x " << cell.queue_depth;
  }
}

// What was measured of a simulated flash is that flash again.
TEST(MeasureBursts, FindsThatReadsComeBackTogether) {
  for (const int32_t together : {0, 1}) {
    DeviceProfile device = testing::SmallDevice();
    device.flash_returns_together = together;
    device.kick_us = 40;
    Machine machine(device, 2);
    FlashQueue queue(device, machine, 32);
    DeviceProfile measured = device;
    const Status status = MeasureBursts(queue, kFileBytes, kAtOnce, machine, measured);
    ASSERT_TRUE(status.ok()) << status.ToString();
    EXPECT_EQ(measured.flash_returns_together, together);
    EXPECT_NEAR(measured.read_cpu_us, device.read_cpu_us, 1);
    EXPECT_NEAR(measured.kick_us, device.kick_us, 2);
  }
}

TEST(MeasureBursts, ASmallFileIsRefused) {
  SimulatedClock clock;
  SimulatedQueue queue({}, {}, clock);
  DeviceProfile device = testing::SmallDevice();
  EXPECT_EQ(MeasureBursts(queue, 1 << 20, kAtOnce, clock, device).code(), StatusCode::kInvalidArgument);
}

class CopyingPlacer final : public BlockPlacer {
 public:
  static constexpr size_t kPieceBytes = 65536;
  size_t max_piece_bytes() const override { return kPieceBytes; }
  int n_pieces(BlockId) const override { return 2; }
  BlockPiece Piece(BlockId block, int piece) const override {
    return {0, (block.value() * 2 + static_cast<uint64_t>(piece)) * kPieceBytes, kPieceBytes};
  }
  Status Place(BlockId, int piece, const uint8_t* bytes, uint8_t* memory) const override {
    std::copy_n(bytes, kPieceBytes, memory + static_cast<size_t>(piece) * kPieceBytes);
    return OkStatus();
  }
};

// What was measured of a simulated machine is that machine again: what cores reach, and what they and the flash leave each other.
TEST(MeasureBeside, FindsWhatReadsAndProductsTakeFromEachOther) {
  for (const auto& [dram_bytes_per_s, busy_share] : {std::pair(30e9, 1.0), {20e9, 1.0}, {20e9, 0.8}}) {
    DeviceProfile device = testing::SmallDevice();
    device.read_cpu_us = device.kick_us = 0;
    device.flash_returns_together = 1;
    device.memory_share = 0.75;
    device.dram_bytes_per_s = dram_bytes_per_s;
    device.flash_busy_share = busy_share;
    Machine machine(device, 2);
    FlashQueue queue(device, machine, 32);
    machine.Attach(&queue);
    const auto compute = [&](double n_bytes) {
      machine.Compute({.bytes = n_bytes}, TimeUse::kBlocks);
      return n_bytes;
    };
    DeviceProfile measured = testing::SmallDevice();
    const Status status =
        MeasureBeside(queue, kFileBytes, OneRowReading(compute), {.n_repeats = 3, .us = 50'000}, machine, measured);
    ASSERT_TRUE(status.ok()) << status.ToString();
    EXPECT_TRUE(measured.Validate().ok());
    EXPECT_NEAR(measured.memory_share, 0.75, 0.01);
    EXPECT_NEAR(measured.flash_busy_share, busy_share, 0.03);
    if (dram_bytes_per_s < 22e9) EXPECT_NEAR(measured.dram_bytes_per_s, dram_bytes_per_s, 0.03 * dram_bytes_per_s);
    else EXPECT_GT(measured.dram_bytes_per_s, 21e9);  // cores and flash never wanted all of it
  }
}

// A disk on which a read costs more that is given out while others are under way and have begun to come back.
class RestlessQueue final : public DiskQueue {
 public:
  RestlessQueue(SimulatedQueue& disk, SimulatedClock& clock, int64_t more_us)
      : disk_(disk), clock_(clock), more_us_(more_us) {}
  std::string_view name() const override { return "restless"; }
  size_t alignment() const override { return disk_.alignment(); }
  int depth() const override { return disk_.depth(); }
  void Start(const Transfer& transfer) override {
    if (n_under_way_++ == 0) has_come_back_ = false;
    else if (has_come_back_) clock_.AdvanceTo(clock_.NowUs() + more_us_);
    disk_.Start(transfer);
  }
  void Flush() override { disk_.Flush(); }
  size_t Wait(std::span<TransferEnd> out, int64_t timeout_us) override {
    const size_t n = disk_.Wait(out, timeout_us);
    n_under_way_ -= n;
    has_come_back_ |= n > 0;
    return n;
  }

 private:
  SimulatedQueue& disk_;
  SimulatedClock& clock_;
  const int64_t more_us_;
  size_t n_under_way_ = 0;
  bool has_come_back_ = false;
};

TEST(MeasureBeside, FindsWhatReadsWithoutABreakReachOfBursts) {
  constexpr double kReadUs = 400;  // 384 KiB at 1 GB/s, about
  for (const int64_t more_us : {0, 600}) {
    SimulatedClock clock;
    SimulatedQueue disk({}, {.latency_us = 1, .us_per_transfer = 0, .bytes_per_s = 1e9, .depth = 32}, clock);
    RestlessQueue queue(disk, clock, more_us);
    const auto compute = [&](double n_bytes) {
      clock.AdvanceTo(clock.NowUs() + 100);
      return n_bytes;
    };
    DeviceProfile measured = testing::SmallDevice();
    ASSERT_TRUE(MeasureBursts(queue, kFileBytes, kAtOnce, clock, measured).ok());
    const Status status =
        MeasureBeside(queue, kFileBytes, OneRowReading(compute), {.n_repeats = 3, .us = 200'000}, clock, measured);
    ASSERT_TRUE(status.ok()) << status.ToString();
    const double per_s = 1e6 * 384 * 1024 / std::max<double>(kReadUs, static_cast<double>(more_us));
    EXPECT_NEAR(measured.flash_most_bytes_per_s, per_s, 0.06 * per_s) << more_us;
  }
}

TEST(MeasureBeside, ASmallFileIsRefused) {
  SimulatedClock clock;
  SimulatedQueue queue({}, {}, clock);
  DeviceProfile device = testing::SmallDevice();
  EXPECT_EQ(MeasureBeside(queue, 1 << 20, {}, {}, clock, device).code(), StatusCode::kInvalidArgument);
}

TEST(MeasureHostCosts, OfAModelWithoutBlocksIsRefused) {
  const CopyingPlacer placer;
  ThreadPool pool(1);
  DeviceProfile device = testing::SmallDevice();
  EXPECT_EQ(MeasureHostCosts({{}, placer, {}, true, {}, {}}, pool, device).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace pantry
