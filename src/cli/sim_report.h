// SPDX-License-Identifier: Apache-2.0
// What `pantry sim` prints: for people as a table, for programs as JSON.
//
// Threads: any.
#pragma once

#include <span>
#include <string>

#include "sim/device_profile.h"
#include "sim/neuron_ablation.h"
#include "sim/neuron_sensitivity.h"
#include "sim/sim_model.h"
#include "sim/simulator.h"

namespace pantry {

struct SimRunReport {
  const SimModel& model;
  const DeviceProfile& device;
  const SimOptions& options;
  const MemoryPlan& memory;
  const SimReport& report;
};

std::string SimText(const SimRunReport& run);  // ends with a newline
std::string SimJson(const SimRunReport& run);
// Of --ablation: each step beside what is published.
std::string AblationText(std::span<const AblationStep> steps);
std::string AblationJson(std::span<const AblationStep> steps);
// And what a constant that is so many times as large changes: rows below a header.
std::string SensitivityHeader(std::span<const AblationStep> steps);
std::string SensitivityText(const NeuronSensitivity& row, double factor);

}  // namespace pantry
