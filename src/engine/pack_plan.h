// SPDX-License-Identifier: Apache-2.0
// PlanPack() says how a model is packed for an instruction set: which of its tensors become blocks, and who makes them.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "sys/isa.h"
#include "weights/gguf/gguf_file.h"
#include "weights/pack/pack_plan.h"

namespace pantry {

// Whether the neurons of networks that gate by ReLU lie one by one, where they can.
enum class NeuronPacking : uint8_t {
  kNever,
  kWhereWorthIt,  // where a neuron is so large that reading it alone costs less than reading it with its neighbours
  kAlways,
};

// Whether PlanPack() lays neurons one by one where it is worth it.
bool PacksByNeuron(const GgufFile& file, Isa isa);

// The blocks that a streamed run of `file` would read, in the same order. The placer refers to nothing of `file`. What loading it says of
// a model that cannot be run, and kInvalidArgument where nothing of it is streamed.
Result<PackPlan> PlanPack(const GgufFile& file, Isa isa, NeuronPacking neurons = NeuronPacking::kWhereWorthIt);

}  // namespace pantry
