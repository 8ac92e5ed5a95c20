// SPDX-License-Identifier: Apache-2.0
#include "policy/neurons/neuron_prior.h"

#include <algorithm>
#include <cmath>

#include "policy/routing/expert_policy.h"

namespace pantry {

Result<double> ParseNeuronPolicy(std::string_view text) {
  const std::string_view name = text.substr(0, text.find(':'));
  if (name != "exact" && name != "cache-prior") {
    return InvalidArgumentError("unknown neuron policy '{}'. Expected one of: exact, cache-prior:L", text);
  }
  PANTRY_ASSIGN_OR_RETURN(const ExpertPolicySpec spec, ParseExpertPolicy(text));
  return spec.value;
}

std::string NeuronPolicyText(double strength) {
  return strength == 0 ? "exact" : fmt::format("cache-prior:{}", strength);
}

NeuronPrior::NeuronPrior(double strength, int32_t n_layers)
    : strength_(strength), scales_(static_cast<size_t>(n_layers)) {
  PANTRY_CHECK(strength >= 0 && strength <= 1);
}

void NeuronPrior::Begin(int32_t layer) {
  layer_ = static_cast<size_t>(layer);
  threshold_ = static_cast<float>(strength_ * scales_[layer_].mean());
  largest_ = 0;
  of_layer_ = {};
}

size_t NeuronPrior::Choose(const float* gate, std::span<const uint8_t> is_near, std::span<int32_t> firing) {
  double gates = 0, kept = 0;
  size_t n_running = 0;
  for (size_t i = 0; i < firing.size(); ++i) {
    const int32_t neuron = firing[i];
    const float of_it = gate[neuron];
    const bool runs = is_near[i] != 0 || !(of_it < threshold_);  // NaN runs: nonsense must look like it
    largest_ = std::max(largest_, of_it);
    gates += static_cast<double>(of_it);
    kept += runs ? static_cast<double>(of_it) : 0;
    firing[n_running] = neuron;
    n_running += runs ? 1 : 0;
  }
  of_layer_.n_firing += static_cast<int64_t>(firing.size());
  of_layer_.n_left_out += static_cast<int64_t>(firing.size() - n_running);
  of_layer_.gates += gates;
  of_layer_.gates_kept += kept;
  return n_running;
}

void NeuronPrior::End() {
  if (!std::isfinite(of_layer_.gates)) return;
  scales_[layer_].sum += static_cast<double>(largest_);
  ++scales_[layer_].n_tokens;
  counts_.n_firing += of_layer_.n_firing;
  counts_.n_left_out += of_layer_.n_left_out;
  counts_.gates += of_layer_.gates;
  counts_.gates_kept += of_layer_.gates_kept;
}

}  // namespace pantry
