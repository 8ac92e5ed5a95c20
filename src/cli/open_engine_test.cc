// SPDX-License-Identifier: Apache-2.0
#include "cli/open_engine.h"

#include <gtest/gtest.h>

namespace pantry {
namespace {

constexpr int64_t kGb = 1'000'000'000;

TEST(LoadingLine, LongLoadShowsRateAndTimeLeft) {
  EXPECT_EQ(LoadingLine(1 * kGb, 4 * kGb, 0.5), "loading 1.0 GB / 4.0 GB · 2.0 GB/s · 2 s left");  // 2 s in all
  EXPECT_EQ(LoadingLine(3 * kGb, 4 * kGb, 30), "loading 3.0 GB / 4.0 GB · 100.0 MB/s · 10 s left");
  EXPECT_EQ(LoadingLine(4 * kGb, 4 * kGb, 4), "loading 4.0 GB / 4.0 GB · 1.0 GB/s · 0 s left");
}

TEST(LoadingLine, ShortLoadAndTheFirstMomentShowBytesOnly) {
  EXPECT_EQ(LoadingLine(1 * kGb, 4 * kGb, 0.49), "loading 1.0 GB / 4.0 GB");
  EXPECT_EQ(LoadingLine(0, 4 * kGb, 5), "loading 0 B / 4.0 GB");
  EXPECT_EQ(LoadingLine(1, 4 * kGb, 0), "loading 1 B / 4.0 GB");
}

}  // namespace
}  // namespace pantry
