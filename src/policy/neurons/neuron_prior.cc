// SPDX-License-Identifier: Apache-2.0
#include "policy/neurons/neuron_prior.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

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
    : strength_(strength), scales_(static_cast<size_t>(n_layers)), run_scales_(scales_.size()) {
  PANTRY_CHECK(strength >= 0 && strength <= 1);
}

void NeuronPrior::BeginRun() {
  std::ranges::fill(run_scales_, RunningMean());
  run_counts_ = {};
}

void NeuronPrior::EndRun() {
  for (size_t layer = 0; layer < scales_.size(); ++layer) scales_[layer] += run_scales_[layer];
  counts_ += run_counts_;
  BeginRun();  // nothing counts twice
}

void NeuronPrior::Begin(int32_t layer) {
  layer_ = layer;
  threshold_ = static_cast<float>(strength_ * usual_largest_gate(layer));
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
  run_scales_[static_cast<size_t>(layer_)].Add(static_cast<double>(largest_));
  run_counts_ += of_layer_;
}

void NeuronPrior::Learn(int32_t layer, std::span<const float> gates) {
  // Side by side, so that a row costs little. The sum is not finite where a gate is not; the largest alone would hide NaN.
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> largest = {}, sum = {};
  const auto take = [&](size_t lane, float gate) {
    largest[lane] = gate > largest[lane] ? gate : largest[lane];
    sum[lane] += gate;
  };
  const size_t n_whole = gates.size() / kLanes * kLanes;
  for (size_t i = 0; i < n_whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) take(lane, gates[i + lane]);
  }
  for (size_t i = n_whole; i < gates.size(); ++i) take(i - n_whole, gates[i]);
  if (!std::isfinite(std::accumulate(sum.begin(), sum.end(), 0.0))) return;
  run_scales_[static_cast<size_t>(layer)].Add(static_cast<double>(*std::ranges::max_element(largest)));
}

}  // namespace pantry
