// SPDX-License-Identifier: Apache-2.0
#include "policy/routing/exact.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace pantry {
namespace {

std::vector<int32_t> Choose(const std::vector<float>& logits, size_t n) {
  std::vector<int32_t> chosen(n, -7);
  ChooseExperts(logits, chosen);
  return chosen;
}

TEST(ChooseExperts, TakesTheHighestInDescendingOrder) {
  EXPECT_EQ(Choose({0.1f, 3.0f, -2.0f, 2.0f}, 2), (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(Choose({0.1f, 3.0f, -2.0f, 2.0f}, 4), (std::vector<int32_t>{1, 3, 0, 2}));
}

TEST(ChooseExperts, OfEqualsTheLowerIndexComesFirst) {
  EXPECT_EQ(Choose({1.0f, 2.0f, 2.0f, 1.0f, 2.0f}, 4), (std::vector<int32_t>{1, 2, 4, 0}));
  EXPECT_EQ(Choose({0.0f, -0.0f, 0.0f}, 2), (std::vector<int32_t>{0, 1}));
}

// A model that computes nonsense must not make us read outside its experts.
TEST(ChooseExperts, AlwaysGivesDistinctExpertsEvenOfNonsense) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Choose({nan, nan, nan}, 2), (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(Choose({nan, 1.0f, inf}, 3), (std::vector<int32_t>{2, 1, 0}));
  EXPECT_EQ(Choose({-inf, -inf, -inf}, 3), (std::vector<int32_t>{0, 1, 2}));
}

}  // namespace
}  // namespace pantry
