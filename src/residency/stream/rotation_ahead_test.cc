// SPDX-License-Identifier: Apache-2.0
#include "residency/stream/rotation_ahead.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <numeric>
#include <vector>

#include "io/simulated_queue.h"

namespace pantry {
namespace {

constexpr uint32_t kBlocks = 48;
constexpr uint32_t kAtOnce = 4;  // that an event wants
constexpr size_t kBlockBytes = 8192;

class OnePiecePlacer final : public BlockPlacer {
 public:
  size_t max_piece_bytes() const override { return kBlockBytes; }
  int n_pieces(BlockId) const override { return 1; }
  BlockPiece Piece(BlockId block, int) const override {
    return {0, block.value() * uint64_t{kBlockBytes}, kBlockBytes};
  }
  Status Place(BlockId, int, const uint8_t*, uint8_t*) const override { return OkStatus(); }
};

// A model in rotation on a simulated disk; computing takes no time.
class RotationAheadTest : public ::testing::Test {
 protected:
  void Open(int64_t budget_bytes) {
    file_ = MakeMemoryReader("blocks", bytes_);
    const std::array<const Reader*, 1> files = {file_.get()};
    reader_ = std::make_unique<BlockReader>(files, std::make_unique<SimulatedQueue>(files, SimulatedDisk(), clock_),
                                            BlockReaderOptions(), clock_);
    const std::vector<BlockInfo> blocks(kBlocks, {0, kBlockBytes});
    BlockCacheOptions options;
    options.budget_bytes = budget_bytes;
    options.huge_pages = false;  // the budget is exact
    options.policy.kind = PolicyKind::kRotation;
    cache_ = BlockCache::Create(blocks, options).value();
    stream_ = BlockStream::Create(*cache_, *reader_, placer_, clock_).value();
    ahead_ = std::make_unique<RotationAhead>(*cache_, *stream_);
  }

  // An event that wants kAtOnce blocks from `first` on. How many of them were there or on their way.
  int64_t Event(uint32_t first) {
    std::vector<BlockId> wanted;
    for (uint32_t i = 0; i < kAtOnce; ++i) wanted.emplace_back(first + i);
    const int64_t n_missed = cache_->TotalStats().n_misses;
    ahead_->Wanted(wanted);
    stream_->Begin(0, wanted);
    ahead_->Read();
    std::array<BlockId, kAtOnce> ready;
    while (true) {
      const Result<size_t> n = stream_->Next(pool_, ready);
      EXPECT_TRUE(n.ok()) << n.status().ToString();
      if (!n.ok() || *n == 0) return kAtOnce - (cache_->TotalStats().n_misses - n_missed);
      stream_->Release(std::span(ready).first(*n));
      ahead_->Read();
    }
  }

  // Blocks that are there or coming and lie up to `n` behind `last`.
  uint32_t AheadOf(uint32_t last, uint32_t n) const {
    uint32_t n_found = 0;
    for (uint32_t i = 1; i <= n; ++i) {
      n_found += cache_->state(BlockId((last + i) % kBlocks)) != BlockState::kAbsent ? 1 : 0;
    }
    return n_found;
  }

  SimulatedClock clock_;
  ThreadPool pool_{1};
  OnePiecePlacer placer_;
  const std::vector<uint8_t> bytes_ = std::vector<uint8_t>(kBlocks * kBlockBytes);
  std::unique_ptr<Reader> file_;
  std::unique_ptr<BlockReader> reader_;
  std::unique_ptr<BlockCache> cache_;
  std::unique_ptr<BlockStream> stream_;
  std::unique_ptr<RotationAhead> ahead_;
};

TEST_F(RotationAheadTest, EveryEventButTheFirstFindsItsBlocksUnderWay) {
  Open(24 * kBlockBytes);
  for (int token = 0; token < 3; ++token) {
    for (uint32_t first = 0; first < kBlocks; first += kAtOnce) {
      EXPECT_EQ(Event(first), token == 0 && first == 0 ? 0 : kAtOnce) << token << ", " << first;
    }
  }
}

TEST_F(RotationAheadTest, AQuarterOfASmallCacheIsReadAheadAndNoMore) {
  Open(24 * kBlockBytes);
  Event(0);
  EXPECT_EQ(AheadOf(kAtOnce - 1, 6), 6u);
  EXPECT_EQ(AheadOf(kAtOnce - 1, kBlocks - kAtOnce), 6u);
  Event(kAtOnce);  // what is wanted is no longer ahead, so as much is read again
  EXPECT_EQ(AheadOf(2 * kAtOnce - 1, kBlocks - 2 * kAtOnce), 6u);
}

TEST_F(RotationAheadTest, ASmallerBudgetBringsTheBoundNearer) {
  Open(24 * kBlockBytes);
  ASSERT_EQ(cache_->SetBudget(8 * kBlockBytes), int64_t{8} * kBlockBytes);
  ahead_->BudgetChanged();
  Event(0);
  EXPECT_EQ(AheadOf(kAtOnce - 1, kBlocks - kAtOnce), 2u);
}

TEST_F(RotationAheadTest, BehindTheLastBlockComesTheFirst) {
  Open(24 * kBlockBytes);
  Event(kBlocks - kAtOnce);
  EXPECT_EQ(AheadOf(kBlocks - 1, 6), 6u);
}

TEST_F(RotationAheadTest, AfterForgettingAsMuchIsReadAheadAsAtFirst) {
  Open(24 * kBlockBytes);
  Event(0);
  stream_->Forget();
  ahead_->Forget();
  EXPECT_EQ(AheadOf(kBlocks - 1, kBlocks), 0u);
  Event(0);
  EXPECT_EQ(AheadOf(kAtOnce - 1, kBlocks - kAtOnce), 6u);
}

}  // namespace
}  // namespace pantry
