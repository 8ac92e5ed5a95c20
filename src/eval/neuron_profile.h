// SPDX-License-Identifier: Apache-2.0
// ProfileNeurons() has a model read a text and tells which of its neurons fire: the making of a NeuronProfile.
//
// The text is cut into windows of n_ctx tokens, of which as many as wanted are read, evenly spread over it. What fires in a SiLU network is
// known only when small activations have been counted, so such a model reads them twice.
// Threads: as Session.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/status.h"
#include "engine/engine.h"
#include "eval/observed_text.h"
#include "weights/profile/neuron_profile.h"

namespace pantry {

struct NeuronProfileOptions : ObservedTextOptions {
  static constexpr int64_t kLeastTokens = 32;  // the largest batch

  double sparsity = 0.5;  // share of a SiLU network's neurons that rests; without effect on others
  Status Validate() const;
};

// kUnsupported for experts that do not gate by ReLU, and networks that have no activation of GluActivation; kInvalidArgument where the text is
// too short; kCancelled when `keep_going(tokens done, total)`, which may be empty, says no. REQUIRES: nobody else observes the neurons.
Result<NeuronProfile> ProfileNeurons(Engine& engine, std::string_view text, const NeuronProfileOptions& options,
                                     const std::function<bool(int64_t n_done, int64_t n_total)>& keep_going = {});

}  // namespace pantry
