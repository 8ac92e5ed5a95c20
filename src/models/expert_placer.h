// SPDX-License-Identifier: Apache-2.0
// An ExpertPlacer says where the experts of a GGUF lie, and packs their rows into the kernels' layout as they come.
//
// Blocks are numbered by layer, then by expert. An expert is three slices of three tensors; each is read in pieces of whole tiles.
// Threads: immutable after the last AddLayer().
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/block_id.h"
#include "models/expert_source.h"
#include "residency/stream/block_placer.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {

class ExpertPlacer final : public BlockPlacer {
 public:
  // The experts of one layer: stacked tensors, dims [cols, rows, n_experts].
  void AddLayer(int32_t n_experts, const ExpertLayout& layout, const TensorInfo& gate, const TensorInfo& up,
                const TensorInfo& down);

  int32_t n_layers() const { return static_cast<int32_t>(layers_.size()); }  // that have experts
  int64_t n_blocks() const { return n_blocks_; }
  int32_t n_experts(int32_t layer) const { return layers_[static_cast<size_t>(layer)].n_experts; }
  int64_t block_bytes(int32_t layer) const { return layers_[static_cast<size_t>(layer)].block_bytes; }  // in memory
  BlockId Block(int32_t layer, int32_t expert) const {
    return BlockId(layers_[static_cast<size_t>(layer)].first_block + static_cast<uint32_t>(expert));
  }
  int32_t ExpertOf(BlockId block) const { return static_cast<int32_t>(block.value() - LayerOf(block).first_block); }

  size_t max_piece_bytes() const override { return max_piece_bytes_; }
  int n_pieces(BlockId block) const override { return LayerOf(block).n_pieces; }
  BlockPiece Piece(BlockId block, int piece) const override;
  void Place(BlockId block, int piece, const uint8_t* bytes, uint8_t* memory) const override;

 private:
  struct Part {  // gate, up or down of all experts of a layer
    const MatMulKernel* kernel;
    int32_t file;
    uint64_t offset;  // of expert 0
    int64_t rows, cols;
    int64_t row_bytes;
    int64_t rows_per_piece;  // whole tiles
    int32_t n_pieces;
    int64_t to;  // where it begins in the block's memory
  };
  struct Layer {
    int32_t n_experts;
    uint32_t first_block;
    int64_t block_bytes;
    int32_t n_pieces;
    Part parts[3];
  };
  struct Rows {  // of a piece
    const Part* part;
    int64_t first;
    int64_t n;
  };

  const Layer& LayerOf(BlockId block) const { return layers_[layer_of_block_[block.value()]]; }
  Rows RowsOf(const Layer& layer, int piece) const;

  std::vector<Layer> layers_;
  std::vector<uint16_t> layer_of_block_;
  int64_t n_blocks_ = 0;
  size_t max_piece_bytes_ = 0;
};

}  // namespace pantry
