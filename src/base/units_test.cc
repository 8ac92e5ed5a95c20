// SPDX-License-Identifier: Apache-2.0
#include "base/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace pantry {
namespace {

TEST(FormatBytes, OneDecimalInPowersOfAThousand) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(999), "999 B");
  EXPECT_EQ(FormatBytes(1000), "1.0 kB");
  EXPECT_EQ(FormatBytes(98362432), "98.4 MB");
  EXPECT_EQ(FormatBytes(1500000000), "1.5 GB");
  EXPECT_EQ(FormatBytes(INT64_MAX), "9.2 EB");
}

TEST(FormatBytes, NeverShowsAThousandOfAUnit) {
  EXPECT_EQ(FormatBytes(999'949), "999.9 kB");
  EXPECT_EQ(FormatBytes(999'950), "1.0 MB");
  EXPECT_EQ(FormatBytes(999'999'999), "1.0 GB");
}

TEST(ParseBytes, UnitsArePowersOf1024) {
  EXPECT_EQ(ParseBytes("4096").value(), 4096);
  EXPECT_EQ(ParseBytes("0").value(), 0);
  EXPECT_EQ(ParseBytes("12B").value(), 12);
  EXPECT_EQ(ParseBytes("3K").value(), 3 * kKiB);
  EXPECT_EQ(ParseBytes("512M").value(), 512 * kMiB);
  EXPECT_EQ(ParseBytes("6G").value(), 6 * kGiB);
  EXPECT_EQ(ParseBytes("6GB").value(), 6 * kGiB);
  EXPECT_EQ(ParseBytes("6gib").value(), 6 * kGiB);
  EXPECT_EQ(ParseBytes("1.5GiB").value(), 3 * kGiB / 2);
  EXPECT_EQ(ParseBytes("2T").value(), 2048 * kGiB);
}

TEST(ParseBytes, EverythingElseIsRefusedWithAnExample) {
  for (const char* text :
       {"", "G", "-1", "-1G", "six", "6X", "6G6", "6 GG", "nan", "inf", "1e30", "9999999999T", "6G "}) {
    const auto refused = ParseBytes(text);
    ASSERT_FALSE(refused.ok()) << text;
    EXPECT_EQ(refused.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.status().message()), ::testing::HasSubstr("6G, 512M or 4096"));
  }
}

}  // namespace
}  // namespace pantry
