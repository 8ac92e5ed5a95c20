// SPDX-License-Identifier: Apache-2.0
#include "models/expert_placer.h"

#include <algorithm>

#include "base/units.h"
#include "weights/quant/tensor_type.h"

namespace pantry {
namespace {

// Large enough that a disk streams, small enough that several threads share a block's placing and find a piece in their L2 caches.
constexpr int64_t kPieceBytes = 512 * kKiB;

}  // namespace

void ExpertPlacer::AddLayer(int32_t n_experts, const ExpertLayout& layout, const TensorInfo& gate, const TensorInfo& up,
                            const TensorInfo& down) {
  const struct {
    const TensorInfo& tensor;
    const WeightMatrix& matrix;
    int64_t to;
  } sources[3] = {{gate, layout.shape.gate, 0},
                  {up, layout.shape.up, layout.up_offset},
                  {down, layout.shape.down, layout.down_offset}};
  Layer layer = {.n_experts = n_experts,
                 .first_block = static_cast<uint32_t>(n_blocks_),
                 .block_bytes = layout.n_bytes,
                 .n_pieces = 0,
                 .parts = {}};
  for (int i = 0; i < 3; ++i) {
    const auto& [tensor, matrix, to] = sources[i];
    Part& part = layer.parts[i];
    part.kernel = matrix.kernel;
    part.file = static_cast<int32_t>(tensor.shard);
    part.offset = tensor.offset;
    part.rows = matrix.rows;
    part.cols = matrix.cols;
    part.row_bytes = RowBytes(tensor.type, matrix.cols);
    const int64_t tile_bytes = matrix.kernel->row_tile * part.row_bytes;
    part.rows_per_piece = std::max<int64_t>(1, kPieceBytes / tile_bytes) * matrix.kernel->row_tile;
    part.n_pieces = static_cast<int32_t>((part.rows + part.rows_per_piece - 1) / part.rows_per_piece);
    part.to = to;
    layer.n_pieces += part.n_pieces;
    max_piece_bytes_ =
        std::max(max_piece_bytes_, static_cast<size_t>(std::min(part.rows_per_piece, part.rows) * part.row_bytes));
  }
  layer_of_block_.insert(layer_of_block_.end(), static_cast<size_t>(n_experts), static_cast<uint16_t>(layers_.size()));
  layers_.push_back(layer);
  n_blocks_ += n_experts;
}

ExpertPlacer::Rows ExpertPlacer::RowsOf(const Layer& layer, int piece) const {
  const Part* part = layer.parts;
  for (; piece >= part->n_pieces; ++part) piece -= part->n_pieces;
  const int64_t first = piece * part->rows_per_piece;
  return {part, first, std::min(part->rows_per_piece, part->rows - first)};
}

BlockPiece ExpertPlacer::Piece(BlockId block, int piece) const {
  const Rows rows = RowsOf(LayerOf(block), piece);
  const Part& part = *rows.part;
  const int64_t row = ExpertOf(block) * part.rows + rows.first;
  return {part.file, part.offset + static_cast<uint64_t>(row * part.row_bytes),
          static_cast<size_t>(rows.n * part.row_bytes)};
}

void ExpertPlacer::Place(BlockId block, int piece, const uint8_t* bytes, uint8_t* memory) const {
  const Rows rows = RowsOf(LayerOf(block), piece);
  const Part& part = *rows.part;
  const MatMulKernel& kernel = *part.kernel;
  PackRows(kernel, bytes, part.row_bytes, rows.n, part.cols,
           memory + part.to + rows.first / kernel.row_tile * kernel.packed_tile_bytes(part.cols));
}

}  // namespace pantry
