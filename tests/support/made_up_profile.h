// SPDX-License-Identifier: Apache-2.0
// A profile of a model's own weights in which what fires is made up.
#pragma once

#include <algorithm>
#include <cstdint>

#include "support/tiny_engine.h"
#include "weights/model_shape.h"
#include "weights/profile/neuron_profile.h"

namespace pantry::testing {

// frequency(i): how often neuron i of each layer fires, of 65535 tokens; of experts the same, who are all used as often.
template <typename Frequency>
NeuronProfile MadeUpProfile(const GgufFile& file, int64_t n_tokens, const Frequency& frequency) {
  const ModelShape shape = ParseModelShape(file.metadata()).value();
  NeuronProfile profile;
  profile.weights = NormsHash(file).value();
  profile.activation = shape.activation;
  profile.n_tokens = n_tokens;
  const int64_t n_networks = std::max(shape.n_experts, 1),
                n_neurons = shape.has_experts() ? shape.n_ff_expert : shape.n_ff;
  profile.n_neurons = static_cast<int32_t>(n_neurons);
  profile.n_experts = shape.n_experts;
  profile.layers.resize(static_cast<size_t>(shape.n_layers));
  for (NeuronProfile::Layer& layer : profile.layers) {
    layer.use.assign(static_cast<size_t>(shape.n_experts),
                     static_cast<uint16_t>(shape.n_experts > 0 ? 65535 * shape.n_experts_used / shape.n_experts : 0));
    for (int64_t i = 0; i < n_networks * n_neurons; ++i) {
      layer.frequency.push_back(static_cast<uint16_t>(frequency(i % n_neurons)));
    }
  }
  return profile;
}

}  // namespace pantry::testing
