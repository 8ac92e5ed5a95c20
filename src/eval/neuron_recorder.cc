// SPDX-License-Identifier: Apache-2.0
#include "eval/neuron_recorder.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <utility>

namespace pantry {
namespace {

uint32_t MaskOf(int32_t n_tokens) { return n_tokens >= 32 ? ~0u : (1u << n_tokens) - 1; }

// The gate in the middle of a class.
float GateOf(size_t gate_class) { return std::bit_cast<float>(static_cast<uint32_t>(gate_class << 16 | 0x8000)); }

float Share(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<float>(static_cast<double>(part) / static_cast<double>(whole)) : 0;
}

// Neurons in the order of `heat`, cut into columns of as many each: what a batch size's counts are in each column.
std::array<uint8_t, NeuronProfile::kHeatColumns> HeatRow(std::span<const uint32_t> order,
                                                         std::span<const uint32_t> n_active, int64_t n_batches) {
  std::array<uint8_t, NeuronProfile::kHeatColumns> row = {};
  for (size_t column = 0; column < row.size() && n_batches > 0; ++column) {
    const size_t begin = column * order.size() / row.size();
    const size_t end = std::max(begin + 1, (column + 1) * order.size() / row.size());
    int64_t n = 0;
    for (size_t i = begin; i < end; ++i) n += n_active[order[i]];
    row[column] = static_cast<uint8_t>(std::lround(255 * Share(n, n_batches * static_cast<int64_t>(end - begin))));
  }
  return row;
}

}  // namespace

float ActivationSize(GluActivation activation, float gate) {
  switch (activation) {
    case GluActivation::kSilu: return std::abs(gate / (1 + std::exp(-gate)));
    case GluActivation::kRelu:
    case GluActivation::kDrelu: return std::max(gate, 0.0f);
    case GluActivation::kRelu2: return std::max(gate, 0.0f) * std::max(gate, 0.0f);
  }
  return 0;
}

NeuronRecorder::NeuronRecorder(const ModelShape& shape, std::span<const FiringGates> firing)
    : activation_(shape.activation), n_neurons_(static_cast<size_t>(shape.n_ff)), layers_(firing.size()) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    Counts& counts = layers_[i];
    counts.firing = firing[i];
    counts.past.resize(n_neurons_);
    counts.of_class.resize(kClasses);
    for (std::vector<uint32_t>& n_active : counts.n_active) n_active.resize(n_neurons_);
  }
}

void NeuronRecorder::BeginText() {
  for (Counts& counts : layers_) {
    counts.position = 0;
    std::ranges::fill(counts.past, 0);
  }
}

void NeuronRecorder::Gated(int32_t layer, int64_t n_tokens, int64_t n_neurons, const float* gate, const float* up,
                           int64_t stride) {
  PANTRY_CHECK(static_cast<size_t>(layer) < layers_.size() && static_cast<size_t>(n_neurons) == n_neurons_);
  Counts& counts = layers_[static_cast<size_t>(layer)];
  for (int64_t token = 0; token < n_tokens; ++token) {
    CountToken(counts, gate + token * stride, up + token * stride);
    ++counts.n_tokens;
    ++counts.position;
    CountBatches(counts);
  }
}

void NeuronRecorder::CountToken(Counts& counts, const float* gate, const float* up) const {
  const FiringGates firing = counts.firing;
  uint32_t* const past = counts.past.data();
  int64_t n_fired = 0, n_up = 0, n_before = 0, n_again = 0;
  for (size_t i = 0; i < n_neurons_; ++i) {
    const uint32_t fires = firing.Contain(gate[i]) ? 1 : 0;
    n_before += past[i] & 1;
    n_again += past[i] & fires;
    n_fired += fires;
    n_up += fires & (up[i] > 0 ? 1u : 0u);
    past[i] = past[i] << 1 | fires;
  }
  counts.n_fired += n_fired;
  counts.n_up += n_up;
  counts.n_before += n_before;
  counts.n_again += n_again;
  for (size_t i = 0; i < n_neurons_; ++i) ++counts.of_class[std::bit_cast<uint32_t>(gate[i]) >> 16];
}

