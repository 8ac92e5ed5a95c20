// SPDX-License-Identifier: Apache-2.0
#include "cli/neuron_flags.h"

#include <nlohmann/json.hpp>

#include "base/parse_number.h"
#include "base/units.h"
#include "weights/profile/neuron_profile.h"

namespace pantry {

Result<double> ParseSparsity(std::string_view text) {
  const bool is_percent = text.ends_with('%');
  std::string_view digits = text.substr(0, text.size() - (is_percent ? 1 : 0));
  while (is_percent && digits.ends_with(' ')) digits.remove_suffix(1);
  const auto number = ParseNumber<double>(digits);
  const double share = number.value_or(-1) / (is_percent ? 100 : 1);
  if (share >= 0 && share <= NeuronProfile::kMostSparsity) return share;
  const bool meant_percent = number && !is_percent && *number > 1 && *number <= 100 * NeuronProfile::kMostSparsity;
  return InvalidArgumentError("--sparsity: expected a share from 0 to {:.0f}%, such as 30% or 0.3, found '{}'{}",
                              100 * NeuronProfile::kMostSparsity, text,
                              meant_percent ? fmt::format(". Did you mean {}%?", text) : "");
}

Result<double> NeuronPriorStrengthOf(const CliOptions& options) {
  const Result<double> strength = ParseNeuronPolicy(options.neuron_policy);
  return strength.ok() ? strength : strength.status().WithContext("--neuron-policy");
}

std::string SparsityMode(Engine& engine) {
  const RestingNeurons* const resting = engine.resting();
  if (resting == nullptr) return "";
  return fmt::format(" · {:.4g}% of the neurons rest (lossy)", 100 * resting->sparsity());
}

NeuronCounts NeuronCounts::Of(Engine& engine) {
  const RestingNeurons* const resting = engine.resting();
  return resting == nullptr ? NeuronCounts() : NeuronCounts{resting->n_neurons(), resting->n_resting()};
}

std::string SparsityFigures(Engine& engine, const NeuronCounts& before) {
  if (engine.resting() == nullptr) return "";
  const NeuronCounts now = NeuronCounts::Of(engine);
  const std::string figures = fmt::format(" · sparsity {:.4g}%", 100 * engine.resting()->sparsity());
  if (now.n_all == before.n_all) return figures + " (lossy)";
  return figures + fmt::format(": {:.1f}% of the neurons rested (lossy)",
                               100.0 * static_cast<double>(now.n_resting - before.n_resting) /
                                   static_cast<double>(now.n_all - before.n_all));
}

std::string PredictorMode(Engine& engine) {
  const PredictedNeurons* const predicted = engine.predicted();
  if (predicted == nullptr) return "";
  return fmt::format(" · what fires is predicted for {:.4g}% recall, {} (lossy)", 100 * predicted->wanted_recall(),
                     FormatBytes(predicted->n_bytes()));
}

std::string PredictorFigures(Engine& engine, const PredictedNeurons::Counts& before) {
  const PredictedNeurons* const predicted = engine.predicted();
  if (predicted == nullptr) return "";
  const PredictedNeurons::Counts counts = predicted->counts() - before;
  std::string figures = fmt::format(" · predicted {:.1f}% of the neurons, {:.1f}% of them fired",
                                    100 * counts.density(), 100 * counts.precision());
  if (counts.n_neurons > 0 && counts.recall()) {
    figures += fmt::format(", recall {:.2f}%", 100 * *counts.recall());
  }
  return figures + " (lossy)";
}

std::string NeuronPolicyMode(Engine& engine) {
  const NeuronPrior* const prior = engine.neuron_prior();
  return prior == nullptr ? "" : fmt::format(" · neurons by {} (lossy)", NeuronPolicyText(prior->strength()));
}

NeuronPriorCounts NeuronPriorCountsOf(Engine& engine) {
  return engine.neuron_prior() == nullptr ? NeuronPriorCounts() : engine.neuron_prior()->counts();
}

std::string NeuronPolicyFigures(Engine& engine, const NeuronPriorCounts& before) {
  if (engine.neuron_prior() == nullptr) return "";
  const std::string policy = NeuronPolicyText(engine.neuron_prior()->strength());
  const NeuronPriorCounts since = NeuronPriorCountsOf(engine) - before;
  if (since.n_firing == 0) return fmt::format(" · {}: nothing to choose", policy);
  return fmt::format(" · {}: {:.2f}% of the firing neurons left out, {:.2f}% of the gates' sum kept (lossy)", policy,
                     100 * since.left_out_share(), 100 * since.gate_sum_kept());
}

void AddNeuronPolicy(Engine& engine, nlohmann::ordered_json& json) {
  if (engine.neuron_prior() == nullptr) return;
  const NeuronPriorCounts& counts = engine.neuron_prior()->counts();
  json["neuron_policy"] = {{"policy", NeuronPolicyText(engine.neuron_prior()->strength())},
                           {"miss_rate", 1 - engine.stream()->stats().cache.HitRate()},
                           {"left_out_share", counts.left_out_share()},
                           {"gate_sum_kept", counts.gate_sum_kept()}};
}

}  // namespace pantry
