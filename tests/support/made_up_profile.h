// SPDX-License-Identifier: Apache-2.0
// A profile of a model's own weights in which what fires is made up.
#pragma once

#include <cstdint>

#include "support/tiny_engine.h"
#include "weights/model_shape.h"
#include "weights/profile/neuron_profile.h"

namespace pantry::testing {

// frequency(i): how often neuron i of each layer fires, of 65535 tokens.
template <typename Frequency>
NeuronProfile MadeUpProfile(const GgufFile& file, int64_t n_tokens, const Frequency& frequency) {
  const ModelShape shape = ParseModelShape(file.metadata()).value();
  NeuronProfile profile;
  profile.weights = NormsHash(file).value();
  profile.activation = shape.activation;
  profile.n_tokens = n_tokens;
  profile.n_neurons = static_cast<int32_t>(shape.n_ff);
  profile.layers.resize(static_cast<size_t>(shape.n_layers));
  for (NeuronProfile::Layer& layer : profile.layers) {
    for (int64_t i = 0; i < shape.n_ff; ++i) layer.frequency.push_back(static_cast<uint16_t>(frequency(i)));
  }
  return profile;
}

}  // namespace pantry::testing
