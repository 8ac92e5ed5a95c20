// SPDX-License-Identifier: Apache-2.0
// A PlanReport says how a model would run: for people as a table, for programs as JSON.
//
// Threads: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/plan_neurons.h"
#include "engine/memory_budget.h"
#include "engine/run_forecast.h"

namespace pantry {

struct PromptPlan {
  int64_t n_tokens = 0;
  SpeedEstimate first_token;  // of the whole prompt
  SpeedEstimate token;        // of each one after it
};

struct PlanReport {
  std::string model;  // as people call it
  ModelShape shape;
  const ModelNeeds* needs = nullptr;
  MemoryPlan memory;
  HitRange hits;                            // of a streamed run
  double load_s = 0;                        // until the weights that stay are read; 0: unknown
  std::vector<PromptPlan> prompts;          // none: the machine is not known
  std::optional<NeuronPlanReport> neurons;  // of a model whose neurons lie one by one, or could
  HitRange neuron_hits;                     // of a pack of experts by neuron whose speed is known; else all 1
  std::vector<std::string> notes;           // what is missing or uncertain

  bool has_experts() const { return needs->blocks.has_experts(); }
  // Of dense layers, that lie one by one.
  bool has_neurons() const { return needs->blocks.neurons() != nullptr && !needs->blocks.has_experts(); }
  // Of all experts, layers or neurons, how much memory holds.
  double share_in_memory() const;
  int64_t n_blocks_in_memory() const;
  // Whether the embedding stays in the file, and a run reads the rows of its tokens.
  bool rows_are_read() const;
};

std::string PlanText(const PlanReport& plan);  // ends with a newline
std::string PlanJson(const PlanReport& plan);

}  // namespace pantry
