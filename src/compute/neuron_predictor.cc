// SPDX-License-Identifier: Apache-2.0
#include "compute/neuron_predictor.h"

#include <algorithm>
#include <array>

#include "base/status.h"

namespace pantry {

void NeuronPredictor::Reduce(const ActivationRows& x, float* reduced) const {
  if (rank() > 0) v.kernel->compute(v.tiles, v.rows, v.cols, 0, v.n_tiles(), x, reduced, v.rows);
}

void NeuronPredictor::Score(const float* reduced, int64_t begin, int64_t n, float* scores) const {
  if (rank() == 0) {
    std::copy_n(bias + begin, n, scores);
    return;
  }
  const int64_t tile = u.kernel->row_tile;
  const ActivationRows row = {.n_rows = 1, .n_cols = rank(), .f32 = reduced};
  u.kernel->compute(u.tiles + begin / tile * u.kernel->packed_tile_bytes(u.cols), n, u.cols, 0, (n + tile - 1) / tile,
                    row, scores, n);
  for (int64_t i = 0; i < n; ++i) scores[i] += bias[begin + i];
}

NeuronPredictor::Counts NeuronPredictor::Mask(const float* reduced, int64_t begin, int64_t n, float* gate) const {
  PANTRY_CHECK(n <= kMostAtOnce);
  std::array<float, kMostAtOnce> scores;
  Score(reduced, begin, n, scores.data());
  Counts counts = {.n_gates = n};
  for (int64_t i = 0; i < n; ++i) {
    const bool is_predicted = !(scores[static_cast<size_t>(i)] < 0), fires = !(gate[i] <= 0);
    counts.n_predicted += is_predicted ? 1 : 0;
    counts.n_firing += fires ? 1 : 0;
    counts.n_missed += fires && !is_predicted ? 1 : 0;
    gate[i] = is_predicted ? gate[i] : 0.0f;
  }
  return counts;
}

NeuronPredictor::Counts NeuronPredictor::ComputePredicted(const float* reduced, const WeightMatrix& gate,
                                                          const float* gate_bias, int64_t begin, int64_t n,
                                                          const ActivationRows& x, float* gates) const {
  PANTRY_CHECK(n <= kMostAtOnce);
  std::array<int32_t, kMostAtOnce> list;
  std::array<float, kMostAtOnce> numbers;  // scores, then gates
  Score(reduced, begin, n, numbers.data());
  size_t n_predicted = 0;
  for (int64_t i = 0; i < n; ++i) {
    list[n_predicted] = static_cast<int32_t>(begin + i);
    n_predicted += !(numbers[static_cast<size_t>(i)] < 0) ? 1 : 0;
  }
  MultiplyListed(gate, {list.data(), n_predicted}, x, numbers.data());
  std::fill_n(gates, n, 0.0f);
  Counts counts = {.n_gates = static_cast<int64_t>(n_predicted), .n_predicted = static_cast<int64_t>(n_predicted)};
  for (size_t i = 0; i < n_predicted; ++i) {
    const float of_gate = numbers[i] + (gate_bias != nullptr ? gate_bias[list[i]] : 0.0f);
    gates[list[i] - begin] = of_gate;
    counts.n_firing += !(of_gate <= 0) ? 1 : 0;
  }
  return counts;
}

void PredictorRun::Count(int64_t n, const NeuronPredictor::Counts& counts) {
  n_neurons.fetch_add(n, std::memory_order_relaxed);
  n_gates.fetch_add(counts.n_gates, std::memory_order_relaxed);
  n_predicted.fetch_add(counts.n_predicted, std::memory_order_relaxed);
  n_firing.fetch_add(counts.n_firing, std::memory_order_relaxed);
  n_missed.fetch_add(counts.n_missed, std::memory_order_relaxed);
}

}  // namespace pantry
