// SPDX-License-Identifier: Apache-2.0
// --sparsity, --profile, --predictor and --neuron-policy, as the verbs that know them read them, and what is said of neurons that rest.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/status.h"
#include "cli/options.h"
#include "engine/engine.h"

namespace pantry {

// "30%", "0.3": 0 to 0.99. kInvalidArgument.
Result<double> ParseSparsity(std::string_view text);

// --neuron-policy's strength, 0: exact. kInvalidArgument.
Result<double> NeuronPriorStrengthOf(const CliOptions& options);

// " · 50% of the neurons rest (lossy)" for the line that every run prints; "" where the model runs as it is.
std::string SparsityMode(Engine& engine);

// Neurons of the runs so far.
struct NeuronCounts {
  int64_t n_all = 0;
  int64_t n_resting = 0;

  static NeuronCounts Of(Engine& engine);
};
// " · sparsity 50%: 48.9% of the neurons rested (lossy)" of the runs since `before`; "" likewise.
std::string SparsityFigures(Engine& engine, const NeuronCounts& before = {});

// The same for neurons whose gates are guessed: " · what fires is predicted for 95% recall, 3.1 MB (lossy)", and " · predicted 11.2% of the
// neurons, 61.0% of them fired (lossy)" of the runs since `before`, with the recall where it can be told.
std::string PredictorMode(Engine& engine);
std::string PredictorFigures(Engine& engine, const PredictedNeurons::Counts& before = {});

// The same for neurons that run only where they are in memory or fire strongly: " · neurons by cache-prior:0.1 (lossy)", and " · cache-prior:0.1:
// 4.1% of the firing neurons left out, 98.9% of the gates' sum kept (lossy)", or that there was nothing to choose.
std::string NeuronPolicyMode(Engine& engine);
NeuronPriorCounts NeuronPriorCountsOf(Engine& engine);  // so far
std::string NeuronPolicyFigures(Engine& engine, const NeuronPriorCounts& before = {});
// Puts "neuron_policy": {"policy", "miss_rate", "left_out_share", "gate_sum_kept"} of all runs so far to what a measurement tells; nothing where
// all run.
void AddNeuronPolicy(Engine& engine, nlohmann::ordered_json& json);

}  // namespace pantry
