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

// Fires in a text: each neuron draws by an urn, which is how a rate of Beta(s p, s (1 - p)) that nobody knows looks.
class Text {
 public:
  Text(const Layers& layers, double spread, uint64_t seed) : spread_(spread), rng_(seed) {
    for (const auto& layer : layers.frequency) {
      for (const uint16_t one : layer) urns_.push_back({one / 65535.0, 0});
    }
    fires_.resize(urns_.size());
  }
  const std::vector<bool>& Next() {
    for (size_t i = 0; i < urns_.size(); ++i) {
      const double p = (spread_ * urns_[i].frequency + urns_[i].n_fired) / (spread_ + n_tokens_);
      fires_[i] = rng_.NextDouble() < p;
      urns_[i].n_fired += fires_[i] ? 1 : 0;
    }
    ++n_tokens_;
    return fires_;
  }
  int n_fired(size_t neuron) const { return urns_[neuron].n_fired; }
  size_t n_neurons() const { return urns_.size(); }

 private:
  struct Urn {
    double frequency;
    int n_fired;
  };
  double spread_;
  Rng rng_;
  std::vector<Urn> urns_;
  std::vector<bool> fires_;
  int n_tokens_ = 0;
};

FiringCurve::RunShares SharesOf(const Layers& layers, double spread) {
  FiringCurve::RunShares shares = {};
  constexpr int kTexts = 8;
  for (uint64_t seed = 1001; seed <= 1000 + kTexts; ++seed) {  // others than those that made the layers
    Text text(layers, spread, seed);
    std::vector<bool> woken(text.n_neurons(), false);
    for (int32_t t = 0; t < FiringCurve::kRuns.back(); ++t) {
      const std::vector<bool>& fires = text.Next();
      for (size_t i = 0; i < woken.size(); ++i) woken[i] = woken[i] || fires[i];
      for (size_t run = 0; run < shares.size(); ++run) {
        if (FiringCurve::kRuns[run] != t + 1) continue;
        shares[run] += static_cast<double>(std::count(woken.begin(), woken.end(), true)) /
                       (kTexts * static_cast<double>(woken.size()));
      }
    }
  }
  return shares;
}

// Of what wakes of the next tokens, when those are held that fired most often of the last kHeatTokens.
double SlowCacheHits(const Layers& layers, double spread, double held_share, int n_tokens) {
  double hits = 0, all = 0;
  for (uint64_t seed = 100; seed < 108; ++seed) {
    Text text(layers, spread, seed);
    for (int t = 0; t < FiringCurve::kHeatTokens; ++t) text.Next();
    std::vector<int> warmth(text.n_neurons());
    for (size_t i = 0; i < warmth.size(); ++i) warmth[i] = text.n_fired(i);
    std::vector<size_t> order(warmth.size());
    std::iota(order.begin(), order.end(), size_t{0});
    Rng rng(seed);
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.NextU64() % i]);  // who is equally warm
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return warmth[a] > warmth[b]; });
    std::vector<bool> woken(warmth.size(), false);
    for (int t = 0; t < n_tokens; ++t) {
      const std::vector<bool>& fires = text.Next();
      for (size_t i = 0; i < woken.size(); ++i) woken[i] = woken[i] || fires[i];
    }
    const auto n_held = static_cast<size_t>(held_share * static_cast<double>(order.size()));
    for (size_t i = 0; i < order.size(); ++i) {
      all += woken[order[i]] ? 1 : 0;
      hits += i < n_held && woken[order[i]] ? 1 : 0;
    }
  }
  return hits / all;
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
  const FiringCurve curve = FiringCurve::Of(layers.spans(), {0, measured});
  EXPECT_NEAR(curve.active_share(1), measured, 1e-6);
  EXPECT_EQ(curve.active_share(2), independent.active_share(2));
  // More than independent tokens wake cannot be.
  EXPECT_NEAR(FiringCurve::Of(layers.spans(), {0, 1}).active_share(1), two, 1e-6);
}

TEST(FiringCurve, TheCacheHitsWhatRepeatsItself) {
  const Layers layers = RandomLayers(4, 6, 1000);
  for (const double spread : {3.0, 12.0, 1e6}) {
    const FiringCurve curve = FiringCurve::Of(layers.spans(), SharesOf(layers, spread));
    for (const double held : {0.05, 0.1, 0.2, 0.3, 0.5}) {
      for (size_t batch = 0; batch < FiringCurve::kBatches.size(); ++batch) {
        const double likely = curve.Hits(held, batch).likely;
        EXPECT_NEAR(likely, SlowCacheHits(layers, spread, held, FiringCurve::kBatches[batch]), 0.015)
            << "spread " << spread << ", held " << held << ", batch " << batch;
      }
      if (spread < 10) {
        EXPECT_GT(curve.Hits(held, 0).likely, curve.BestHits(held, 0) + 0.005) << held;
      }
    }
  }
}

TEST(FiringCurve, ATextThatRepeatsItselfMoreHitsMore) {
  const Layers layers = RandomLayers(5, 3, 1000);
  double before = 0;
  for (const double spread : {1e6, 30.0, 10.0, 3.0}) {
    const double likely = FiringCurve::Of(layers.spans(), SharesOf(layers, spread)).Hits(0.2, 0).likely;
    EXPECT_GT(likely, before) << spread;
    before = likely;
  }
}

TEST(FiringCurve, LongRunsWakeWhatTheProfileSays) {
  const Layers layers = RandomLayers(6, 3, 1000);
  for (const double spread : {4.0, 20.0, 1e6}) {
    const FiringCurve::RunShares shares = SharesOf(layers, spread);
    const FiringCurve curve = FiringCurve::Of(layers.spans(), shares);
    const std::vector<double>& woken = curve.woken_by_run();
    ASSERT_EQ(woken.size(), 13u);
    for (size_t run = 0; run < shares.size(); ++run) EXPECT_NEAR(woken[run], shares[run], 0.02) << spread << " " << run;
    EXPECT_TRUE(std::is_sorted(woken.begin(), woken.end()));
    EXPECT_LE(woken.back(), 6.0 / 7 + 0.001) << "one in seven never fires";
  }
}

TEST(FiringCurve, HitsRiseWithMemoryAndAreInOrder) {
  const Layers some = RandomLayers(3, 3, 100);
  const FiringCurve curves[] = {FiringCurve::Guess(), FiringCurve::Of(some.spans(), {}),
                                FiringCurve::Of(some.spans(), SharesOf(some, 5))};
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
