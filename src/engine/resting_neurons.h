// SPDX-License-Identifier: Apache-2.0
// RestingNeurons are --sparsity at work: in each dense layer of a SiLU network the neurons whose |silu(gate)| is below a threshold rest.
//
// The thresholds come from a profile of the model (weights/profile/neuron_profile.h): so many of the activations on its text lay below. On
// another text somewhat more or fewer neurons rest, so those that do are counted. The answer is not the model's own: this is lossy.
// Threads: one run at a time; within it n_firing() from any thread.
// Source: Lee et al. 2024, arXiv 2404.08763 (CATS).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/firing_gates.h"
#include "base/logger.h"
#include "base/status.h"
#include "weights/gguf/gguf_file.h"
#include "weights/model_shape.h"

namespace pantry {

struct SparsityOptions {
  double sparsity = 0;  // share of the neurons that rests; 0: none
  std::string profile;  // file; "": beside the model
  Status Validate() const;
};

class RestingNeurons {
 public:
  // Null where none rest; `log` is told if that was not asked for. kNotFound: there is no profile, with how to make one;
  // kInvalidArgument: it is another model's; errors of NeuronProfile::Read().
  static Result<std::unique_ptr<RestingNeurons>> Load(const SparsityOptions& options, const GgufFile& file,
                                                      const ModelShape& shape, Logger& log);

  double sparsity() const { return sparsity_; }
  std::span<const FiringGates> firing() const { return firing_; }  // [n_layers]
  // A run begins, adds up the neurons that fire in n_firing(), and was of so many tokens. One that fails does not count.
  void BeginRun() { n_firing_ = 0; }
  std::atomic<int64_t>& n_firing() { return n_firing_; }
  void EndRun(int64_t n_tokens) {
    n_neurons_ += n_tokens * neurons_per_token_;
    n_resting_ += n_tokens * neurons_per_token_ - n_firing_;
  }
  int64_t n_neurons() const { return n_neurons_; }  // of all runs so far, and how many of them rested
  int64_t n_resting() const { return n_resting_; }

 private:
  RestingNeurons() = default;
  double sparsity_ = 0;
  std::vector<FiringGates> firing_;
  int64_t neurons_per_token_ = 0;
  int64_t n_neurons_ = 0;
  int64_t n_resting_ = 0;
  std::atomic<int64_t> n_firing_ = 0;
};

}  // namespace pantry
