// SPDX-License-Identifier: Apache-2.0
// Mixing: from a router's logits to the weights that the results of a token's experts are mixed with.
//
// Which experts these are is chosen before (policy/routing/exact.h, or a policy); the weights of whatever was chosen always come from the
// token's own logits.
// Pure functions of one token's numbers.
#pragma once

#include <cstdint>
#include <span>

#include "weights/model_shape.h"

namespace pantry {

// weights[rank] = the share of expert chosen[rank]; `chosen` may be any distinct experts. `scratch` is as long as logits.
void MixExperts(const ExpertMixing& mixing, std::span<const float> logits, std::span<const int32_t> chosen,
                std::span<float> scratch, std::span<float> weights);

}  // namespace pantry
