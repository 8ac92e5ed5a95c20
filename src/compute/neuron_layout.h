// SPDX-License-Identifier: Apache-2.0
// A NeuronLayout says how the neurons of a gated feed-forward network lie in a block, each by itself: what a neuron needs beside its gate
// is one run of bytes, a *bundle*, so that a disk reads one neuron in one piece, and memory in long runs.
//
//   in a pack  block    [down's scales | zeros to 4096][bundle of neuron 0][bundle 1]...
//              bundle   [up's GGUF row][down's codes of the neuron's column][zeros][check]      a multiple of 512 bytes
//                       '---- kept_bytes, a multiple of a cache line's 64 ----'
//   in memory  the same without zeros in bundles, and checks: as many bytes as up and down have
//
// Scales of down are shared by the 32 neurons of a quantization block, so they lie apart and stay in memory. The order of a column's codes
// is that of the down kernel (column_layout.h): a block is made for one instruction set. The check is the packer's business: 8 bytes.
// Source: PowerInfer-2's bundles, arXiv 2406.06282, section 4.4 (there of gate, up and down).
// Threads: a value; parts of a block may be placed in parallel.
#pragma once

#include <cstdint>

#include "compute/matmul.h"

namespace pantry {

struct NeuronLayout {
  static constexpr int64_t kBundleAlignment = 512;
  static constexpr int64_t kCheckBytes = 8;
  static constexpr int64_t kKeptAlignment = 64;

  WeightMatrix up;    // n_embd -> n_ff, in rows; without tiles
  WeightMatrix down;  // n_ff -> n_embd, in columns; without tiles
  int64_t scales_bytes = 0;
  int64_t column_offset = 0;  // in a bundle
  int64_t kept_bytes = 0;     // of a bundle, what kernels read: the rest need not stay in memory once it was checked
  int64_t bundle_bytes = 0;

  static NeuronLayout InPack(const WeightMatrix& up, const WeightMatrix& down);
  static NeuronLayout InMemory(const WeightMatrix& up, const WeightMatrix& down);

  explicit operator bool() const { return bundle_bytes > 0; }
  int64_t n_neurons() const { return up.rows; }
  int64_t bundle_offset(int64_t neuron) const { return scales_bytes + neuron * bundle_bytes; }
  int64_t n_bytes() const { return bundle_offset(n_neurons()); }
  const uint8_t* ColumnOf(const uint8_t* bundle) const { return bundle + column_offset; }

  // Brings GGUF rows [first, first + n) of up, of down, to their places in a block. REQUIRES of down: `first` is a multiple of
  // down.kernel->row_tile, and so is n unless the last row is among them.
  void PlaceUp(const uint8_t* rows, int64_t first, int64_t n, uint8_t* block) const;
  void PlaceDown(const uint8_t* rows, int64_t first, int64_t n, uint8_t* block) const;
};

}  // namespace pantry
