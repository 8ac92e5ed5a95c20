// SPDX-License-Identifier: Apache-2.0
// FiringSamples are what a gated feed-forward network was fed and what its gate became: examples to learn from which neurons fire.
// Threads: a value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pantry {

struct FiringSamples {
  int64_t n_inputs = 0;
  int64_t n_neurons = 0;
  std::vector<float> x;     // [size(), n_inputs] the network's input, behind its norm
  std::vector<float> gate;  // [size(), n_neurons]; a neuron fires where it is positive

  int64_t size() const { return n_inputs == 0 ? 0 : static_cast<int64_t>(x.size()) / n_inputs; }
  const float* X(int64_t sample) const { return x.data() + sample * n_inputs; }
  const float* Gate(int64_t sample) const { return gate.data() + sample * n_neurons; }
};

}  // namespace pantry
