// SPDX-License-Identifier: Apache-2.0
// ComputeNeurons() runs a gated feed-forward network's neurons, those that fire, where all of them lie in memory. ActivateNeurons() and
// SumNeurons() run them as they come from a source, wherever their bundles lie.
//
//   hidden[m, n] = act(gate[m, n], up[n] . x[m])              ActivateNeurons(): any neurons, in any order, each once
//   out[m, n_embd] += sum over a range: down[:, n] * hidden   SumNeurons(): range after range, ascending, once all of a range are activated
//
// The result has the bits of the whole network computed densely, for weights that are finite: a neuron that fires for no row adds zero, and
// each output is summed block by block of 32 neurons in ascending order, as all kernels do.
// Threads: from the pool's owner. Allocates nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "base/firing_gates.h"
#include "base/function_ref.h"
#include "compute/activations.h"
#include "compute/expert_matmul.h"
#include "compute/neuron_layout.h"
#include "compute/neuron_predictor.h"
#include "sys/thread_pool.h"

namespace pantry {

// Up to so many rows want few of a network's neurons: gates come in parts, and what lies in memory is activated before the rest is there. More
// rows want most of them, one segment after another.
inline constexpr int64_t kFewRows = 4;

// What all neurons of a network work on.
struct NeuronRun {
  const NeuronLayout* layout;
  const uint8_t* scales;  // of down: the block's first bytes
  ActivationRows x;       // [m, n_embd] in the form that up reads
  float* gate;            // [m, gate_stride]: products of the gate; of neurons that were activated, what came of them
  int64_t gate_stride;
  GatedActivation activation;  // gives 0 where a gate is 0
  const VectorOps* ops;
  ActivationRows hidden;    // [m, n_ff] in the form that down reads: scratch
  const uint8_t** columns;  // [n_ff]: scratch
  float* out;               // [m, n_embd]
};

struct NeuronRange {
  int64_t begin = 0;  // multiples of 32
  int64_t end = 0;
  std::span<const int32_t> firing;          // ascending: those of the range that fire in any row
  std::span<const uint8_t* const> bundles;  // of each
};

// `neurons` ascend, and bundles[i] is that of neurons[i]. Between its parts the caller's thread runs between(), if given.
void ActivateNeurons(ThreadPool& pool, const NeuronRun& run, std::span<const int32_t> neurons,
                     std::span<const uint8_t* const> bundles, FunctionRef<void()> between = {});
// REQUIRES: range.firing were activated, and the ranges before were summed.
void SumNeurons(ThreadPool& pool, const NeuronRun& run, const NeuronRange& range);

// Which neurons of a block in memory are computed: `run.gate` is written, too, where one rests.
struct NeuronChoice {
  FiringGates firing = FiringGates::Positive();
  std::atomic<int64_t>* n_firing = nullptr;  // if given, those that fire are added, of all rows
  // What it does not predict rests; null: nobody asks. Its sums of the rows are there.
  const NeuronPredictor* predictor = nullptr;
  PredictorRun* prediction = nullptr;
  // Where it predicts for a single row: the gate in rows, of which those that are predicted are computed; null: gates are there.
  const WeightMatrix* gate = nullptr;
};
void ComputeNeurons(ThreadPool& pool, const NeuronRun& run, const NeuronChoice& choice);

// up [m, stride] = all rows of up in a block in memory times x, for whoever wants to see them.
void ComputeUps(ThreadPool& pool, const NeuronLayout& layout, const uint8_t* block, const ActivationRows& x, float* up,
                int64_t stride);

}  // namespace pantry
