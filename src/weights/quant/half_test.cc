// SPDX-License-Identifier: Apache-2.0
#include "weights/quant/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace pantry {
namespace {

// By the definition of IEEE 754 binary16, with real arithmetic.
double SlowF16(uint16_t bits) {
  const double sign = (bits & 0x8000) ? -1.0 : 1.0;
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  if (exponent == 31) return mantissa != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(Half, EveryF16BecomesItsExactF32) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float found = F16ToF32(static_cast<uint16_t>(bits));
    const double expected = SlowF16(static_cast<uint16_t>(bits));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(found)) << bits;
    } else {
      ASSERT_EQ(static_cast<double>(found), expected) << bits;
      ASSERT_EQ(std::signbit(found), (bits & 0x8000) != 0) << bits;
    }
  }
}

TEST(Half, EveryF16SurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const uint16_t back = F32ToF16(F16ToF32(half));
    if (std::isnan(SlowF16(half))) ASSERT_TRUE(std::isnan(SlowF16(back))) << bits;
    else ASSERT_EQ(back, half);
  }
}

// Between each two neighbours: what lies nearer to one becomes it, the middle becomes the even one.
TEST(Half, F32RoundsToNearestEvenBetweenAllNeighbours) {
  for (uint32_t low = 0; low < 0x7BFF; ++low) {
    const uint16_t high = static_cast<uint16_t>(low + 1);
    const float middle =
        static_cast<float>((SlowF16(static_cast<uint16_t>(low)) + SlowF16(high)) / 2);  // exact: one bit more
    const uint16_t even = (low & 1) ? high : static_cast<uint16_t>(low);
    ASSERT_EQ(F32ToF16(middle), even) << low;
    ASSERT_EQ(F32ToF16(std::nextafter(middle, 0.0f)), low) << low;
    ASSERT_EQ(F32ToF16(std::nextafter(middle, 1e9f)), high) << low;
    ASSERT_EQ(F32ToF16(-middle), even | 0x8000) << low;
  }
}

TEST(Half, ValuesBeyondTheRangeBecomeInfinityOrZero) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(F32ToF16(65504.0f), 0x7BFF);
  EXPECT_EQ(F32ToF16(std::nextafter(65520.0f, 0.0f)), 0x7BFF);
  EXPECT_EQ(F32ToF16(65520.0f), 0x7C00);  // the middle to 65536: even is infinity
  EXPECT_EQ(F32ToF16(std::numeric_limits<float>::max()), 0x7C00);
  EXPECT_EQ(F32ToF16(inf), 0x7C00);
  EXPECT_EQ(F32ToF16(-inf), 0xFC00);
  EXPECT_EQ(F32ToF16(std::ldexp(1.0f, -25)), 0x0000);  // the middle to the smallest subnormal: even is zero
  EXPECT_EQ(F32ToF16(-std::numeric_limits<float>::denorm_min()), 0x8000);
}

TEST(Half, EveryBf16IsTheUpperHalfOfItsF32) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float found = Bf16ToF32(static_cast<uint16_t>(bits));
    const double sign = (bits & 0x8000) ? -1.0 : 1.0;
    const int exponent = (bits >> 7) & 255;
    const int mantissa = bits & 127;
    if (exponent == 255) {
      ASSERT_EQ(std::isnan(found), mantissa != 0) << bits;
      ASSERT_EQ(std::isinf(found), mantissa == 0) << bits;
    } else {
      const double magnitude = exponent == 0 ? std::ldexp(mantissa, -133) : std::ldexp(128 + mantissa, exponent - 134);
      ASSERT_EQ(static_cast<double>(found), sign * magnitude) << bits;
    }
  }
}

}  // namespace
}  // namespace pantry
