// SPDX-License-Identifier: Apache-2.0
// What `pantry plan` says of a model whose neurons rest: how it would run neuron by neuron, what that holds and hits, and which way is the best.
//
// Of a pack of single neurons, and of a GGUF file of which one could be made. What fires comes from a profile beside the model, else it is a guess
// and called one.
// Threads: any.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/status.h"
#include "engine/engine.h"
#include "engine/memory_budget.h"
#include "engine/neuron_forecast.h"
#include "sys/hardware_profile.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {

struct NeuronPlanReport {
  std::string model;       // file
  bool must_pack = false;  // it is a GGUF file
  std::string profile;     // file; "": what fires is a guess,
  std::string why_guess;   // since
  int64_t n_profile_tokens = 0;
  double least_tok_per_s = 0;  // that somebody wants
  bool has_speeds = false;     // the machine is known
  MemoryPlan memory;           // by neuron
  int64_t n_neurons = 0;       // of all layers
  int64_t gate_bytes = 0;      // of memory.dense_bytes
  int64_t scale_bytes = 0;     // likewise: of down
  std::optional<FiringCurve> firing;
  ModelWork work;  // by neuron
  NeuronPlan plan;

  // The same in memory: what fires is all that is read, in fewer loops.
  ModelWork resident_work() const;
  double held_share() const;  // of the neurons, while an answer is written: what idles is lent to them
};

struct NeuronPlanOptions {
  EngineOptions engine;
  std::string profile;         // "": beside the model
  double least_tok_per_s = 0;  // --min-speed
  FreeMemory memory;
  const HardwareProfile* machine = nullptr;  // null: not known
  const GgufFile* source = nullptr;          // of a pack; null: it is looked for beside it
  int32_t n_threads = 1;
};
// Nothing where neurons do not rest, or do not lie one by one. kOutOfBudget: not even without a neuron in memory does it fit.
Result<std::optional<NeuronPlanReport>> PlanByNeuron(const GgufFile& file, const ModelShape& shape,
                                                     const NeuronPlanOptions& options);

std::string NeuronPlanText(const NeuronPlanReport& plan);  // ends with a newline
nlohmann::ordered_json NeuronPlanJson(const NeuronPlanReport& plan);

}  // namespace pantry
