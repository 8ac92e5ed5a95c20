// SPDX-License-Identifier: Apache-2.0
#include "base/firing_gates.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"

namespace pantry {
namespace {

TEST(FiringGates, OfReluAreThoseAboveZero) {
  const FiringGates gates = FiringGates::Positive();
  EXPECT_TRUE(gates.Contain(1e-45f));
  EXPECT_TRUE(gates.Contain(INFINITY));
  EXPECT_FALSE(gates.Contain(0.0f));
  EXPECT_FALSE(gates.Contain(-0.0f));
  EXPECT_FALSE(gates.Contain(-3.0f));
  EXPECT_FALSE(gates.Contain(-INFINITY));
}

TEST(FiringGates, OfSiluAreThoseWhoseActivationReachesTheThreshold) {
  Rng rng(3);
  for (const float threshold : {1e-30f, 1e-6f, 0.01f, 0.1f, 0.25f, 0.278f, 0.279f, 0.5f, 3.0f, 1000.0f}) {
    const FiringGates gates = FiringGates::OfSilu(threshold);
    int n_firing = 0, n_resting = 0;
    for (int i = 0; i < 20000; ++i) {
      const double range = i % 2 == 0 ? 4 : 4 * (1 + threshold);
      const auto gate = static_cast<float>(range * (2 * static_cast<double>(rng.NextU64() >> 11) * 0x1p-53 - 1));
      const double silu = std::abs(gate / (1 + std::exp(-static_cast<double>(gate))));
      if (std::abs(silu - threshold) < 1e-5 * threshold) continue;  // too near to tell in float
      EXPECT_EQ(gates.Contain(gate), silu > threshold) << gate << " at " << threshold;
      (silu > threshold ? n_firing : n_resting) += 1;
    }
    EXPECT_GT(n_firing, 0) << threshold;
    EXPECT_TRUE(n_resting > 0 || threshold < 1e-3f) << threshold;
  }
}

TEST(FiringGates, WithoutThresholdEverythingFires) {
  for (const float threshold : {0.0f, -1.0f, NAN}) {
    const FiringGates gates = FiringGates::OfSilu(threshold);
    for (const float gate : {0.0f, -1.0f, -1e30f, -INFINITY, 2.0f}) EXPECT_TRUE(gates.Contain(gate));
  }
}

TEST(FiringGates, NanFires) {
  EXPECT_TRUE(FiringGates::Positive().Contain(NAN));
  EXPECT_TRUE(FiringGates::OfSilu(0.2f).Contain(NAN));
}

}  // namespace
}  // namespace pantry
