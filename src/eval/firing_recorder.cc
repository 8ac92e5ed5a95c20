// SPDX-License-Identifier: Apache-2.0
#include "eval/firing_recorder.h"

#include <algorithm>
#include <cstddef>

#include "base/status.h"
#include "weights/quant/half.h"

namespace pantry {
namespace {

void Append(std::span<const float> from, std::vector<uint16_t>& to) {
  constexpr float kMost = 65504;  // of F16
  for (const float number : from) to.push_back(F32ToF16(std::clamp(number, -kMost, kMost)));
}

std::vector<float> ToF32(const std::vector<uint16_t>& halves) {
  std::vector<float> numbers(halves.size());
  std::ranges::transform(halves, numbers.begin(), F16ToF32);
  return numbers;
}

}  // namespace

FiringRecorder::FiringRecorder(int64_t n_layers, int64_t n_networks, int64_t n_inputs, int64_t n_neurons,
                               int64_t most_rows)
    : n_networks_(n_networks),
      n_inputs_(n_inputs),
      n_neurons_(n_neurons),
      most_rows_(most_rows),
      networks_(static_cast<size_t>(n_layers * n_networks)) {}

void FiringRecorder::Fed(int32_t layer, int32_t expert, std::span<const float> x, std::span<const float> gate) {
  PANTRY_CHECK(static_cast<int64_t>(x.size()) == n_inputs_ && static_cast<int64_t>(gate.size()) == n_neurons_);
  has_heard_ = true;
  Network& network = networks_[static_cast<size_t>(layer * n_networks_ + expert)];
  if (static_cast<int64_t>(network.x.size()) >= most_rows_ * n_inputs_) return;
  if (network.x.empty()) {  // once, for growing would take twice as much
    network.x.reserve(static_cast<size_t>(most_rows_ * n_inputs_));
    network.gate.reserve(static_cast<size_t>(most_rows_ * n_neurons_));
  }
  Append(x, network.x);
  Append(gate, network.gate);
}

FiringSamples FiringRecorder::Samples(int64_t network) const {
  const Network& of = networks_[static_cast<size_t>(network)];
  return {n_inputs_, n_neurons_, ToF32(of.x), ToF32(of.gate)};
}

}  // namespace pantry
