// SPDX-License-Identifier: Apache-2.0
// Routing: from a router's logits to the experts of a token and the weights that their results are mixed with.
//
// Two steps, so that a policy can put another choice between them: what a token chooses goes by the scores; the weights of whatever was
// chosen always come from the token's own logits.
// Pure functions of one token's numbers.
#pragma once

#include <cstdint>
#include <span>

#include "weights/model_shape.h"

namespace pantry {

// chosen[rank] = the experts of the highest logits, in descending order; of equals the one with the lower index first, NaN last.
// REQUIRES: chosen.size() <= logits.size().
void ChooseExperts(std::span<const float> logits, std::span<int32_t> chosen);

// weights[rank] = the share of expert chosen[rank]; `chosen` may be any distinct experts. `scratch` is as long as logits.
void MixExperts(const ExpertMixing& mixing, std::span<const float> logits, std::span<const int32_t> chosen,
                std::span<float> scratch, std::span<float> weights);

}  // namespace pantry
