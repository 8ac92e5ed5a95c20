// SPDX-License-Identifier: Apache-2.0
// WarmUp() fills the caches of a streamed run before the first token with the experts that were used most, and the neurons that fired most,
// when the model was profiled.
//
// Else a streamed run begins with empty caches, and its first tokens read nearly all that they use. What a cache holds changes no result, but
// where --expert-policy or --neuron-policy asks what it holds. On another text than the profile's other neurons fire, and the caches follow,
// as they do anyway.
// Threads: no run at hand.
// Source: PowerInfer-2's planner, arXiv 2406.06282, section 5: neurons that are hot when profiled are preloaded.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/status.h"
#include "engine/engine.h"
#include "models/model.h"

namespace pantry {

struct WarmCache {
  std::string profile;    // file
  int64_t n_experts = 0;  // or, where neurons are read alone, what is read of an expert as a whole
  int64_t n_neurons = 0;
  int64_t n_bytes = 0;
};

// Whether the engine streams what profiles know of: single neurons, or experts whose neurons rest.
bool StreamsProfiled(Engine& engine);

// Nothing where it does not, where there is no profile beside it and `profile` is "", and where the profile is of no use,
// which is a line of the engine's log. kNotFound: there is no file `profile`. kCancelled; the errors of WeightStream::WarmUp().
Result<std::optional<WarmCache>> WarmUp(Engine& engine, const std::string& profile, const LoadProgress& progress);

}  // namespace pantry
