// SPDX-License-Identifier: Apache-2.0
// A LowRankPredictor guesses from a feed-forward network's input which of its neurons will fire, without computing their gates.
//
//   score[n_neurons] = U (V x) + bias        a neuron is predicted to fire where its score is not negative
//
// V looks for `rank` directions in the input, U says what each of them means to a neuron. With rank 0 nothing but the bias is left, and
// what is predicted is the same for every token: the neurons that are hot anyway.
// Threads: a value.
// Source: Liu et al. 2023, arXiv 2310.17157 (two low-rank layers); Song et al. 2023, arXiv 2312.12456 (a rank for each layer).
#pragma once

#include <cstdint>
#include <vector>

namespace pantry {

struct LowRankPredictor {
  int64_t n_inputs = 0;
  int64_t n_neurons = 0;
  int64_t rank = 0;
  std::vector<float> v;     // [rank, n_inputs]
  std::vector<float> u;     // [rank, n_neurons]: U's columns one after another
  std::vector<float> bias;  // [n_neurons] less the threshold

  // scores [n_neurons] of one input x [n_inputs].
  void Score(const float* x, float* scores) const;
  // Bytes that it takes in memory, and a token reads: matrices in F16, rows of U in whole runs of 16 numbers, the bias in F32.
  static int64_t Bytes(int64_t rank, int64_t n_inputs, int64_t n_neurons) {
    return 2 * rank * n_inputs + 2 * ((rank + 15) / 16 * 16) * n_neurons + 4 * n_neurons;
  }
  int64_t n_bytes() const { return Bytes(rank, n_inputs, n_neurons); }
};

// How well one does on samples.
struct PredictorQuality {
  double recall = 1;      // of what fires, the share that is predicted
  double density = 1;     // share of the neurons that is predicted
  double true_share = 0;  // share that fires
};

}  // namespace pantry
