// SPDX-License-Identifier: Apache-2.0
#include "residency/cache/commit_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/units.h"
#include "sys/aligned_buffer.h"

namespace pantry {
namespace {

// Holds nothing; gives its budget away a MiB at a time.
class EmptyCache final : public BudgetedCache {
 public:
  explicit EmptyCache(int64_t n_bytes) : memory(static_cast<size_t>(n_bytes), 0xa5) {}
  int64_t SetBudget(int64_t) override { return budget_bytes(); }
  int64_t budget_bytes() const override { return std::ssize(memory); }
  int64_t committed_bytes() const override { return n_given; }
  std::span<const CacheStats> layer_stats() const override { return {}; }
  std::span<uint8_t> CommitMore() override {
    const int64_t n = std::min<int64_t>(kMiB, budget_bytes() - n_given);
    n_given += n;
    return {memory.data() + n_given - n, static_cast<size_t>(n)};
  }

  std::vector<uint8_t> memory;
  int64_t n_given = 0;
};

class SteppingClock final : public Clock {
 public:
  explicit SteppingClock(int64_t step_us) : step_us_(step_us) {}
  int64_t NowUs() const override { return now_us_ += step_us_; }

 private:
  int64_t step_us_;
  mutable int64_t now_us_ = 0;
};

TEST(CommitMemory, TouchesEveryPageOfTheBudget) {
  EmptyCache cache(40 * kMiB + 123);
  ThreadPool pool(3);
  EXPECT_EQ(CommitMemory(cache, pool, SteppingClock(1)), cache.budget_bytes());
  EXPECT_EQ(cache.n_given, cache.budget_bytes());
  for (int64_t i = 0; i < cache.budget_bytes(); ++i) {
    const int64_t of_part = i % kMiB;
    const bool is_first_of_page = of_part % static_cast<int64_t>(AlignedBuffer::PageBytes()) == 0;
    ASSERT_EQ(cache.memory[static_cast<size_t>(i)], is_first_of_page ? 0 : 0xa5) << i;
  }
}

TEST(CommitMemory, EndsWhenItTakesTooLong) {
  EmptyCache cache(40 * kMiB);
  ThreadPool pool(2);
  const int64_t n_bytes = CommitMemory(cache, pool, SteppingClock(kMostCommitUs));
  EXPECT_GT(n_bytes, 0);
  EXPECT_LT(n_bytes, cache.budget_bytes());
  EXPECT_EQ(cache.n_given, n_bytes);
}

}  // namespace
}  // namespace pantry
