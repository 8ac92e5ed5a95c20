// SPDX-License-Identifier: Apache-2.0
#include "policy/planner/firing_curve.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/rng.h"

namespace pantry {
namespace {

struct Layers {
  std::vector<std::vector<uint16_t>> frequency;
  std::vector<std::span<const uint16_t>> spans() const { return {frequency.begin(), frequency.end()}; }
};

// Many rest nearly always, some never do.
Layers RandomLayers(uint64_t seed, int n_layers, int n_neurons) {
  Rng rng(seed);
  Layers layers;
  layers.frequency.resize(static_cast<size_t>(n_layers));
  for (auto& layer : layers.frequency) {
    for (int i = 0; i < n_neurons; ++i) {
      const double p = std::pow(rng.NextDouble(), 4);
      layer.push_back(i % 7 == 0 ? 0 : static_cast<uint16_t>(p * UINT16_MAX));
    }
  }
  return layers;
}

// By the definition: every neuron, sorted by how often it fires.
double SlowHits(const Layers& layers, double held_share) {
  std::vector<double> all;
  for (const auto& layer : layers.frequency) all.insert(all.end(), layer.begin(), layer.end());
  std::sort(all.rbegin(), all.rend());
  const int64_t n_held = std::lround(held_share * static_cast<double>(all.size()));
  return std::accumulate(all.begin(), all.begin() + n_held, 0.0) / std::accumulate(all.begin(), all.end(), 0.0);
}

TEST(FiringCurve, BestHitsAreThoseOfTheNeuronsThatFireMost) {
  const Layers layers = RandomLayers(1, 5, 400);
  const FiringCurve curve = FiringCurve::Of(layers.spans(), {});
  for (int n = 0; n <= 2000; n += 10) {
    EXPECT_NEAR(curve.BestHits(n / 2000.0, 0), SlowHits(layers, n / 2000.0), 1e-9) << n;
  }
  double sum = 0;
  for (const auto& layer : layers.frequency) sum += std::accumulate(layer.begin(), layer.end(), 0.0);
  EXPECT_NEAR(curve.active_share(0), sum / 2000 / UINT16_MAX, 1e-9);
}

TEST(FiringCurve, TokensTogetherWakeWhatWasMeasured) {
  const Layers layers = RandomLayers(2, 4, 300);
  const FiringCurve independent = FiringCurve::Of(layers.spans(), {});
  const double one = independent.active_share(0), two = independent.active_share(1);
  EXPECT_GT(two, one);
  EXPECT_LT(two, 2 * one);
  const double measured = (one + two) / 2;  // half of what a token wakes, the one before had woken more than by chance
  const FiringCurve curve = FiringCurve::Of(layers.spans(), {0, measured, 0});
  EXPECT_NEAR(curve.active_share(1), measured, 1e-6);
  EXPECT_EQ(curve.active_share(2), independent.active_share(2));
  // More than independent tokens wake cannot be.
  EXPECT_NEAR(FiringCurve::Of(layers.spans(), {0, 1, 0}).active_share(1), two, 1e-6);
}

TEST(FiringCurve, HitsRiseWithMemoryAndAreInOrder) {
  const FiringCurve curves[] = {FiringCurve::Guess(), FiringCurve::Of(RandomLayers(3, 3, 100).spans(), {})};
  for (const FiringCurve& curve : curves) {
    for (size_t batch = 0; batch < FiringCurve::kBatches.size(); ++batch) {
      HitRange before = {0, 0, 0};
      for (int percent = 0; percent <= 100; ++percent) {
        const HitRange hits = curve.Hits(percent / 100.0, batch);
        EXPECT_LE(hits.low, hits.likely);
        EXPECT_LE(hits.likely, hits.high);
        EXPECT_GE(hits.low, before.low);
        EXPECT_GE(hits.likely, before.likely);
        EXPECT_GE(hits.high, before.high);
        before = hits;
      }
      EXPECT_EQ(before.low, 1);
      EXPECT_EQ(curve.BestHits(0, batch), 0);
      EXPECT_LE(curve.BestHits(0.2, batch), curve.BestHits(0.2, batch > 0 ? batch - 1 : 0) + 1e-9) << "flatter";
    }
  }
}

TEST(FiringCurve, TheGuessIsThePublishedOne) {
  const FiringCurve guess = FiringCurve::Guess();
  EXPECT_NEAR(guess.BestHits(0.26, 0), 0.80, 0.01);
  EXPECT_NEAR(guess.BestHits(0.5, 0), 0.95, 0.01);
  EXPECT_NEAR(guess.active_share(0), 0.16, 0.005);
}

TEST(FiringCurve, NeuronsThatNeverFireAreHitByChance) {
  const Layers layers = {{std::vector<uint16_t>(50, 0)}};
  const FiringCurve curve = FiringCurve::Of(layers.spans(), {});
  EXPECT_EQ(curve.active_share(0), 0);
  EXPECT_EQ(curve.BestHits(0.3, 0), 0.3);
  EXPECT_EQ(curve.BestHits(1, 0), 1);
}

}  // namespace
}  // namespace pantry
