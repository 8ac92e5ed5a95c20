// SPDX-License-Identifier: Apache-2.0
#include "models/weight_placer.h"

#include <algorithm>

#include "weights/quant/tensor_type.h"

namespace pantry {
namespace {

// Large enough that a disk streams, small enough that several threads share a block's placing and find a piece in their L2 caches. The pieces
// of an expert are wanted at once, and a token waits for them; matrices are read ahead of their use, at the rate of the disk: 2.24 GB/s in
// pieces of 1 MiB, 2.04 of 512 KiB, where it gives 2.45.
constexpr int64_t kExpertPieceBytes = 512 * kKiB;
constexpr int64_t kMatrixPieceBytes = 1 * kMiB;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

WeightPlacer::Part WeightPlacer::MakePart(const TensorInfo& tensor, const WeightMatrix& matrix, int64_t rows_of_block,
                                          int64_t to, int64_t piece_bytes) {
  Part part;
  part.kernel = matrix.kernel;
  part.file = static_cast<int32_t>(tensor.shard);
  part.offset = tensor.offset;
  part.rows = rows_of_block;
  part.cols = matrix.cols;
  part.all_rows = tensor.n_rows();
  part.row_bytes = RowBytes(tensor.type, matrix.cols);
  const int64_t tile_bytes = matrix.kernel->row_tile * part.row_bytes;
  part.rows_per_piece = std::max<int64_t>(1, piece_bytes / tile_bytes) * matrix.kernel->row_tile;
  part.to = to;
  max_piece_bytes_ =
      std::max(max_piece_bytes_, static_cast<size_t>(std::min(part.rows_per_piece, part.rows) * part.row_bytes));
  return part;
}

void WeightPlacer::AddGroup(int32_t layer, int64_t n_blocks, Group group) {
  const auto number = static_cast<size_t>(layer);
  if (number >= index_of_layer_.size()) index_of_layer_.resize(number + 1, -1);
  group.first_block = static_cast<uint32_t>(group_of_block_.size());
  if (index_of_layer_[number] < 0) {
    PANTRY_CHECK(layers_.empty() || layers_.back().number < layer);
    index_of_layer_[number] = static_cast<int32_t>(layers_.size());
    layers_.push_back({layer, group.first_block, 0});
  }
  group.layer = index_of_layer_[number];
  PANTRY_CHECK(group.layer + 1 == n_layers());
  layers_.back().n_blocks += static_cast<int32_t>(n_blocks);
  largest_block_bytes_ = std::max(largest_block_bytes_, group.block_bytes);
  group_of_block_.insert(group_of_block_.end(), static_cast<size_t>(n_blocks), static_cast<uint32_t>(groups_.size()));
  groups_.push_back(group);
}

void WeightPlacer::AddExperts(int32_t layer, int32_t n_experts, const ExpertLayout& layout, const TensorInfo& gate,
                              const TensorInfo& up, const TensorInfo& down) {
  const ExpertBlock& shape = layout.shape;
  Group group = {};
  group.block_bytes = layout.n_bytes;
  group.n_parts = 3;
  group.parts[0] = MakePart(gate, shape.gate, shape.gate.rows, 0, kExpertPieceBytes);
  group.parts[1] = MakePart(up, shape.up, shape.up.rows, layout.up_offset, kExpertPieceBytes);
  group.parts[2] = MakePart(down, shape.down, shape.down.rows, layout.down_offset, kExpertPieceBytes);
  has_experts_ = true;
  AddGroup(layer, n_experts, group);
}

void WeightPlacer::AddMatrix(int32_t layer, const TensorInfo& tensor, WeightMatrix* matrix) {
  PANTRY_CHECK(!has_experts_);
  const MatMulKernel& kernel = *matrix->kernel;
  const int64_t tile_bytes = kernel.packed_tile_bytes(matrix->cols);
  const int64_t n_tiles = CeilDiv(matrix->rows, kernel.row_tile);
  const int64_t most_tiles = std::max<int64_t>(1, matrix_block_bytes_ / tile_bytes);
  const int64_t tiles = CeilDiv(n_tiles, CeilDiv(n_tiles, most_tiles));  // all blocks about as large
  Group group = {};
  group.block_bytes = tiles * tile_bytes;
  group.n_parts = 1;
  group.parts[0] = MakePart(tensor, *matrix, tiles * kernel.row_tile, 0, kMatrixPieceBytes);
  matrix->first_block = BlockId(static_cast<uint32_t>(n_blocks()));
  matrix->rows_per_block = tiles * kernel.row_tile;
  AddGroup(layer, CeilDiv(n_tiles, tiles), group);
}

int64_t WeightPlacer::RowsOfBlock(const Part& part, int64_t block_in_group) {
  return std::min(part.rows, part.all_rows - block_in_group * part.rows);
}

int WeightPlacer::n_pieces(BlockId block) const {
  const Group& group = GroupOf(block);
  int64_t n = 0;
  for (int i = 0; i < group.n_parts; ++i) {
    const Part& part = group.parts[i];
    n += CeilDiv(RowsOfBlock(part, block.value() - group.first_block), part.rows_per_piece);
  }
  return static_cast<int>(n);
}

WeightPlacer::Rows WeightPlacer::RowsOf(BlockId block, int piece) const {
  const Group& group = GroupOf(block);
  const Part* part = group.parts;
  int64_t rows = RowsOfBlock(*part, block.value() - group.first_block), i = piece;
  while (i >= CeilDiv(rows, part->rows_per_piece)) {
    i -= CeilDiv(rows, part->rows_per_piece);
    ++part;
    rows = RowsOfBlock(*part, block.value() - group.first_block);
  }
  const int64_t first = i * part->rows_per_piece;
  return {part, first, std::min(part->rows_per_piece, rows - first)};
}

BlockPiece WeightPlacer::Piece(BlockId block, int piece) const {
  const Rows rows = RowsOf(block, piece);
  const Part& part = *rows.part;
  const int64_t row = int64_t{block.value() - GroupOf(block).first_block} * part.rows + rows.first;
  return {part.file, part.offset + static_cast<uint64_t>(row * part.row_bytes),
          static_cast<size_t>(rows.n * part.row_bytes)};
}

void WeightPlacer::Place(BlockId block, int piece, const uint8_t* bytes, uint8_t* memory) const {
  const Rows rows = RowsOf(block, piece);
  const Part& part = *rows.part;
  const MatMulKernel& kernel = *part.kernel;
  PackRows(kernel, bytes, part.row_bytes, rows.n, part.cols,
           memory + part.to + rows.first / kernel.row_tile * kernel.packed_tile_bytes(part.cols));
}

}  // namespace pantry
