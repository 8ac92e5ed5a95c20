// SPDX-License-Identifier: Apache-2.0
// A SimModel is what a model does to a machine: a token's steps, what each computes, and the blocks that it may have to wait for.
//
// Plain numbers. Whoever knows models fills it from a file's table (the cli does); ModelOf() makes one of a shape alone, with all weights in
// Q4_0, so that a phone and a 47-billion model can be simulated without either.
//
//   token    step, step, ..., after         step    before - (which blocks is known) - between - blocks, in the order in which they come
//
// Threads: a value.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/block_id.h"
#include "base/status.h"
#include "policy/planner/memory_plan.h"
#include "policy/planner/speed_estimate.h"
#include "residency/cache/block_info.h"
#include "residency/stream/block_placer.h"
#include "sim/machine.h"
#include "weights/model_shape.h"

namespace pantry {

struct SimStep {
  Work before;    // of a token: until it is known which blocks are wanted
  Work between;   // and from then until they are needed
  Work beside;    // what the second executor does while the blocks are brought; the cores do it where there is none
  Work choosing;  // of the cores alone, beside that: only then are the blocks asked for (a predictor)
  int32_t layer = -1;        // whose blocks; -1: none
  uint32_t first_block = 0;  // they may be wanted; a layer may have several steps
  uint32_t n_blocks = 0;     //
  bool wants_all = false;    // a matrix of a dense layer: every token wants all of them
};

struct SimModel {
  std::string name;
  std::vector<SimStep> steps;
  Work after;  // of a run of tokens: the logits
  Work guess;  // of a single token, to guess what the next layer will want: its router, once more
  double kv_bytes_per_position = 0;
  double attention_macs_per_position = 0;

  // Blocks, numbered as the steps want them; empty: nothing can be left in the file.
  std::vector<BlockInfo> blocks;
  std::vector<double> block_macs;        // int8, of a token that uses the block
  std::vector<uint32_t> first_piece_of;  // [blocks + 1]
  std::vector<BlockPiece> pieces;        // of all blocks, where they lie
  int32_t n_experts = 0;                 // of a layer; 0: matrices in rotation
  int32_t n_used = 0;
  SparseCost block_cost;       // of a row
  double steps_of_blocks = 3;  // parallel loops that compute some blocks together
  bool places_blocks = true;   // what is read has to be rearranged; of a pack it is copied

  // For PlanMemory(); bytes.
  MemoryRequest memory;

  bool is_rotation() const { return n_experts == 0; }
  int32_t n_layers() const;    // that have blocks
  double block_bytes() const;  // of all
  void AddBlock(int32_t layer, int64_t n_bytes, double macs, std::span<const BlockPiece> its_pieces);
  Status Validate() const;
};

// A model by its shape.
struct SimShape {
  std::string_view name;
  ModelShape shape;
  bool routes_early = false;  // a layer's router reads what enters the layer
  bool is_tied = false;       // the embedding is the output matrix, too
};
// kNotFound lists those there are. Sources: the models' published configurations.
Result<SimShape> FindShape(std::string_view name);
std::vector<std::string_view> ShapeNames();

// Of activations that a token goes through between a layer's products, on one core: Work::row_bytes.
double RowBytesOfLayer(const ModelShape& shape);

inline constexpr double kQ4Bytes = 18.0 / 32;  // of a weight in Q4_0

SimModel ModelOf(const SimShape& shape, int64_t n_ctx);

}  // namespace pantry
