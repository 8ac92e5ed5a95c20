// SPDX-License-Identifier: Apache-2.0
// A NeuronObserver is told what a model's gated feed-forward networks computed before their activation.
//
// Models call it, and know nothing of who listens: a profile of which neurons fire (eval/neuron_recorder.h). While somebody listens every
// neuron is computed, also those that rest.
// Threads: called by the thread that runs the model.
#pragma once

#include <cstdint>

namespace pantry {

class NeuronObserver {
 public:
  virtual ~NeuronObserver() = default;
  // Layer `layer` of the model, for each of a run's `n_tokens` in order. Row t begins at gate + t * stride, and likewise in `up`.
  virtual void Gated(int32_t layer, int64_t n_tokens, int64_t n_neurons, const float* gate, const float* up,
                     int64_t stride) = 0;
};

}  // namespace pantry
