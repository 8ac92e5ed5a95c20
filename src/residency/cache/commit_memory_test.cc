// SPDX-License-Identifier: Apache-2.0
#include "residency/cache/commit_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/units.h"
#include "sys/aligned_buffer.h"

namespace pantry {
namespace {

// Holds nothing; gives its budget away in parts.
class EmptyCache final : public BudgetedCache {
 public:
  EmptyCache(int64_t n_bytes, int64_t part_bytes)
      : memory(static_cast<size_t>(n_bytes), 0xa5), part_bytes_(part_bytes) {}
  int64_t SetBudget(int64_t) override { return budget_bytes(); }
  int64_t budget_bytes() const override { return std::ssize(memory); }
  int64_t committed_bytes() const override { return n_given; }
  std::span<const CacheStats> layer_stats() const override { return {}; }
  std::span<uint8_t> CommitMore() override {
    const int64_t n = std::min(part_bytes_, budget_bytes() - n_given);
    n_given += n;
    return {memory.data() + n_given - n, static_cast<size_t>(n)};
  }

  std::vector<uint8_t> memory;
  int64_t n_given = 0;

 private:
  int64_t part_bytes_;
};

class SteppingClock final : public Clock {
 public:
  explicit SteppingClock(int64_t step_us) : step_us_(step_us) {}
  int64_t NowUs() const override { return now_us_ += step_us_; }

 private:
  int64_t step_us_;
  mutable int64_t now_us_ = 0;
};

constexpr auto kAlways = [] { return true; };

TEST(CommitMemory, TouchesEveryPageOfTheBudget) {
  for (const int64_t part_bytes : {kMiB, 5 * kMiB + 4096}) {
    EmptyCache cache(40 * kMiB + 123, part_bytes);
    ThreadPool pool(3);
    EXPECT_GT(CommitMemory(cache, pool, SteppingClock(1), 1000, FunctionRef<bool()>(kAlways)), 0);
    EXPECT_EQ(cache.n_given, cache.budget_bytes());
    for (int64_t i = 0; i < cache.budget_bytes(); ++i) {
      const bool is_first_of_page = i % part_bytes % static_cast<int64_t>(AlignedBuffer::PageBytes()) == 0;
      ASSERT_EQ(cache.memory[static_cast<size_t>(i)], is_first_of_page ? 0 : 0xa5) << i;
    }
  }
}

TEST(CommitMemory, EndsWhenItTakesTooLong) {
  EmptyCache cache(200 * kMiB, kMiB);
  ThreadPool pool(2);
  EXPECT_EQ(CommitMemory(cache, pool, SteppingClock(10), 20, FunctionRef<bool()>(kAlways)), 20);  // two batches
  EXPECT_EQ(cache.n_given, 64 * kMiB);                                                            // of 32 parts
  EXPECT_EQ(CommitMemory(cache, pool, SteppingClock(10), 0, FunctionRef<bool()>(kAlways)), 0);
  EXPECT_EQ(cache.n_given, 64 * kMiB);
}

TEST(CommitMemory, EndsWhenItIsTold) {
  EmptyCache cache(200 * kMiB, kMiB);
  ThreadPool pool(2);
  int n_batches = 0;
  const auto once = [&] { return ++n_batches <= 1; };
  CommitMemory(cache, pool, SteppingClock(1), 1000, FunctionRef<bool()>(once));
  EXPECT_EQ(cache.n_given, 32 * kMiB);
}

}  // namespace
}  // namespace pantry
