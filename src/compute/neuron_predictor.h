// SPDX-License-Identifier: Apache-2.0
// A NeuronPredictor guesses from a feed-forward network's input which of its neurons fire, so that the gates of the others are not computed.
//
//   score = u * (v * x) + bias        a neuron is predicted to fire where its score is not negative; NaN is predicted
//
// What is not predicted counts as resting, so a network whose predictor misses something gives another result: this is lossy. A single row
// of a network that lies by neuron, gate in rows, too, computes what is predicted only. Other rows compute every gate and let rest what is
// not predicted, which gives the same bits: for measuring what a predictor costs, many rows at once.
// Scores depend on the row only, not on which rows or neurons are computed together.
// Threads: views; see PredictorRun.
// Source: Liu et al. 2023, arXiv 2310.17157; Song et al. 2023, arXiv 2312.12456.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "compute/matmul.h"

namespace pantry {

// Of one network: a dense layer's, or an expert.
struct NeuronPredictor {
  WeightMatrix v;               // n_embd -> rank, of F16; none: the rank is 0
  WeightMatrix u;               // rank -> n_ff
  const float* bias = nullptr;  // [n_ff]; null: there is no predictor, and every gate is computed

  explicit operator bool() const { return bias != nullptr; }
  int64_t rank() const { return v.rows; }
  // reduced [rank] = v * the only row of x, which is there in F32.
  void Reduce(const ActivationRows& x, float* reduced) const;
  // scores [n] of neurons [begin, begin + n). REQUIRES: begin is a multiple of 32.
  void Score(const float* reduced, int64_t begin, int64_t n, float* scores) const;
  // Makes gate [n] zero where a neuron of [begin, begin + n) is not predicted; n <= kMostAtOnce.
  static constexpr int64_t kMostAtOnce = 2048;
  struct Counts {
    int64_t n_gates = 0;  // that were computed
    int64_t n_predicted = 0;
    int64_t n_firing = 0;  // of these gates, as they were
    int64_t n_missed = 0;  // likewise, and not predicted
  };
  Counts Mask(const float* reduced, int64_t begin, int64_t n, float* gate) const;
  // gates [n] of neurons [begin, begin + n), those that are predicted: rows of `gate` times the only row of x, with their biases (null:
  // none), and zero elsewhere. REQUIRES: `gate` lies in rows; n <= kMostAtOnce.
  Counts ComputePredicted(const float* reduced, const WeightMatrix& gate, const float* gate_bias, int64_t begin,
                          int64_t n, const ActivationRows& x, float* gates) const;
};

// What a run predicts with. Threads: one run at a time; the counts from any thread.
struct PredictorRun {
  std::span<const NeuronPredictor> networks;  // [n_layers, n_networks]
  int64_t n_networks = 1;                     // experts of a layer; 1: dense
  bool all_rows = false;                      // runs of several rows, too
  int64_t most_rank = 0;                      // of any network
  float* reduced = nullptr;                   // [rows * experts that a row uses, most_rank] scratch
  // Of networks with a predictor, over rows.
  std::atomic<int64_t> n_neurons = 0;
  std::atomic<int64_t> n_gates = 0;
  std::atomic<int64_t> n_predicted = 0;
  std::atomic<int64_t> n_firing = 0;
  std::atomic<int64_t> n_missed = 0;

  const NeuronPredictor* Of(int64_t layer, int64_t expert) const {
    const NeuronPredictor& of = networks[static_cast<size_t>(layer * n_networks + expert)];
    return of ? &of : nullptr;
  }
  void Count(int64_t n, const NeuronPredictor::Counts& counts);
};

}  // namespace pantry
