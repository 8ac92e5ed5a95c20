// SPDX-License-Identifier: Apache-2.0
// A NeuronPrior says which of a token's firing neurons run where not all are in memory: cache-prior (policy/routing) for single neurons.
//
// The gate is known of every neuron before anything of it is read. One that is near always runs; one that is not runs only if
//
//   gate >= strength * (the layer's largest gate, mean over the tokens so far)
//
// so what is left out adds little, and strength 0 leaves out nothing. What up will say is not known yet and not guessed. Gates are compared
// as they are, also where they act squared (relu2): there what lies at a share s of the largest adds s^2 of it, so a strength leaves out less.
// Only runs of a single token are changed: those of an answer, but also what is left of a prompt where that is one token (its last batch, -b 1,
// a prompt sent again). Runs of several tokens are exact, and their gates count in the mean as all others do.
// The means belong to the model and stay when the cache is emptied, as the paper's range of logits does between its windows. A layer's first token
// runs as it is. What is near depends on what was read before and when it came, so what is left out may differ between two runs.
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
#include "policy/running_mean.h"

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
  NeuronPriorCounts& operator+=(const NeuronPriorCounts& more) {
    n_firing += more.n_firing;
    n_left_out += more.n_left_out;
    gates += more.gates;
    gates_kept += more.gates_kept;
    return *this;
  }
  double left_out_share() const {
    return n_firing > 0 ? static_cast<double>(n_left_out) / static_cast<double>(n_firing) : 0;
  }
  double gate_sum_kept() const { return gates > 0 ? gates_kept / gates : 1; }  // share of the sum
};

class NeuronPrior {
 public:
  // REQUIRES: strength in 0 .. 1.
  NeuronPrior(double strength, int32_t n_layers);

  // A run: BeginRun() -> its layers -> EndRun() if it succeeded. One that fails counts in nothing.
  void BeginRun();
  void EndRun();

  // A layer of a single token: Begin(layer) -> Choose(its neurons, some after others) ... -> End().
  void Begin(int32_t layer);
  // Moves those of `firing` that run to its front, in their order, and returns how many. gate[n] is of neuron n; is_near[i] says whether
  // neuron firing[i] is in memory.
  size_t Choose(const float* gate, std::span<const uint8_t> is_near, std::span<int32_t> firing);
  // Counts the layer, unless its gates are nonsense.
  void End();
  // A layer of one of several tokens, whose neurons all run: its gates, all of them.
  void Learn(int32_t layer, std::span<const float> gates);

  double strength() const { return strength_; }
  const NeuronPriorCounts& counts() const { return counts_; }  // of the runs that ended
  // The layer's largest gate, mean over the tokens of those runs; 0 before the first.
  double usual_largest_gate(int32_t layer) const { return scales_[static_cast<size_t>(layer)].mean(); }

 private:
  double strength_;
  std::vector<RunningMean> scales_;  // by layer
  NeuronPriorCounts counts_;

  std::vector<RunningMean> run_scales_;  // of the run at hand
  NeuronPriorCounts run_counts_;

  int32_t layer_ = 0;  // at hand
  float threshold_ = 0;
  float largest_ = 0;
  NeuronPriorCounts of_layer_;
};

}  // namespace pantry
