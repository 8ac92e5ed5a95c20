// SPDX-License-Identifier: Apache-2.0
// The router's own choice: the experts that it likes best. What every policy is compared with.
//
// Pure functions of one token's numbers; no allocation.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

namespace pantry {

// How much a router likes an expert to which it gave this logit: NaN counts as -infinity.
inline float LikingOf(float logit) { return std::isnan(logit) ? -std::numeric_limits<float>::infinity() : logit; }

// chosen[rank] = the experts of the highest logits, in descending order; of equals the one with the lower index first, NaN last.
// REQUIRES: chosen.size() <= logits.size().
void ChooseExperts(std::span<const float> logits, std::span<int32_t> chosen);

}  // namespace pantry
