// SPDX-License-Identifier: Apache-2.0
#include "io/simulated_queue.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "io/block_reader.h"
#include "io/scripted_queue.h"
#include "sys/aligned_buffer.h"

namespace pantry {
namespace {

constexpr size_t kBlock = Reader::kBlockBytes;

class SimulatedQueueTest : public ::testing::Test {
 protected:
  std::unique_ptr<BlockReader> Make(const SimulatedDisk& disk) {
    return std::make_unique<BlockReader>(
        files_, std::make_unique<SimulatedQueue>(std::span<const Reader* const>{}, disk, clock_), BlockReaderOptions{},
        clock_);
  }
  // Virtual microseconds that `n` reads take.
  int64_t TimeOf(BlockReader& reader, int n, size_t n_bytes) {
    const int64_t begin_us = clock_.NowUs();
    for (int i = 0; i < n; ++i) {
      const BlockRead read = {static_cast<uint64_t>(i), 0, static_cast<uint64_t>(2 * i) * n_bytes, n_bytes,
                              slot_.data()};
      reader.Submit({&read, 1});
    }
    BlockReadDone done;
    while (reader.n_pending() > 0) EXPECT_EQ(reader.Reap({&done, 1}, BlockReader::kForever), 1u);
    return clock_.NowUs() - begin_us;
  }

  const testing::SizeOnlyReader file_{"model.gguf", uint64_t{1} << 40};
  const std::vector<const Reader*> files_ = {&file_};
  AlignedBuffer slot_ = AlignedBuffer::Allocate(1 << 20).value();
  SimulatedClock clock_;
};

TEST_F(SimulatedQueueTest, DepthHidesLatency) {
  const SimulatedDisk alone = {.latency_us = 100, .us_per_transfer = 10, .bytes_per_s = 1e9, .depth = 1};
  EXPECT_EQ(TimeOf(*Make(alone), 50, kBlock), 50 * (100 + 10));
  SimulatedDisk deep = alone;
  deep.depth = 50;
  EXPECT_EQ(TimeOf(*Make(deep), 50, kBlock), 50 * 10 + 100);
}

TEST_F(SimulatedQueueTest, LargeTransfersAreBoundByTheRate) {
  const SimulatedDisk disk = {.latency_us = 100, .us_per_transfer = 10, .bytes_per_s = 1e9, .depth = 8};
  EXPECT_EQ(TimeOf(*Make(disk), 10, 1'000'000 / kBlock * kBlock), (10 * 999'424 + 999) / 1000 + 100);
}

TEST_F(SimulatedQueueTest, WaitingEndsWithTheDeadline) {
  const auto reader = Make({.latency_us = 1000, .us_per_transfer = 10, .bytes_per_s = 1e9, .depth = 8});
  const BlockRead read = {7, 0, 0, kBlock, slot_.data()};
  reader->Submit({&read, 1});
  BlockReadDone done;
  EXPECT_EQ(reader->Reap({&done, 1}, 300), 0u);
  EXPECT_EQ(clock_.NowUs(), 300);
  EXPECT_EQ(reader->Reap({&done, 1}, 0), 0u);
  EXPECT_EQ(clock_.NowUs(), 300);
  EXPECT_EQ(reader->Reap({&done, 1}, 10'000), 1u);
  EXPECT_EQ(clock_.NowUs(), 1010);
  EXPECT_EQ(done.submitted_us, 0);
  EXPECT_EQ(done.done_us, 1010);
  EXPECT_EQ(reader->stats().busy_us, 1010);
}

}  // namespace
}  // namespace pantry
