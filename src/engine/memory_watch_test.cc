// SPDX-License-Identifier: Apache-2.0
#include "engine/memory_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/units.h"
#include "io/simulated_queue.h"
#include "residency/cache/block_cache.h"

namespace pantry {
namespace {

constexpr int64_t kBlock = 64 * kKiB;
constexpr uint32_t kBlocks = 256;
constexpr int64_t kWanted = 16 * kMiB;  // all blocks
constexpr int64_t kSecond = 1'000'000;

// A source whose readings the test writes.
class ScriptedMemory final : public MemorySource {
 public:
  explicit ScriptedMemory(MemoryReading& reading, int& n_looks) : reading_(reading), n_looks_(n_looks) {}
  MemoryReading Read() override {
    ++n_looks_;
    return reading_;
  }

 private:
  MemoryReading& reading_;
  int& n_looks_;
};

class MemoryWatchTest : public ::testing::Test {
 protected:
  MemoryWatchTest() {
    BlockCacheOptions options;
    options.budget_bytes = kWanted;
    options.floor_bytes = 2 * kBlock;
    cache_ = BlockCache::Create(std::vector<BlockInfo>(kBlocks, {0, kBlock}), options).value();
    Fill();
  }
  void Fill() {
    for (uint32_t i = 0; i < kBlocks; ++i) {
      if (cache_->state(BlockId(i)) == BlockState::kAbsent && cache_->AdmitIfRoom(BlockId(i)).memory != nullptr) {
        cache_->Arrived(BlockId(i));
      }
    }
  }
  // As the engine does at the beginning of a run. True: the budget has changed.
  bool Look() {
    const auto budget = watch_.Check(cache_->budget_bytes(), cache_->committed_bytes());
    if (budget) cache_->SetBudget(*budget);
    return budget.has_value();
  }
  bool LookAfter(int64_t us) {
    clock_.AdvanceTo(clock_.NowUs() + us);
    return Look();
  }
  // A control group in which the cache is all there is.
  void SetLimit(int64_t limit_bytes) {
    reading_.group_limit_bytes = limit_bytes;
    reading_.group_left_bytes = limit_bytes - cache_->committed_bytes();
  }
  int64_t n_lines(LogLevel level) const {
    return std::count_if(log_.lines.begin(), log_.lines.end(), [&](const auto& line) { return line.first == level; });
  }

  MemoryReading reading_;
  int n_looks_ = 0;
  SimulatedClock clock_;
  RecordingLogger log_;
  std::unique_ptr<BlockCache> cache_;
  MemoryWatch watch_{CacheBounds{.wanted_bytes = kWanted, .floor_bytes = 2 * kBlock}, clock_, log_,
                     std::make_unique<ScriptedMemory>(reading_, n_looks_)};
};

TEST_F(MemoryWatchTest, LooksNoMoreThanTenTimesASecond) {
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(Look());
    clock_.AdvanceTo(clock_.NowUs() + 1000);
  }
  EXPECT_EQ(n_looks_, 10);
  EXPECT_TRUE(log_.lines.empty());
}

TEST_F(MemoryWatchTest, LimitThatIsLoweredShrinksTheCacheAtOnceAndIsToldOnce) {
  EXPECT_EQ(cache_->committed_bytes(), kWanted);
  SetLimit(8 * kMiB);
  EXPECT_TRUE(Look());
  EXPECT_EQ(cache_->budget_bytes(), 8 * kMiB - 2 * kMiB / 8);
  EXPECT_LE(cache_->committed_bytes(), cache_->budget_bytes());
  ASSERT_EQ(log_.lines.size(), 1u);
  EXPECT_EQ(log_.lines[0].first, LogLevel::kWarning);
  EXPECT_EQ(log_.lines[0].second,
            "memory is short (its control group may hold less now): the cache of weights goes from 16.8 MB to 8.1 MB; "
            "answers stay the same, slower");
  SetLimit(4 * kMiB);
  EXPECT_FALSE(LookAfter(1000)) << "too early";
  EXPECT_TRUE(LookAfter(kSecond));
  EXPECT_LT(cache_->budget_bytes(), 4 * kMiB);
  EXPECT_EQ(n_lines(LogLevel::kWarning), 1);
  SetLimit(1 * kKiB);
  EXPECT_TRUE(LookAfter(kSecond));
  EXPECT_EQ(cache_->budget_bytes(), 2 * kBlock) << "the floor";
  EXPECT_FALSE(LookAfter(kSecond));
  EXPECT_EQ(n_lines(LogLevel::kWarning), 1);
}

TEST_F(MemoryWatchTest, GrowsBackByQuartersOfAMinuteOrSoAndIsToldWhenWhole) {
  SetLimit(4 * kMiB);
  EXPECT_TRUE(Look());
  SetLimit(kGiB);
  std::vector<int64_t> grown_after_s;
  for (int64_t second = 1; second < 200; ++second) {
    if (!LookAfter(kSecond)) continue;
    grown_after_s.push_back(second);
    Fill();
    EXPECT_EQ(cache_->committed_bytes(), cache_->budget_bytes() / kBlock * kBlock);
  }
  EXPECT_EQ(grown_after_s, (std::vector<int64_t>{30, 60, 90, 120}));
  EXPECT_EQ(cache_->budget_bytes(), kWanted);
  EXPECT_EQ(n_lines(LogLevel::kWarning), 1);
  ASSERT_EQ(n_lines(LogLevel::kInfo), 1);
  EXPECT_EQ(log_.lines.back().second, "memory is no longer short: the cache of weights has its 16.8 MB again");
  SetLimit(4 * kMiB);
  EXPECT_TRUE(LookAfter(kSecond));
  EXPECT_EQ(n_lines(LogLevel::kWarning), 2) << "another time";
}

TEST_F(MemoryWatchTest, PressureStartsTheWaitAnew) {
  SetLimit(4 * kMiB);
  EXPECT_TRUE(Look());
  SetLimit(kGiB);
  EXPECT_FALSE(LookAfter(29 * kSecond));
  reading_.group_left_bytes = 0;
  EXPECT_TRUE(LookAfter(kSecond / 2));
  SetLimit(kGiB);
  EXPECT_FALSE(LookAfter(29 * kSecond));
  EXPECT_TRUE(LookAfter(kSecond));
}

TEST_F(MemoryWatchTest, PinnedBlocksStayAndAreAskedForAgain) {
  for (uint32_t i = 0; i < kBlocks; ++i) cache_->Pin(BlockId(i));
  SetLimit(4 * kMiB);
  EXPECT_TRUE(Look());
  EXPECT_EQ(cache_->budget_bytes(), kWanted) << "nothing could be given back";
  for (uint32_t i = 0; i < kBlocks; ++i) cache_->Unpin(BlockId(i));
  EXPECT_TRUE(LookAfter(kSecond));
  EXPECT_LT(cache_->committed_bytes(), 4 * kMiB);
  EXPECT_EQ(n_lines(LogLevel::kWarning), 1);
}

TEST(MemoryWatch, OfThisMachineLooksByItself) {
  const SteadyClock clock;
  RecordingLogger log;
  MemoryWatch watch({.wanted_bytes = kMiB, .floor_bytes = kMiB}, clock, log);
  EXPECT_EQ(watch.Check(kMiB, 0), std::nullopt) << "never below the floor";
}

}  // namespace
}  // namespace pantry
