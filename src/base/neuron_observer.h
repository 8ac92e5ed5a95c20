// SPDX-License-Identifier: Apache-2.0
// A NeuronObserver is told what a model's gated feed-forward networks were fed, and what they computed before their activation.
//
// Models call it, and know nothing of who listens: a profile of which neurons fire (eval/neuron_recorder.h), or the training of what predicts
// them (eval/firing_recorder.h). While somebody listens every
// neuron of dense layers is computed, also those that rest; of experts' at least the gates.
// Threads: called by the thread that runs the model.
#pragma once

#include <cstdint>
#include <span>

namespace pantry {

class NeuronObserver {
 public:
  virtual ~NeuronObserver() = default;
  // Dense layer `layer` of the model, for each of a run's `n_tokens` in order. Row t begins at gate + t * stride, and likewise in `up`.
  virtual void Gated(int32_t layer, int64_t n_tokens, int64_t n_neurons, const float* gate, const float* up,
                     int64_t stride) {
    (void)layer, (void)n_tokens, (void)n_neurons, (void)gate, (void)up, (void)stride;
  }
  // A row's input to the layer's expert `expert` (0: it is dense), behind the norm, and what its gate made of it, before the activation.
  virtual void Fed(int32_t layer, int32_t expert, std::span<const float> x, std::span<const float> gate) {
    (void)layer, (void)expert, (void)x, (void)gate;
  }
};

}  // namespace pantry
