// SPDX-License-Identifier: Apache-2.0
#include "sim/host_costs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
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

TEST(MeasureHostCosts, OfAModelWithoutBlocksIsRefused) {
  const CopyingPlacer placer;
  ThreadPool pool(1);
  DeviceProfile device = testing::SmallDevice();
  EXPECT_EQ(MeasureHostCosts({{}, placer, {}, true}, pool, device).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace pantry
