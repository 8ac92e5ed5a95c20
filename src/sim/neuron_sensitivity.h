// SPDX-License-Identifier: Apache-2.0
// How much each step of a NeuronAblation depends on each of its constants: they are varied one at a time, and the speeds compared.
//
// A share stays one: what would exceed its bounds is at its bound.
// Threads: free functions.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "sim/device_profile.h"
#include "sim/neuron_ablation.h"

namespace pantry {

// Of NeuronOptions and DeviceProfile; "moves" is 1 - NeuronOptions::stays.
std::span<const std::string_view> SensitiveConstants();

struct NeuronSensitivity {
  std::string constant;
  std::vector<double> change;  // of the speed of each step: 0.1 is 10 % faster
};

// The constant times `factor`; `steps` are those without that. kInvalidArgument: nobody knows it, or the factor is not positive.
Result<NeuronSensitivity> VaryConstant(std::string_view constant, double factor, const DeviceProfile& device,
                                       const NeuronOptions& options, std::span<const AblationStep> steps);

}  // namespace pantry
