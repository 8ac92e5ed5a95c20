// SPDX-License-Identifier: Apache-2.0
// A FiringCurve says what share of the neurons that fire lie in memory when it holds those that fire most often.
//
// It comes from how often each neuron fired on a text, all layers together, since they share one cache. For several tokens computed together a
// neuron is wanted if it fires for any of them: consecutive tokens have neurons in common, so b of them count as e(b) <= b independent ones, with
// which the share of neurons that b tokens wake comes out as measured.
//
//   wanted by b tokens   p_b = 1 - (1 - p)^e(b)          hits(held)   sum of p_b over the held ones / sum of p_b
//
// Threads: a value.
// Source: the hot and cold neurons of PowerInfer-2 by batch size, arXiv 2406.06282, section 5.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "policy/planner/speed_estimate.h"

namespace pantry {

// A byte of a neuron, one run of lines here and there, takes so many times one that is streamed (docs/performance.md: 5.0 ns a line instead of
// 2.4 to 3.0).
inline constexpr double kScattered = 1.8;
// The same of an expert's neurons, whose runs are short: with 8 % of 768 neurons firing, the loops of smallthinker-4b take 0.62 to 0.65 of what streaming
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
  static constexpr std::array<int32_t, 3> kBatches = {1, 2, 4};  // consecutive tokens

  // Neuron i of layer l fired for frequency[l][i] of 65535 tokens; `active_shares`: of all neurons, those that some of kBatches[b] tokens
  // wake, on average; 0: unknown, as if tokens were independent.
  static FiringCurve Of(std::span<const std::span<const uint16_t>> frequency,
                        const std::array<double, kBatches.size()>& active_shares);
  // Where nobody has looked: p(x) = exp(-6.2 x) over the neurons by rank. Then 26 % of them get 80 % of the firings, as published for ReLU
  // models (PowerInfer, arXiv 2312.12456), half of them 95 % (PowerInfer-2), and 16 % fire for a token.
  static FiringCurve Guess();

  // Mean share of all neurons that some of kBatches[batch] tokens wake.
  double active_share(size_t batch) const { return active_shares_[batch]; }
  // Of those that fire, when the `held_share` of all that fires most lies in memory: the best fixed choice. Rises from 0 to 1.
  double BestHits(double held_share, size_t batch) const;
  // What the cache of single neurons reaches, which has to find out what fires.
  HitRange Hits(double held_share, size_t batch) const;

 private:
  struct Step {     // neurons that fire equally often
    double share;   // of all neurons: these and those before
    double wanted;  // [0, 1] of what is wanted, likewise
  };
  FiringCurve() = default;
  // `points`: how often and how many, the most frequent first.
  struct Point {
    double frequency, n_neurons;
  };
  static FiringCurve Make(const std::vector<Point>& points, const std::array<double, kBatches.size()>& active_shares);

  std::array<std::vector<Step>, kBatches.size()> steps_;
  std::array<double, kBatches.size()> active_shares_ = {};
};

}  // namespace pantry
