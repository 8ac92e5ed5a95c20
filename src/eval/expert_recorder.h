// SPDX-License-Identifier: Apache-2.0
// An ExpertRecorder counts how often a mixture's experts are used, and their neurons fire, while the model reads texts.
//
// Four bytes a neuron: a model whose experts do not fit in memory has millions of them, so nothing is kept of their past.
// Threads: as NeuronObserver; the rest when no model runs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/neuron_observer.h"
#include "weights/model_shape.h"
#include "weights/profile/neuron_profile.h"

namespace pantry {

class ExpertRecorder final : public NeuronObserver {
 public:
  // REQUIRES: the shape has experts that gate by ReLU.
  explicit ExpertRecorder(const ModelShape& shape);

  void Fed(int32_t layer, int32_t expert, std::span<const float> x, std::span<const float> gate) override;

  bool heard_all_layers() const;  // of those that have experts
  // A layer's profile, of n_tokens that it was fed.
  NeuronProfile::Layer Layer(int32_t layer, int64_t n_tokens) const;

 private:
  size_t At(int32_t layer, int32_t expert) const {
    return static_cast<size_t>(layer) * n_experts_ + static_cast<size_t>(expert);
  }
  const int32_t n_dense_layers_;
  const size_t n_experts_, n_neurons_;
  std::vector<uint32_t> n_used_;   // [n_layers][n_experts] tokens
  std::vector<uint32_t> n_fired_;  // [n_layers][n_experts][n_neurons] tokens
};

}  // namespace pantry
