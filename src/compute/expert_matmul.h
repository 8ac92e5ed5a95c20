// SPDX-License-Identifier: Apache-2.0
// An ExpertLayout says how one expert of a layer lies in memory; ComputeExperts() runs any number of a layer's experts on their rows.
//
// An expert is a *block*: its three matrices, packed, in one run of bytes. A block knows nothing of where it is, so one may lie in the
// model's weights, another in a cache's slot; the same bytes give the same bits.
//
//   block   [gate tiles][up tiles][down tiles]      each part 64-byte aligned
//   result  = down * act(gate * x, up * x)          x: a row (token) that chose the expert
//
// Where gating is by a ReLU, a block may lie *by neuron*, up in rows and down in columns: then only what fires is computed. That gives the
// same bits, since what rests adds zero. Where gate lies in rows as well, a predictor (compute/neuron_predictor.h) can say which of its rows
// are computed.
//
// Results of a row depend on that row and the block only, not on which blocks are computed together, in which order, or by whom.
// Threads: ComputeExperts() from the pool's owner. Views borrow.
#pragma once

#include <cstdint>
#include <span>

#include "compute/activations.h"
#include "compute/kernels/vector_ops/vector_ops.h"
#include "compute/matmul.h"
#include "compute/neuron_predictor.h"
#include "sys/thread_pool.h"

namespace pantry {

struct ExpertBlock {
  WeightMatrix gate, up;  // n_embd -> n_ff
  WeightMatrix down;      // n_ff -> n_embd
};

// Kernels and dims of a layer's experts, which all experts of the layer share.
struct ExpertLayout {
  ExpertBlock shape;  // without tiles
  int64_t up_offset = 0;
  int64_t down_offset = 0;
  int64_t n_bytes = 0;  // of a block; a multiple of 64

  explicit operator bool() const { return n_bytes > 0; }
  bool is_by_neuron() const { return shape.up.kernel->order == WeightOrder::kRows; }
  // Then single gates can be computed, too.
  bool has_gate_in_rows() const { return is_by_neuron() && shape.gate.kernel->order == WeightOrder::kRows; }
  // Puts the offsets to shape's dims and kernels. REQUIRES: gate and up have the same dims and read the same form of activations.
  static ExpertLayout Of(const ExpertBlock& shape);
  // The block whose bytes begin at `block`, 64-byte aligned.
  ExpertBlock View(const uint8_t* block) const;
};

// What is added to an expert's products before they are used; null: nothing.
struct ExpertBias {
  const float* gate = nullptr;  // [n_ff]
  const float* up = nullptr;    // [n_ff]
  const float* down = nullptr;  // [n_embd]
};

// out[i] = act(gate[i]) * up[i]: silu_mul, relu_mul, ... of VectorOps. For blocks that lie by neuron one that gives 0 where gate <= 0.
using GatedActivation = void (*)(const float* gate, const float* up, int64_t n, float* out);

// A block to be computed, and the picks (row, slot) that want it: picks lie side by side by expert, so that a block's are a range.
struct ExpertTask {
  const uint8_t* block = nullptr;
  int32_t expert = 0;  // its index in the layer, for whoever finds the block
  int64_t first_pick = 0;
  int64_t n_picks = 0;
  ExpertBias bias = {};
  // What it predicts lets the other neurons rest; null: all gates are computed. REQUIRES: gating by ReLU.
  const NeuronPredictor* predictor = nullptr;
};

// What the tasks of a layer work on. Each task touches its own picks' parts of `ff` and `partials` only.
struct ExpertRun {
  const ExpertLayout* layout;
  ActivationRows x;         // [m, n_embd] in the form that gate and up read (PrepareExpertRow)
  const int32_t* pick_row;  // [n_picks] the row of x that a pick is of
  GatedActivation activation;
  const VectorOps* ops;
  float* ff;  // [n_picks, ScratchFloats(n_ff)], 64-byte aligned: scratch
  float*
      partials;  // [n_picks, ScratchFloats(n_embd)], same: results, in columns [0, n_embd); before that the gathered rows of x
  PredictorRun* prediction = nullptr;  // where a task has a predictor; x is there in F32 then

  // Length of a row of ff or partials that n numbers need, in any one form: whole cache lines, and room for the four parts of Q8.
  static constexpr int64_t ScratchFloats(int64_t n) { return n <= 64 ? 64 : (n + 15) / 16 * 16; }
};

// A row of one form, all of it. REQUIRES: as many columns.
void CopyActivationRow(ActivationFormat form, const ActivationRows& from, const ActivationRows& to);

// Brings row `row` of x into the form that the layout's gate and up read.
void PrepareExpertRow(const ExpertLayout& layout, const ActivationRows& x, int64_t row);

// So many rows of a task look for their firing neurons one after another. More together read most neurons anyway.
inline constexpr int64_t kSparseRows = 4;

inline constexpr size_t kMaxExpertTasks = 1024;  // of one ComputeExperts()

// partials of the tasks' picks = the experts' results. Allocates nothing; two or three parallel loops over all tasks together.
void ComputeExperts(ThreadPool& pool, const ExpertRun& run, std::span<const ExpertTask> tasks);

}  // namespace pantry
