// SPDX-License-Identifier: Apache-2.0
#include "eval/expert_recorder.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/firing_gates.h"

namespace pantry {

ExpertRecorder::ExpertRecorder(const ModelShape& shape)
    : n_dense_layers_(shape.n_dense_layers),
      n_experts_(static_cast<size_t>(shape.n_experts)),
      n_neurons_(static_cast<size_t>(shape.n_ff_expert)),
      n_used_(static_cast<size_t>(shape.n_layers) * n_experts_),
      n_fired_(n_used_.size() * n_neurons_) {}

void ExpertRecorder::Fed(int32_t layer, int32_t expert, std::span<const float>, std::span<const float> gate) {
  if (layer < n_dense_layers_) return;
  PANTRY_CHECK(At(layer, expert) < n_used_.size() && gate.size() == n_neurons_);
  ++n_used_[At(layer, expert)];
  const FiringGates firing = FiringGates::Positive();
  uint32_t* const n_fired = n_fired_.data() + At(layer, expert) * n_neurons_;
  for (size_t i = 0; i < n_neurons_; ++i) n_fired[i] += firing.Contain(gate[i]) ? 1 : 0;
}

bool ExpertRecorder::heard_all_layers() const {
  for (size_t begin = At(n_dense_layers_, 0); begin < n_used_.size(); begin += n_experts_) {
    const auto of_layer = n_used_.begin() + static_cast<ptrdiff_t>(begin);
    if (std::all_of(of_layer, of_layer + static_cast<ptrdiff_t>(n_experts_), [](uint32_t n) { return n == 0; })) {
      return false;
    }
  }
  return true;
}

NeuronProfile::Layer ExpertRecorder::Layer(int32_t layer, int64_t n_tokens) const {
  const auto of_tokens = [&](uint32_t n) {
    return static_cast<uint16_t>(std::lround(65535.0 * n / static_cast<double>(n_tokens)));
  };
  const std::span<const uint32_t> n_used = std::span(n_used_).subspan(At(layer, 0), n_experts_);
  const std::span<const uint32_t> n_fired =
      std::span(n_fired_).subspan(At(layer, 0) * n_neurons_, n_experts_ * n_neurons_);
  NeuronProfile::Layer profile;
  std::ranges::transform(n_used, std::back_inserter(profile.use), of_tokens);
  std::ranges::transform(n_fired, std::back_inserter(profile.frequency), of_tokens);
  const auto n_uses = std::accumulate(n_used.begin(), n_used.end(), int64_t{0});
  const auto n_firings = std::accumulate(n_fired.begin(), n_fired.end(), int64_t{0});
  if (n_uses > 0) {
    profile.active_share[0] = static_cast<float>(static_cast<double>(n_firings) / static_cast<double>(n_uses) /
                                                 static_cast<double>(n_neurons_));
  }
  return profile;
}

}  // namespace pantry
