// SPDX-License-Identifier: Apache-2.0
#include "policy/planner/firing_curve.h"

#include <algorithm>
#include <cmath>

namespace pantry {
namespace {

// Misses of the cache over those of the best fixed choice (docs/performance.md): 1.00 to 1.04 times as many where 10 to 30 % of the neurons are
// held, 1.18 where 40 % are. At worst the text differs from the profile's.
constexpr double kLikelyMisses = 1.05, kMostMisses = 1.25;

double Wanted(double frequency, double n_tokens) { return 1 - std::pow(1 - frequency, n_tokens); }

}  // namespace

FiringCurve FiringCurve::Make(const std::vector<Point>& points,
                              const std::array<double, kBatches.size()>& active_shares) {
  FiringCurve curve;
  double n_neurons = 0;
  for (const Point& point : points) n_neurons += point.n_neurons;
  const auto mean = [&](double n_tokens) {
    double sum = 0;
    for (const Point& point : points) sum += point.n_neurons * Wanted(point.frequency, n_tokens);
    return n_neurons > 0 ? sum / n_neurons : 0;
  };
  for (size_t b = 0; b < kBatches.size(); ++b) {
    double low = 1, high = kBatches[b];  // independent tokens
    for (int i = 0; b > 0 && active_shares[b] > 0 && i < 40; ++i) {
      const double middle = (low + high) / 2;
      (mean(middle) < active_shares[b] ? low : high) = middle;
    }
    curve.active_shares_[b] = mean(high);
    const double all = curve.active_shares_[b] * n_neurons;
    Step step = {0, 0};
    for (const Point& point : points) {
      step.share += point.n_neurons / n_neurons;
      step.wanted += all > 0 ? point.n_neurons * Wanted(point.frequency, high) / all : 0;
      curve.steps_[b].push_back(step);
    }
  }
  return curve;
}

FiringCurve FiringCurve::Of(std::span<const std::span<const uint16_t>> frequency,
                            const std::array<double, kBatches.size()>& active_shares) {
  std::vector<double> counts(size_t{UINT16_MAX} + 1, 0);
  for (const std::span<const uint16_t> layer : frequency) {
    for (const uint16_t one : layer) ++counts[one];
  }
  std::vector<Point> points;
  for (size_t i = counts.size(); i-- > 0;) {
    if (counts[i] > 0) points.push_back({static_cast<double>(i) / UINT16_MAX, counts[i]});
  }
  return Make(points, active_shares);
}

FiringCurve FiringCurve::Guess() {
  constexpr int kPoints = 1000;
  constexpr double kSteepness = 6.2;
  std::vector<Point> points;
  for (int i = 0; i < kPoints; ++i) points.push_back({std::exp(-kSteepness * (i + 0.5) / kPoints), 1});
  return Make(points, {});
}

double FiringCurve::BestHits(double held_share, size_t batch) const {
  const std::vector<Step>& steps = steps_[batch];
  const double held = std::clamp(held_share, 0.0, 1.0);
  if (held >= 1 || steps.empty() || steps.back().wanted == 0) return held >= 1 ? 1 : held;
  const auto after = std::lower_bound(steps.begin(), steps.end(), held,
                                      [](const Step& step, double share) { return step.share < share; });
  if (after == steps.end()) return 1;
  const Step before = after == steps.begin() ? Step{0, 0} : after[-1];
  return std::min(
      before.wanted + (held - before.share) / (after->share - before.share) * (after->wanted - before.wanted), 1.0);
}

HitRange FiringCurve::Hits(double held_share, size_t batch) const {
  const double missed = 1 - BestHits(held_share, batch);
  return {std::max(1 - kMostMisses * missed, 0.0), std::max(1 - kLikelyMisses * missed, 0.0), 1 - missed};
}

}  // namespace pantry
