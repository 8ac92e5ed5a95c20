// SPDX-License-Identifier: Apache-2.0
#include "models/weight_placer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "weights/quant/tensor_type.h"

namespace pantry {
namespace {

// Large enough that a disk streams, small enough that several threads share a block's placing and find a piece in their L2 caches. The pieces
// of an expert are wanted at once, and a token waits for them; matrices are read ahead of their use, at the rate of the disk: 2.24 GB/s in
// pieces of 1 MiB, 2.04 of 512 KiB, where it gives 2.45.
constexpr int64_t kExpertPieceBytes = 512 * kKiB;
constexpr int64_t kMatrixPieceBytes = 1 * kMiB;
constexpr int64_t kNeuronsAlignment = 4096;  // in a block

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

void WeightPlacer::AddGroup(int32_t layer, Group group, const Parts& parts) {
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
  if (group.cached_bytes == 0) group.cached_bytes = group.block_bytes;
  layers_.back().n_blocks += static_cast<int32_t>(group.n_blocks);
  largest_block_bytes_ = std::max(largest_block_bytes_, group.block_bytes);
  group_of_block_.insert(group_of_block_.end(), group.n_blocks, static_cast<uint32_t>(groups_.size()));
  groups_.push_back(std::move(group));
  parts_.push_back(parts);
}

void WeightPlacer::AddExperts(int32_t layer, int32_t n_experts, const ExpertLayout& layout, const TensorInfo& gate,
                              const TensorInfo& up, const TensorInfo& down) {
  const ExpertBlock& shape = layout.shape;
  Group group = {.tensors = {gate.name, up.name, down.name},
                 .n_blocks = static_cast<uint32_t>(n_experts),
                 .block_bytes = layout.n_bytes,
                 .order = layout.is_by_neuron() ? PackOrder::kRowsAndColumns : PackOrder::kTiles};
  Parts parts = {.n = 3, .parts = {}};
  parts.parts[0] = MakePart(gate, shape.gate, shape.gate.rows, 0, kExpertPieceBytes);
  parts.parts[1] = MakePart(up, shape.up, shape.up.rows, layout.up_offset, kExpertPieceBytes);
  parts.parts[2] = MakePart(down, shape.down, shape.down.rows, layout.down_offset, kExpertPieceBytes);
  has_experts_ = true;
  AddGroup(layer, std::move(group), parts);
}

void WeightPlacer::AddMatrix(int32_t layer, const TensorInfo& tensor, WeightMatrix* matrix) {
  PANTRY_CHECK(!has_experts_);
  const MatMulKernel& kernel = *matrix->kernel;
  const int64_t tile_bytes = kernel.packed_tile_bytes(matrix->cols);
  const int64_t n_tiles = matrix->n_tiles();
  const int64_t most_tiles = std::max<int64_t>(1, matrix_block_bytes_ / tile_bytes);
  const int64_t tiles = CeilDiv(n_tiles, CeilDiv(n_tiles, most_tiles));  // all blocks about as large
  Group group = {.tensors = {tensor.name},
                 .n_blocks = static_cast<uint32_t>(CeilDiv(n_tiles, tiles)),
                 .block_bytes = tiles * tile_bytes};
  Parts parts = {.n = 1, .parts = {}};
  parts.parts[0] = MakePart(tensor, *matrix, tiles * kernel.row_tile, 0, kMatrixPieceBytes);
  matrix->first_block = BlockId(static_cast<uint32_t>(n_blocks()));
  matrix->rows_per_block = tiles * kernel.row_tile;
  AddGroup(layer, std::move(group), parts);
}

void WeightPlacer::AddNeuronLayout(const NeuronLayout& layout) {
  PANTRY_CHECK(by_neuron_ && neurons_.size() == layers_.size());
  PANTRY_CHECK(neurons_.empty() ||
               (layout.bundle_bytes == neurons_[0].bundle_bytes && layout.n_neurons() == neurons_[0].n_neurons()));
  neurons_.push_back(layout);
  kept_neuron_bytes_ = std::max(kept_neuron_bytes_, layout.kept_bytes);
}

int64_t WeightPlacer::NeuronsAt(const WeightMatrix& gate_shape) {
  return AlignUp(WeightMatrix::PackedBytes(*gate_shape.kernel, gate_shape.rows, gate_shape.cols), kNeuronsAlignment);
}

void WeightPlacer::AddExpertNeurons(int32_t layer, int32_t n_experts, const WeightMatrix& gate_shape,
                                    const NeuronLayout& layout, const TensorInfo& gate, const TensorInfo& up,
                                    const TensorInfo& down) {
  PANTRY_CHECK(neurons_.empty() || has_experts_);
  AddNeuronLayout(layout);
  const int64_t at = NeuronsAt(gate_shape);
  Group group = {.tensors = {gate.name, up.name, down.name},
                 .n_blocks = static_cast<uint32_t>(n_experts),
                 .block_bytes = at + layout.n_bytes(),
                 .cached_bytes = at + layout.scales_bytes,
                 .neurons_at = at,
                 .order = PackOrder::kGateAndNeurons};
  Parts parts = {.n = 3, .parts = {}};
  parts.parts[0] = MakePart(gate, gate_shape, gate_shape.rows, 0, kExpertPieceBytes);
  parts.parts[1] = MakePart(up, layout.up, layout.up.rows, 0, kMatrixPieceBytes);
  parts.parts[2] = MakePart(down, layout.down, layout.down.rows, 0, kMatrixPieceBytes);
  has_experts_ = true;
  AddGroup(layer, std::move(group), parts);
}

void WeightPlacer::AddNeurons(int32_t layer, const NeuronLayout& layout, const TensorInfo& up, const TensorInfo& down) {
  PANTRY_CHECK(!has_experts_);
  AddNeuronLayout(layout);
  Group group = {
      .tensors = {up.name, down.name}, .n_blocks = 1, .block_bytes = layout.n_bytes(), .order = PackOrder::kNeurons};
  Parts parts = {.n = 2, .parts = {}};
  parts.parts[0] = MakePart(up, layout.up, layout.up.rows, 0, kMatrixPieceBytes);
  parts.parts[1] = MakePart(down, layout.down, layout.down.rows, 0, kMatrixPieceBytes);
  AddGroup(layer, std::move(group), parts);
}

void WeightPlacer::Seal(BlockId block, uint8_t* memory) const {
  if (neurons_.empty()) return;
  const NeuronLayout& layout = NeuronsOf(LayerOf(block));
  const auto n = static_cast<size_t>(layout.bundle_bytes - NeuronLayout::kCheckBytes);
  for (int64_t neuron = 0; neuron < layout.n_neurons(); ++neuron) {
    uint8_t* const bundle = memory + GroupOf(block).neurons_at + layout.bundle_offset(neuron);
    const uint64_t check = PackChecksum({bundle, n}) + NumberOf(block, neuron);
    std::memcpy(bundle + n, &check, sizeof(check));
  }
}

uint64_t WeightPlacer::NumberOf(BlockId block, int64_t neuron) const {
  return uint64_t{block.value()} * static_cast<uint64_t>(neurons_[0].n_neurons()) + static_cast<uint64_t>(neuron);
}

uint64_t WeightPlacer::BundlesOffset(BlockId network) const {
  return pack_->BlockOffset(network) +
         static_cast<uint64_t>(GroupOf(network).neurons_at + NeuronsOf(LayerOf(network)).bundle_offset(0));
}

bool WeightPlacer::BundleIsIntact(BlockId network, int32_t neuron, std::span<const uint8_t> bundle) const {
  const size_t n = bundle.size() - NeuronLayout::kCheckBytes;
  uint64_t check;
  std::memcpy(&check, bundle.data() + n, sizeof(check));
  return PackChecksum(bundle.first(n)) + NumberOf(network, neuron) == check;
}

Status WeightPlacer::DamagedBundle(BlockId network, int32_t neuron) const {
  const int32_t layer = LayerOf(network);
  const int64_t at = GroupOf(network).neurons_at + NeuronsOf(layer).bundle_offset(neuron);
  const std::string of_expert = has_experts_ ? fmt::format("expert {} of ", IndexInLayer(network)) : "";
  return pack_->Damaged(network, static_cast<int>(at / pack_->piece_bytes()))
      .WithContext(fmt::format("neuron {} of {}layer {}", neuron, of_expert, NumberOf(layer)));
}

void WeightPlacer::AddRows(const TensorInfo& tensor, int64_t resident_bytes) {
  rows_in_file_ = {.tensor = tensor.name,
                   .type = tensor.type,
                   .file = tensor.shard,
                   .offset = tensor.offset,
                   .cols = tensor.row_elements(),
                   .row_bytes = RowBytes(tensor.type, tensor.row_elements()),
                   .resident_bytes = resident_bytes};
}

int64_t WeightPlacer::RowsOfBlock(const Part& part, int64_t block_in_group) {
  return std::min(part.rows, part.all_rows - block_in_group * part.rows);
}

Status WeightPlacer::ReadFrom(const PackTable& pack) {
  bool is_same = pack.groups().size() == groups_.size() && (neurons_.empty() || neurons_.size() == layers_.size());
  for (size_t i = 0; is_same && i < groups_.size(); ++i) {
    const Group& mine = groups_[i];
    const PackGroup& theirs = pack.groups()[i];
    is_same = mine.order == theirs.order && mine.tensors == theirs.tensors && mine.first_block == theirs.first_block &&
              mine.n_blocks == theirs.n_blocks && static_cast<uint64_t>(mine.block_bytes) == theirs.block_bytes;
  }
  if (!is_same) {
    return UnsupportedError(
        "it was packed in other blocks than this version of Pantry reads; pack the GGUF file again");
  }
  pack_ = &pack;
  max_piece_bytes_ = static_cast<size_t>(std::min<int64_t>(pack.piece_bytes(), largest_block_bytes_));
  return OkStatus();
}

int WeightPlacer::n_pieces(BlockId block) const {
  if (pack_ != nullptr) return static_cast<int>(CeilDiv(GroupOf(block).cached_bytes, pack_->piece_bytes()));
  const Parts& parts = PartsOf(block);
  const uint32_t in_group = block.value() - GroupOf(block).first_block;
  int64_t n = 0;
  for (int i = 0; i < parts.n; ++i) {
    n += CeilDiv(RowsOfBlock(parts.parts[i], in_group), parts.parts[i].rows_per_piece);
  }
  return static_cast<int>(n);
}

WeightPlacer::Rows WeightPlacer::RowsOf(BlockId block, int piece) const {
  const uint32_t in_group = block.value() - GroupOf(block).first_block;
  const Part* part = PartsOf(block).parts;
  int64_t rows = RowsOfBlock(*part, in_group), i = piece;
  while (i >= CeilDiv(rows, part->rows_per_piece)) {
    i -= CeilDiv(rows, part->rows_per_piece);
    ++part;
    rows = RowsOfBlock(*part, in_group);
  }
  const int64_t first = i * part->rows_per_piece;
  return {part, first, std::min(part->rows_per_piece, rows - first)};
}

BlockPiece WeightPlacer::Piece(BlockId block, int piece) const {
  if (pack_ != nullptr) return {0, pack_->PieceOffset(block, piece), pack_->PieceBytes(block, piece)};
  const Rows rows = RowsOf(block, piece);
  const Part& part = *rows.part;
  const int64_t row = int64_t{block.value() - GroupOf(block).first_block} * part.rows + rows.first;
  return {part.file, part.offset + static_cast<uint64_t>(row * part.row_bytes),
          static_cast<size_t>(rows.n * part.row_bytes)};
}

Status WeightPlacer::Place(BlockId block, int piece, const uint8_t* bytes, uint8_t* memory) const {
  if (pack_ != nullptr) {
    const size_t n_bytes = pack_->PieceBytes(block, piece);
    if (!pack_->PieceIsIntact(block, piece, {bytes, n_bytes})) return pack_->Damaged(block, piece);
    const int64_t at = int64_t{piece} * pack_->piece_bytes(), left = GroupOf(block).cached_bytes - at;
    std::memcpy(memory + at, bytes, std::min(n_bytes, static_cast<size_t>(left)));
    return OkStatus();
  }
  const Rows rows = RowsOf(block, piece);
  const Part& part = *rows.part;
  const Parts& parts = PartsOf(block);
  const int64_t part_behind = parts.parts + parts.n - &part;  // 1: down, 2: up, 3: an expert's gate
  if (!neurons_.empty() && part_behind <= 2) {
    const NeuronLayout& layout = NeuronsOf(LayerOf(block));
    uint8_t* const neurons = memory + GroupOf(block).neurons_at;
    if (part_behind == 2) layout.PlaceUp(bytes, rows.first, rows.n, neurons);
    else layout.PlaceDown(bytes, rows.first, rows.n, neurons);
    return OkStatus();
  }
  const MatMulKernel& kernel = *part.kernel;
  PackRows(kernel, bytes, part.row_bytes, rows.n, part.cols,
           memory + part.to + rows.first / kernel.row_tile * kernel.packed_tile_bytes(part.cols));
  return OkStatus();
}

}  // namespace pantry
