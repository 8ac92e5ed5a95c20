// SPDX-License-Identifier: Apache-2.0
#include "engine/stop_texts.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/rng.h"

namespace pantry {
namespace {

TEST(StopTexts, WithoutTextsEverythingComesAtOnce) {
  StopTexts stop({});
  EXPECT_EQ(stop.Feed("abc"), "abc");
  EXPECT_EQ(stop.Finish(), "");
  EXPECT_FALSE(stop.found());
}

TEST(StopTexts, BeginningIsHeldBackUntilItIsCertain) {
  StopTexts stop({"END"});
  EXPECT_EQ(stop.Feed("the E"), "the ");
  EXPECT_EQ(stop.Feed("N"), "");
  EXPECT_EQ(stop.Feed("d"), "ENd");
  EXPECT_EQ(stop.Feed("E"), "");
  EXPECT_EQ(stop.Finish(), "E");
}

TEST(StopTexts, TextSpreadOverFeedsEndsTheAnswer) {
  StopTexts stop({"\nUser:"});
  EXPECT_EQ(stop.Feed("hi\n"), "hi");
  EXPECT_EQ(stop.Feed("Us"), "");
  EXPECT_EQ(stop.Feed("er: more"), "");
  EXPECT_TRUE(stop.found());
  EXPECT_EQ(stop.Feed("even more"), "");
  EXPECT_EQ(stop.Finish(), "");
}

TEST(StopTexts, FailedBeginningMayHoldTheRealOne) {
  StopTexts stop({"aab"});
  std::string shown;
  for (const char* byte : {"a", "a", "a", "b"}) shown += stop.Feed(byte);
  EXPECT_EQ(shown, "a");
  EXPECT_TRUE(stop.found());
}

TEST(StopTexts, EarliestOfSeveralEndsTheAnswer) {
  StopTexts stop({"world", "lo"});
  EXPECT_EQ(stop.Feed("hello world"), "hel");
  EXPECT_TRUE(stop.found());
}

// However the text is cut, what is shown is the text up to the first stop text.
TEST(StopTexts, ResultDoesNotDependOnTheSplit) {
  Rng rng(7);
  const std::vector<std::string> stops = {"abab", "bb", "cabc"};
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 24; ++i) text += static_cast<char>('a' + rng.NextU64() % 3);
    size_t end = std::string::npos;
    for (const std::string& s : stops) end = std::min(end, text.find(s));
    StopTexts stop(stops);
    std::string shown;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + rng.NextU64() % 4;
      shown += stop.Feed(text.substr(at, n));
      at += n;
    }
    EXPECT_EQ(stop.found(), end != std::string::npos) << text;
    shown += stop.Finish();
    EXPECT_EQ(shown, text.substr(0, end)) << text;
  }
}

TEST(StopTexts, EmptyAndBrokenTextsAreRefused) {
  EXPECT_EQ(StopTexts::Validate({"a", ""}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(StopTexts::Validate({"\xA9"}).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(StopTexts::Validate({"\xC3\xA9", "x"}).ok());
}

}  // namespace
}  // namespace pantry
