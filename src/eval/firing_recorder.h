// SPDX-License-Identifier: Apache-2.0
// A FiringRecorder keeps what a model's gated feed-forward networks were fed while it read a text, and what their gates became.
//
// In F16, and of each network only so many rows as it has room for: the first ones.
// Threads: as NeuronObserver; the rest when no model runs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/neuron_observer.h"
#include "policy/predict/firing_samples.h"

namespace pantry {

class FiringRecorder final : public NeuronObserver {
 public:
  FiringRecorder(int64_t n_layers, int64_t n_networks, int64_t n_inputs, int64_t n_neurons, int64_t most_rows);

  void Fed(int32_t layer, int32_t expert, std::span<const float> x, std::span<const float> gate) override;

  bool has_heard() const { return has_heard_; }
  // Of network [layer, network].
  FiringSamples Samples(int64_t network) const;

 private:
  struct Network {
    std::vector<uint16_t> x, gate;  // [rows, n_inputs], [rows, n_neurons] F16
  };
  int64_t n_networks_;
  int64_t n_inputs_, n_neurons_, most_rows_;
  bool has_heard_ = false;
  std::vector<Network> networks_;  // [n_layers, n_networks]
};

}  // namespace pantry
