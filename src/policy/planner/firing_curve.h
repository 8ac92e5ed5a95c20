// SPDX-License-Identifier: Apache-2.0
// A FiringCurve says what share of the neurons that fire lie in memory when it holds those that fire most often.
//
// It comes from how often each neuron fired on a text, all layers together, since they share one cache. On the text at hand it fires at another
// rate q, which is spread around that of the profile as a beta distribution that s tokens would have taught; the smaller s, the more a text's
// tokens have in common. The profile has s: b tokens in a row wake as many neurons as it measured if, with B(p) = Beta(s p, s (1 - p)),
//
//   wanted by b tokens    p_b = E[1 - (1 - q)^b],  q ~ B(p)                          mean over neurons = measured share, solved for s
//   hits (held)           sum of E[1 - (1 - q)^b] over those that are held / sum of p_b
//
// Held by the best fixed choice are those of the greatest p. The cache holds the warmest: those that fired most often of the last tokens, of which
// it remembers as many as kHeatTokens that count alike; how often a neuron did follows from its p, and what that says of q as well. So hits of the
// cache lie above those of the best fixed choice as far as a text repeats itself.
//
// Threads: a value.
// Source: the hot and cold neurons of PowerInfer-2 by batch size, arXiv 2406.06282, section 5. The model of repetition is ours: of bamboo-7b it
// foretells 55.8, 82.3, 87.8 and 96.7 % where 12, 24, 28 and 41 % are held; the cache, replayed with what fired in 128 tokens of another text, had
// 57.5, 83.7, 88.6 and 96.3 (the best fixed choice for the profile's text: 54.5, 80.2, 85.6, 94.8; docs/performance.md).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "policy/planner/speed_estimate.h"

namespace pantry {

// A byte of a neuron, one run of lines here and there, takes so many times one of a product that streams (docs/performance.md: of bamboo-7b's token
// 20.7 ms for 334 MB of neurons, products 29.2 GB/s; scales of down stream and are no part of it). Of a plain read, which is faster than a product: 2.2.
inline constexpr double kScattered = 1.8;
// The same of an expert's neurons where its block lies in rows and columns, whose runs are short (neurons one by one from a pack: as above): with 8 % of 768 neurons firing, the loops of smallthinker-4b take 0.62 to 0.65 of what streaming
// its experts whole would (864 bytes a row; Granite Rapids, shares of perf's samples in two minutes of different memory rates), and so with kExpertFiringShare.
inline constexpr double kExpertScattered = 2.3;

// Of an expert's neurons, those that fire for a token, where nobody has looked. Experts of ReGLU mixtures fire less than dense ReLU models:
// measured here are 8 % (a smallthinker of random weights) and 8.2 to 11.3 % (tiny-thinker, trained); published of SmallThinker is only that
// more than 60 % rest, so up to 40 % may fire. This lies between: a factor of 2 from 10 % as from 40 %.
inline constexpr double kExpertFiringShare = 0.20;

// Of a network whose gate is read whole, and of up and down what fires.
inline constexpr SparseCost FiredCost(double active_share, double scattered = kScattered) {
  const double fired = (1 + 2 * active_share) / 3;
  return {fired, (1 + 2 * scattered * active_share) / 3, fired, 1.0 / 3};
}

class FiringCurve {
 public:
  static constexpr std::array<int32_t, 3> kBatches = {1, 2, 4};  // consecutive tokens that are computed together
  static constexpr std::array<int32_t, 6> kRuns = {1, 2, 4, 8, 16, 32};  // that were watched, the first ones kBatches
  using RunShares = std::array<double, kRuns.size()>;
  // The cache's heat counts a token 1/32 and forgets as much: its scatter is that of the mean of 2 x 32 - 1 tokens.
  static constexpr int kHeatTokens = 63;

  // Neuron i of layer l fired for frequency[l][i] of 65535 tokens; `active_shares`: of all neurons, those that some of kRuns[b] tokens
  // wake, on average; 0: unknown, as if tokens were independent.
  static FiringCurve Of(std::span<const std::span<const uint16_t>> frequency, const RunShares& active_shares);
  // Where nobody has looked: p(x) = exp(-6.2 x) over the neurons by rank. Then 26 % of them get 80 % of the firings, as published for ReLU
  // models (PowerInfer, arXiv 2312.12456), half of them 95 % (PowerInfer-2), and 16 % fire for a token.
  static FiringCurve Guess();

  // Mean share of all neurons that some of kBatches[batch] tokens wake.
  double active_share(size_t batch) const { return active_shares_[batch]; }
  // The same of 1, 2, 4 ... 4096 tokens, which repeat themselves as 32 of the profile's did.
  const std::vector<double>& woken_by_run() const { return woken_; }
  // Of those that fire, when the `held_share` of all that fires most lies in memory: the best fixed choice. Rises from 0 to 1.
  double BestHits(double held_share, size_t batch) const { return At(best_[batch], held_share); }
  // What the cache of single neurons reaches, which has to find out what fires. Likely: a text repeats itself as far as 32 tokens of the profile's
  // did; at best as neighbours did, at worst it is of another kind than the profile's.
  HitRange Hits(double held_share, size_t batch) const;

 private:
  struct Point {  // neurons that fire equally often
    double frequency, n_neurons;
  };
  struct Step {
    double share;   // of all neurons: these and those before
    double wanted;  // [0, 1] of what is wanted, likewise
  };
  using Steps = std::vector<Step>;

  FiringCurve() = default;
  // `points`: the most frequent first.
  static FiringCurve Make(const std::vector<Point>& points, const RunShares& active_shares);
  static std::vector<Point> Merged(const std::vector<Point>& points);
  // Of neurons and of what is wanted of them: shares of all, each with those before.
  static Steps Summed(Steps steps);
  static Steps HeldByHeat(const std::vector<Point>& points, double spread, int32_t n_tokens);
  static double At(const Steps& steps, double held_share);

  std::array<Steps, kBatches.size()> best_, likely_, repeating_;
  std::array<double, kBatches.size()> active_shares_ = {};
  std::vector<double> woken_;
};

}  // namespace pantry
