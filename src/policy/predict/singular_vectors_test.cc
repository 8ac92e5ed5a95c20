// SPDX-License-Identifier: Apache-2.0
#include "policy/predict/singular_vectors.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"

namespace pantry {
namespace {

float Noise(Rng& rng) { return static_cast<float>(rng.NextDouble() + rng.NextDouble() - 1); }

double Inner(const std::vector<float>& rows, int64_t i, int64_t j, int64_t n_cols) {
  double sum = 0;
  for (int64_t c = 0; c < n_cols; ++c) {
    sum += double{rows[static_cast<size_t>(i * n_cols + c)]} * rows[static_cast<size_t>(j * n_cols + c)];
  }
  return sum;
}

// |a v|^2
double Stretch(const std::vector<float>& a, const float* v, int64_t n_cols) {
  double sum = 0;
  for (size_t row = 0; row < a.size(); row += static_cast<size_t>(n_cols)) {
    double product = 0;
    for (int64_t c = 0; c < n_cols; ++c) product += double{a[row + static_cast<size_t>(c)]} * v[c];
    sum += product * product;
  }
  return sum;
}

TEST(SingularVectors, OfADiagonalAreItsAxesByFallingSize) {
  constexpr int64_t kN = 12;
  std::vector<float> a(kN * kN);
  for (int64_t i = 0; i < kN; ++i)
    a[static_cast<size_t>(i * kN + i)] = static_cast<float>(i == 7 ? 100 : i == 2 ? 30 : 1);
  const std::vector<float> v = SingularVectors(a, kN, 2);
  EXPECT_NEAR(std::abs(v[7]), 1, 1e-3);
  EXPECT_NEAR(std::abs(v[kN + 2]), 1, 1e-2);
}

TEST(SingularVectors, SpanALowRankMatrixAndAreOrthonormal) {
  constexpr int64_t kRows = 90, kCols = 60, kRank = 5;
  Rng rng(4);
  std::vector<float> left(kRows * kRank), right(kRank * kCols), a(kRows * kCols);
  for (float& x : left) x = Noise(rng);
  for (float& x : right) x = Noise(rng);
  double all = 0;
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kCols; ++c) {
      float& x = a[static_cast<size_t>(r * kCols + c)];
      for (int64_t k = 0; k < kRank; ++k)
        x += left[static_cast<size_t>(r * kRank + k)] * right[static_cast<size_t>(k * kCols + c)];
      all += double{x} * x;
    }
  }
  const std::vector<float> v = SingularVectors(a, kCols, kRank);
  double held = 0, before = INFINITY;
  for (int64_t i = 0; i < kRank; ++i) {
    for (int64_t j = 0; j <= i; ++j) EXPECT_NEAR(Inner(v, i, j, kCols), i == j ? 1 : 0, 1e-4) << i << " " << j;
    const double stretch = Stretch(a, v.data() + i * kCols, kCols);
    EXPECT_LE(stretch, before * 1.001);
    before = stretch;
    held += stretch;
  }
  EXPECT_NEAR(held / all, 1, 1e-3);
}

TEST(SingularVectors, ThatAMatrixDoesNotHaveAreZero) {
  const std::vector<float> a = {1, 2, 3, 4, 2, 4, 6, 8};  // rank 1, and two rows only
  const std::vector<float> v = SingularVectors(a, 4, 3);
  EXPECT_NEAR(Inner(v, 0, 0, 4), 1, 1e-5);
  EXPECT_NEAR(Inner(v, 2, 2, 4), 0, 1e-5);
}

}  // namespace
}  // namespace pantry
