// SPDX-License-Identifier: Apache-2.0
// Policies as users write them, and which of them suit a model.
#include <gtest/gtest.h>

#include <string>

#include "policy/routing/expert_policy.h"

namespace pantry {
namespace {

TEST(ParseExpertPolicy, ReadsWhatExpertPolicyTextWrites) {
  for (const std::string text : {"exact", "max-rank:12", "cumulative:0.7", "margin:0.1", "cache-prior:0.3", "factor:2",
                                 "drop:0.1", "auto:1%", "auto:0.5%", "auto:7%"}) {
    const auto spec = ParseExpertPolicy(text);
    ASSERT_TRUE(spec.ok()) << spec.status().ToString();
    EXPECT_EQ(ExpertPolicyText(*spec), text);
    EXPECT_EQ(spec->top_j, 0);
  }
  EXPECT_EQ(ParseExpertPolicy("auto:1%")->value, 0.01);
  EXPECT_EQ(ParseExpertPolicy("max-rank:12")->kind, ExpertPolicyKind::kMaxRank);
}

TEST(ParseExpertPolicy, SaysWhatWasExpected) {
  for (const std::string text : {"",
                                 "cache",
                                 "cache-prior",
                                 "cache-prior:",
                                 "cache-prior:1.5",
                                 "cache-prior:-0.1",
                                 "cache-prior:nan",
                                 "cache-prior:0.3x",
                                 "exact:1",
                                 "max-rank:2.5",
                                 "max-rank:0",
                                 "cumulative:1.1",
                                 "margin",
                                 "margin:-0.1",
                                 "margin:1.1",
                                 "factor:0.5",
                                 "factor:inf",
                                 "drop:2",
                                 "auto:1",
                                 "auto:%",
                                 "auto:101%",
                                 "auto:-1%",
                                 "Exact"}) {
    const auto spec = ParseExpertPolicy(text);
    ASSERT_FALSE(spec.ok()) << text;
    EXPECT_EQ(spec.status().code(), StatusCode::kInvalidArgument);
  }
  EXPECT_NE(ParseExpertPolicy("auto:1").status().message().find("auto:1%"), std::string::npos);
  EXPECT_NE(ParseExpertPolicy("lru").status().message().find("cache-prior:L"), std::string::npos);
}

TEST(MakeExpertPolicy, RefusesWhatDoesNotSuitTheModel) {
  const auto code = [](const ExpertPolicySpec& spec) { return MakeExpertPolicy(spec, 32, 4).status().code(); };
  EXPECT_EQ(code({.kind = ExpertPolicyKind::kMaxRank, .value = 3}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.kind = ExpertPolicyKind::kMaxRank, .value = 33}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.kind = ExpertPolicyKind::kExact, .top_j = 5}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.kind = ExpertPolicyKind::kDrop, .value = 1.5}), StatusCode::kInvalidArgument);
  EXPECT_FALSE(MakeExpertPolicy({}, 4, 8).ok());
  EXPECT_FALSE(MakeExpertPolicy({}, 0, 0).ok());
  EXPECT_EQ(DefaultTopJ(1), 1);
  EXPECT_EQ(DefaultTopJ(2), 1);
  EXPECT_EQ(DefaultTopJ(4), 2);
}

}  // namespace
}  // namespace pantry
