// SPDX-License-Identifier: Apache-2.0
#include "base/rng.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace pantry {
namespace {

// Computed by an independent implementation (Python integers) of the published algorithms.
TEST(Rng, FirstNumbersOfASeedAreKnown) {
  {
    Rng rng(0);
    EXPECT_EQ(rng.NextU64(), 0x53175D61490B23DFULL);
    EXPECT_EQ(rng.NextU64(), 0x61DA6F3DC380D507ULL);
    EXPECT_EQ(rng.NextU64(), 0x5C0FDF91EC9A7BFCULL);
  }
  {
    Rng rng(42);
    EXPECT_EQ(rng.NextU64(), 0xD0764D4F4476689FULL);
    EXPECT_EQ(rng.NextU64(), 0x519E4174576F3791ULL);
    EXPECT_EQ(rng.NextU64(), 0xFBE07CFB0C24ED8CULL);
  }
  {
    Rng rng(UINT64_MAX);
    EXPECT_EQ(rng.NextU64(), 0x56CCF8CE948E27B2ULL);
    EXPECT_EQ(rng.NextU64(), 0xE68588432E5A5B90ULL);
    EXPECT_EQ(rng.NextU64(), 0xE3E9B5A48119CA8BULL);
  }
}

TEST(Rng, SameSeedGivesTheSameNumbersAndAnotherSeedOthers) {
  Rng a(7), b(7), c(8);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const uint64_t x = a.NextU64();
    EXPECT_EQ(x, b.NextU64());
    differs = differs || x != c.NextU64();
  }
  EXPECT_TRUE(differs);
}

TEST(Rng, DoublesAreInTheUnitIntervalWithTheRightMean) {
  Rng rng(1);
  double sum = 0;
  for (int i = 0; i < 100000; ++i) {
    const double x = rng.NextDouble();
    ASSERT_GE(x, 0.0);
    ASSERT_LT(x, 1.0);
    sum += x;
  }
  EXPECT_NEAR(sum / 100000, 0.5, 0.005);  // five standard deviations
}

}  // namespace
}  // namespace pantry
