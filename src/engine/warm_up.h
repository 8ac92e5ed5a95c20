// SPDX-License-Identifier: Apache-2.0
// WarmUp() fills the cache of single neurons before the first token with those that fired most when the model was profiled.
//
// Else a streamed run begins with an empty cache, and its first tokens read nearly all that fires. What the cache holds changes no result. On
// another text than the profile's other neurons fire, and the cache follows, as it does anyway.
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
  std::string profile;  // file
  int64_t n_neurons = 0;
  int64_t n_bytes = 0;
};

// Nothing where the model does not stream single neurons, where there is no profile beside it and `profile` is "", and where the profile is of no use,
// which is a line of the engine's log. kNotFound: there is no file `profile`. kCancelled; the errors of WeightStream::WarmUp().
Result<std::optional<WarmCache>> WarmUp(Engine& engine, const std::string& profile, const LoadProgress& progress);

}  // namespace pantry
