// SPDX-License-Identifier: Apache-2.0
// A NeuronRecorder counts which neurons of a model's dense feed-forward networks fire while it reads texts.
//
// A batch of b is b consecutive tokens of a text: the first b, the next b, and so on; what is left at the end is no batch. A neuron is active
// in a batch when one of its tokens makes it fire, which is what a run of b tokens has to compute. 32 tokens of a neuron's past are the bits
// of one number, so all batch sizes are counted in the same pass over the gates.
// Small activations are counted by gate, in classes of equal leading 16 bits (0.8 % wide): one table for every activation.
// Threads: as NeuronObserver; the rest when no model runs.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/firing_gates.h"
#include "base/neuron_observer.h"
#include "weights/model_shape.h"
#include "weights/profile/neuron_profile.h"

namespace pantry {

class NeuronRecorder final : public NeuronObserver {
 public:
  // `firing` [n_layers]: what fires in each layer.
  NeuronRecorder(const ModelShape& shape, std::span<const FiringGates> firing);

  void BeginText();  // a neuron's past begins anew
  void Gated(int32_t layer, int64_t n_tokens, int64_t n_neurons, const float* gate, const float* up,
             int64_t stride) override;

  bool heard_all_layers() const;
  // |act(gate)| that is greater than the share i/100 of a layer's, i = 0 .. 99.
  std::array<float, NeuronProfile::kThresholds> Thresholds(int32_t layer) const;
  // All of a layer's profile. Needs a text of kBatches.back() tokens to say something of all batches.
  NeuronProfile::Layer Layer(int32_t layer) const;

 private:
  static constexpr size_t kClasses = size_t{1} << 16;  // of gates
  static constexpr size_t kBatchSizes = NeuronProfile::kBatches.size();

  struct Counts {
    FiringGates firing;
    int64_t n_tokens = 0;
    int64_t position = 0;           // in the text
    std::vector<uint32_t> past;     // [n_neurons] bit i: fired i tokens ago
    std::vector<int64_t> of_class;  // [kClasses] gates
    int64_t n_fired = 0;
    int64_t n_up = 0;      // of these, with a positive up
    int64_t n_before = 0;  // fired at a token that has a next one
    int64_t n_again = 0;   // of these, fire at the next one, too
    std::array<int64_t, kBatchSizes> n_batches = {};
    std::array<std::vector<uint32_t>, kBatchSizes> n_active;  // [n_neurons] batches that made it active
  };
  void CountToken(Counts& counts, const float* gate, const float* up) const;
  void CountBatches(Counts& counts) const;

  GluActivation activation_;
  size_t n_neurons_;
  std::vector<Counts> layers_;
};

// |act(gate)| of an activation.
float ActivationSize(GluActivation activation, float gate);

}  // namespace pantry
