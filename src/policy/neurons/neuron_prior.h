// SPDX-License-Identifier: Apache-2.0
// A NeuronPrior says which of a token's firing neurons run where not all are in memory: cache-prior (policy/routing) for single neurons.
//
// The gate is known of every neuron before anything of it is read. One that is near always runs; one that is not runs only if
//
//   gate >= strength * (the layer's largest gate, mean over the tokens so far)
//
// so what is left out adds little, and strength 0 leaves out nothing. What up will say is not known yet and not guessed. A layer's first
// token runs as it is. What is near depends on what was read before and when it came, so what is left out may differ between two runs.
// Threads: thread-compatible. No allocation after construction.
// Source: cache-prior's running mean of a layer's range, arXiv 2412.00099, Eq. 9 and 10, here on neurons.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace pantry {

// "exact", which is 0, or "cache-prior:0.2": the strength, 0 to 1. kInvalidArgument: says what was expected.
Result<double> ParseNeuronPolicy(std::string_view text);
std::string NeuronPolicyText(double strength);  // as ParseNeuronPolicy() reads it

// Sums over the layers of single tokens that a prior may have changed.
struct NeuronPriorCounts {
  int64_t n_firing = 0;
  int64_t n_left_out = 0;  // of these
  double gates = 0;        // sum over those that fire
  double gates_kept = 0;   // over those that ran

  NeuronPriorCounts operator-(const NeuronPriorCounts& before) const {
    return {n_firing - before.n_firing, n_left_out - before.n_left_out, gates - before.gates,
            gates_kept - before.gates_kept};
  }
  double left_out_share() const {
    return n_firing > 0 ? static_cast<double>(n_left_out) / static_cast<double>(n_firing) : 0;
  }
  double gate_mass() const { return gates > 0 ? gates_kept / gates : 1; }
};

class NeuronPrior {
 public:
  // REQUIRES: strength in 0 .. 1.
  NeuronPrior(double strength, int32_t n_layers);

  // A layer of a single token: Begin(layer) -> Choose(its neurons, some after others) ... -> End().
  void Begin(int32_t layer);
  // Moves those of `firing` that run to its front, in their order, and returns how many. gate[n] is of neuron n; is_near[i] says whether
  // neuron firing[i] is in memory, or on its way there.
  size_t Choose(const float* gate, std::span<const uint8_t> is_near, std::span<int32_t> firing);
  // Counts the layer, unless its gates are nonsense.
  void End();

  double strength() const { return strength_; }
  const NeuronPriorCounts& counts() const { return counts_; }

 private:
  struct Scale {  // of a layer's gates
    double sum = 0;
    int64_t n_tokens = 0;
    double mean() const { return n_tokens > 0 ? sum / static_cast<double>(n_tokens) : 0; }
  };
  double strength_;
  std::vector<Scale> scales_;  // by layer
  NeuronPriorCounts counts_;

  size_t layer_ = 0;  // at hand
  float threshold_ = 0;
  float largest_ = 0;
  NeuronPriorCounts of_layer_;
};

}  // namespace pantry
