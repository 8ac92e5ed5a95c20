// SPDX-License-Identifier: Apache-2.0
#include "policy/planner/firing_curve.h"

#include <algorithm>
#include <cmath>

#include "policy/planner/chances.h"

namespace pantry {
namespace {

// Misses over those of the fixed choice that the profile calls the best: on another text of bamboo-7b's it missed 1.06 to 1.5 times as much where 12 to
// 41 % are held (docs/performance.md), of which the cache makes good a part.
constexpr double kMostMisses = 1.25;
// Tokens that teach a neuron's rate: from a new rate for every text to the profile's own.
constexpr double kLeastSpread = 0.05, kMostSpread = 1e6;
constexpr size_t kPoints = 256;  // that spreads and heat are computed of: a plan takes milliseconds
constexpr size_t kLongRun = 5, kShortRun = 1;
constexpr int kLongestRun = 12;  // as a power of two

// The chance that a neuron rests for all of n_tokens, where so many of `total` tokens taught that it rests.
double RestsFor(double rests, double total, int n_tokens) {
  constexpr int kMostFactors = 32;
  if (n_tokens > kMostFactors) {  // beta functions instead of a long product
    if (rests <= 0) return 0;
    return std::exp(std::lgamma(rests + n_tokens) - std::lgamma(rests) + std::lgamma(total) -
                    std::lgamma(total + n_tokens));
  }
  double chance = 1;
  for (int i = 0; i < n_tokens; ++i) chance *= (rests + i) / (total + i);
  return chance;
}

// Of a neuron's rate, after n_seen tokens of which it fired for n_fired: the chance that it fires for some of n_tokens more.
double Wanted(double frequency, double spread, int n_fired, int n_seen, int n_tokens) {
  return 1 - RestsFor(spread * (1 - frequency) + (n_seen - n_fired), spread + n_seen, n_tokens);
}

// Chances that a neuron fires for 0, 1 ... of n_tokens.
std::vector<double> FiringCounts(double frequency, double spread, int n_tokens) {
  const double fires = spread * frequency, rests = spread * (1 - frequency);
  return ChancesOf(n_tokens, static_cast<int>(std::lround(frequency * n_tokens)),
                   [&](int n) { return (n_tokens - n) * (fires + n) / ((n + 1) * (rests + n_tokens - n - 1)); });
}

}  // namespace

// Those of about equal frequency as one, finer where neurons seldom fire.
std::vector<FiringCurve::Point> FiringCurve::Merged(const std::vector<Point>& points) {
  std::array<Point, kPoints + 1> bins = {};
  for (const Point& point : points) {
    Point& bin = bins[static_cast<size_t>(std::ceil(std::sqrt(point.frequency) * kPoints))];
    bin.frequency += point.n_neurons * point.frequency;
    bin.n_neurons += point.n_neurons;
  }
  std::vector<Point> merged;
  for (size_t i = bins.size(); i-- > 0;) {
    if (bins[i].n_neurons > 0) merged.push_back({bins[i].frequency / bins[i].n_neurons, bins[i].n_neurons});
  }
  return merged;
}

FiringCurve::Steps FiringCurve::Summed(Steps steps) {
  Step sum = {0, 0};
  for (Step& step : steps) step = sum = {sum.share + step.share, sum.wanted + step.wanted};
  for (Step& step : steps) {
    step.share = sum.share > 0 ? step.share / sum.share : 0;
    step.wanted = sum.wanted > 0 ? step.wanted / sum.wanted : 0;
  }
  return steps;
}

FiringCurve::Steps FiringCurve::HeldByHeat(const std::vector<Point>& points, double spread, int32_t n_tokens) {
  std::array<Step, kHeatTokens + 1> warm = {};  // neurons that fired so often
  for (const Point& point : points) {
    const std::vector<double> chances = FiringCounts(point.frequency, spread, kHeatTokens);
    for (size_t n = 0; n < chances.size(); ++n) {
      const double n_neurons = point.n_neurons * chances[n];
      warm[n].share += n_neurons;
      warm[n].wanted += n_neurons * Wanted(point.frequency, spread, static_cast<int>(n), kHeatTokens, n_tokens);
    }
  }
  return Summed({warm.rbegin(), warm.rend()});
}

FiringCurve FiringCurve::Make(const std::vector<Point>& points, const RunShares& active_shares) {
  const std::vector<Point> few = Merged(points);
  double n_neurons = 0;
  for (const Point& point : few) n_neurons += point.n_neurons;
  const auto mean = [&](double spread, int32_t n_tokens) {
    double sum = 0;
    for (const Point& point : few) sum += point.n_neurons * Wanted(point.frequency, spread, 0, 0, n_tokens);
    return n_neurons > 0 ? sum / n_neurons : 0;
  };
  const auto spread_of = [&](size_t run) {
    double low = kLeastSpread, high = kMostSpread;
    for (int i = 0; active_shares[run] > 0 && i < 30; ++i) {
      const double middle = std::sqrt(low * high);
      (mean(middle, kRuns[run]) < active_shares[run] ? low : high) = middle;
    }
    return high;
  };
  FiringCurve curve;
  const double of_long = spread_of(kLongRun), of_short = spread_of(kShortRun);
  for (size_t b = 0; b < kBatches.size(); ++b) {
    const int32_t n_tokens = kBatches[b];
    const double spread = b == 0 ? kMostSpread : spread_of(b);
    curve.active_shares_[b] = mean(spread, n_tokens);
    Steps fixed;
    for (const Point& point : points) {
      fixed.push_back({point.n_neurons, point.n_neurons * Wanted(point.frequency, spread, 0, 0, n_tokens)});
    }
    curve.best_[b] = Summed(std::move(fixed));
    curve.likely_[b] = HeldByHeat(few, of_long, n_tokens);
    curve.repeating_[b] = HeldByHeat(few, of_short, n_tokens);
  }
  for (int run = 0; run <= kLongestRun; ++run) curve.woken_.push_back(mean(of_long, 1 << run));
  return curve;
}

FiringCurve FiringCurve::Of(std::span<const std::span<const uint16_t>> frequency, const RunShares& active_shares) {
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
  constexpr int kGuessed = 1000;
  constexpr double kSteepness = 6.2;
  std::vector<Point> points;
  for (int i = 0; i < kGuessed; ++i) points.push_back({std::exp(-kSteepness * (i + 0.5) / kGuessed), 1});
  return Make(points, {});
}

double FiringCurve::At(const Steps& steps, double held_share) {
  const double held = std::clamp(held_share, 0.0, 1.0);
  if (held <= 0 || held >= 1 || steps.empty() || steps.back().wanted == 0) return held;
  const auto after = std::lower_bound(steps.begin(), steps.end(), held,
                                      [](const Step& step, double share) { return step.share < share; });
  if (after == steps.end()) return 1;
  const Step before = after == steps.begin() ? Step{0, 0} : after[-1];
  return std::min(
      before.wanted + (held - before.share) / (after->share - before.share) * (after->wanted - before.wanted), 1.0);
}

HitRange FiringCurve::Hits(double held_share, size_t batch) const {
  const double best = BestHits(held_share, batch), likely = At(likely_[batch], held_share);
  const double least = 1 - kMostMisses * (1 - std::min(best, likely));
  return {std::max(least, 0.0), likely, std::max({best, likely, At(repeating_[batch], held_share)})};
}

}  // namespace pantry