void NeuronRecorder::CountBatches(Counts& counts) const {
  for (size_t b = 0; b < kBatchSizes; ++b) {
    if (counts.position % NeuronProfile::kBatches[b] != 0) continue;
    const uint32_t mask = MaskOf(NeuronProfile::kBatches[b]);
    uint32_t* const n_active = counts.n_active[b].data();
    ++counts.n_batches[b];
    for (size_t i = 0; i < n_neurons_; ++i) n_active[i] += (counts.past[i] & mask) != 0 ? 1 : 0;
  }
}

bool NeuronRecorder::heard_all_layers() const {
  return std::ranges::all_of(layers_, [](const Counts& counts) { return counts.n_tokens > 0; });
}

std::array<float, NeuronProfile::kThresholds> NeuronRecorder::Thresholds(int32_t layer) const {
  const Counts& counts = layers_[static_cast<size_t>(layer)];
  std::vector<std::pair<float, int64_t>> sizes;  // ascending, with how many have it
  int64_t n_all = 0;
  for (size_t i = 0; i < kClasses; ++i) {
    const float size = ActivationSize(activation_, GateOf(i));
    if (counts.of_class[i] == 0 || !std::isfinite(size)) continue;
    sizes.emplace_back(size, counts.of_class[i]);
    n_all += counts.of_class[i];
  }
  std::ranges::sort(sizes);
  // A class's gates lie around its middle, so half of them are below that; between two middles the share rises evenly.
  std::array<float, NeuronProfile::kThresholds> thresholds = {};
  double before = 0, size_before = 0;  // share below the middle of the class before, and that
  int64_t n_below = 0;
  size_t at = 1;
  for (const auto& [size, n] : sizes) {
    const double share = (static_cast<double>(n_below) + 0.5 * static_cast<double>(n)) / static_cast<double>(n_all);
    for (; at < thresholds.size() && static_cast<double>(at) <= share * static_cast<double>(thresholds.size()); ++at) {
      const double part =
          (static_cast<double>(at) / static_cast<double>(thresholds.size()) - before) / (share - before);
      thresholds[at] = static_cast<float>(size_before + part * (size - size_before));
    }
    before = share;
    size_before = size;
    n_below += n;
  }
  for (; at < thresholds.size(); ++at) thresholds[at] = static_cast<float>(size_before);
  return thresholds;
}

NeuronProfile::Layer NeuronRecorder::Layer(int32_t layer) const {
  const Counts& counts = layers_[static_cast<size_t>(layer)];
  NeuronProfile::Layer profile;
  profile.up_share = Share(counts.n_up, counts.n_fired);
  profile.refire_share = Share(counts.n_again, counts.n_before);
  profile.thresholds = Thresholds(layer);
  std::vector<uint32_t> order(n_neurons_);
  std::iota(order.begin(), order.end(), 0);
  const std::vector<uint32_t>& n_fired = counts.n_active[0];
  std::ranges::sort(order,
                    [&](uint32_t a, uint32_t b) { return n_fired[a] != n_fired[b] ? n_fired[a] > n_fired[b] : a < b; });
  const auto n_neurons = static_cast<int64_t>(n_neurons_);
  for (size_t b = 0; b < kBatchSizes; ++b) {
    const int64_t n_active = std::accumulate(counts.n_active[b].begin(), counts.n_active[b].end(), int64_t{0});
    profile.active_share[b] = Share(n_active, counts.n_batches[b] * n_neurons);
    profile.heat[b] = HeatRow(order, counts.n_active[b], counts.n_batches[b]);
  }
  for (const uint32_t n : n_fired) {
    profile.frequency.push_back(static_cast<uint16_t>(std::lround(65535 * Share(n, counts.n_tokens))));
  }
  return profile;
}

}  // namespace pantry
