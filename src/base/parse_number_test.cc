// SPDX-License-Identifier: Apache-2.0
#include "base/parse_number.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

namespace pantry {
namespace {

TEST(ParseNumber, ReadsWholeNumbersThatTheTypeHolds) {
  EXPECT_EQ(ParseNumber<int32_t>("0"), 0);
  EXPECT_EQ(ParseNumber<int32_t>("-12"), -12);
  EXPECT_EQ(ParseNumber<int32_t>("2147483647"), INT32_MAX);
  EXPECT_EQ(ParseNumber<int32_t>("2147483648"), std::nullopt);
  EXPECT_EQ(ParseNumber<int64_t>("2147483648"), int64_t{1} << 31);
  EXPECT_EQ(ParseNumber<uint64_t>("18446744073709551615"), UINT64_MAX);
  EXPECT_EQ(ParseNumber<uint64_t>("-1"), std::nullopt);
}

TEST(ParseNumber, ReadsFractionsExponentsAndWhatIsNotFinite) {
  EXPECT_EQ(ParseNumber<double>("0.25"), 0.25);
  EXPECT_EQ(ParseNumber<double>("-2e3"), -2000.0);
  EXPECT_EQ(ParseNumber<float>("0.1"), 0.1f);
  EXPECT_EQ(ParseNumber<double>("inf"), HUGE_VAL);
  EXPECT_TRUE(std::isnan(ParseNumber<double>("nan").value_or(0)));
  EXPECT_EQ(ParseNumber<double>("1e999"), std::nullopt);
}

TEST(ParseNumber, IsTheWholeTextOrNothing) {
  for (const char* text : {"", " ", "x", "1x", "1 ", " 1", "+1", "1,2", "1.5.", "-", "--1", "0x10"}) {
    EXPECT_EQ(ParseNumber<int64_t>(text), std::nullopt) << text;
    EXPECT_EQ(ParseNumber<double>(text), std::nullopt) << text;
  }
  EXPECT_EQ(ParseNumber<int64_t>("1.5"), std::nullopt);
}

}  // namespace
}  // namespace pantry
