// SPDX-License-Identifier: Apache-2.0
#include "models/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace pantry {
namespace {

RopeShape Shape(int32_t n_dims) {
  RopeShape shape;
  shape.n_dims = n_dims;
  return shape;
}

TEST(RopeTable, PairsTurnByPositionTimesPowersOfTheBase) {
  const RopeTable table(Shape(4), nullptr);
  float cos_sin[4];
  table.Fill(7, cos_sin);
  EXPECT_FLOAT_EQ(cos_sin[0], std::cos(7.0f));
  EXPECT_FLOAT_EQ(cos_sin[1], std::sin(7.0f));
  EXPECT_FLOAT_EQ(cos_sin[2], std::cos(0.07f));  // 10000^(-2/4) = 0.01
  EXPECT_FLOAT_EQ(cos_sin[3], std::sin(0.07f));
}

TEST(RopeTable, LinearScalingIsAShorterPosition) {
  RopeShape scaled = Shape(8);
  scaled.scaling = RopeScaling::kLinear;
  scaled.scale_factor = 4;
  float far[8], near[8];
  RopeTable(scaled, nullptr).Fill(20, far);
  RopeTable(Shape(8), nullptr).Fill(5, near);
  for (int i = 0; i < 8; ++i) EXPECT_FLOAT_EQ(far[i], near[i]);
}

TEST(RopeTable, FactorsDivideFrequencies) {
  const float factors[] = {1, 8};
  const RopeTable table(Shape(4), factors);
  EXPECT_DOUBLE_EQ(table.frequencies()[0], 1.0);
  EXPECT_DOUBLE_EQ(table.frequencies()[1], 0.01 / 8);
}

TEST(RopeTable, YarnKeepsFastPairsAndInterpolatesSlowOnes) {
  RopeShape shape = Shape(64);
  shape.scaling = RopeScaling::kYarn;
  shape.scale_factor = 8;
  shape.original_context = 4096;
  const RopeTable plain(Shape(64), nullptr), yarn(shape, nullptr);
  EXPECT_DOUBLE_EQ(yarn.frequencies().front(), plain.frequencies().front());
  EXPECT_DOUBLE_EQ(yarn.frequencies().back(), plain.frequencies().back() / 8);
  for (size_t i = 1; i < plain.frequencies().size(); ++i) {
    const double share = plain.frequencies()[i] / yarn.frequencies()[i];
    EXPECT_GE(share, plain.frequencies()[i - 1] / yarn.frequencies()[i - 1]);  // a ramp from 1 ...
    EXPECT_LE(share, 8 + 1e-12);                                               // ... to the factor
  }
  EXPECT_DOUBLE_EQ(yarn.magnitude(), 1 + 0.1 * std::log(8.0));
}

TEST(RopeTable, MagnitudeScalesBothCosineAndSine) {
  RopeShape shape = Shape(4);
  shape.attn_factor = 1.5;
  float cos_sin[4];
  RopeTable(shape, nullptr).Fill(3, cos_sin);
  EXPECT_FLOAT_EQ(std::hypot(cos_sin[0], cos_sin[1]), 1.5f);
  EXPECT_FLOAT_EQ(std::hypot(cos_sin[2], cos_sin[3]), 1.5f);
}

TEST(RopeTable, FarPositionsStayExact) {
  const RopeTable table(Shape(2), nullptr);
  float cos_sin[2];
  table.Fill(1 << 25, cos_sin);  // beyond what F32 can count
  EXPECT_FLOAT_EQ(cos_sin[0], static_cast<float>(std::cos(33554432.0)));
  EXPECT_FLOAT_EQ(cos_sin[1], static_cast<float>(std::sin(33554432.0)));
}

}  // namespace
}  // namespace pantry
