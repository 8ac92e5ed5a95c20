// SPDX-License-Identifier: Apache-2.0
// A WeightPlacer says where the weights lie that stay in a model's file, and packs their rows into the kernels' layout as they come.
//
// Blocks are numbered in the order in which a token wants them: by layer, then by matrix and row, or by expert. An expert is a block of three
// slices of three tensors. A matrix of a dense layer is cut into blocks of whole tiles, all about as large, so that a cache has one size of
// slots. A block is read in pieces of whole tiles; of a pack (weights/gguf/pack_table.h), where blocks lie as they are wanted, in pieces that
// have a checksum each.
// Threads: immutable after the last Add.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/block_id.h"
#include "base/units.h"
#include "compute/neuron_layout.h"
#include "models/weight_source.h"
#include "residency/stream/block_placer.h"
#include "weights/gguf/gguf_file.h"
#include "weights/gguf/pack_table.h"

namespace pantry {

// A matrix of which a run wants single rows, so that it stays in the file as it lies there: an embedding.
struct RowsInFile {
  std::string tensor;
  TensorType type = TensorType::kF32;
  int32_t file = 0;
  uint64_t offset = 0;  // of the first row; the others follow
  int64_t cols = 0;
  int64_t row_bytes = 0;
  int64_t resident_bytes = 0;  // of the whole matrix where it is loaded, packed
};

class WeightPlacer final : public BlockPlacer {
 public:
  // Of a dense matrix, at most, where a tile is smaller: a disk streams such reads, and what the slots waste stays small.
  static constexpr int64_t kMatrixBlockBytes = 2 * kMiB;
  explicit WeightPlacer(int64_t matrix_block_bytes = kMatrixBlockBytes) : matrix_block_bytes_(matrix_block_bytes) {}
  // Of a model whose neurons lie one by one where they can: then matrices of layers do not.
  static WeightPlacer ByNeuron() {
    WeightPlacer placer;
    placer.by_neuron_ = true;
    return placer;
  }

  // As the blocks of `file` lie, if it is a pack.
  static WeightPlacer For(const GgufFile& file) {
    return file.pack() != nullptr && file.pack()->has_neurons() ? ByNeuron() : WeightPlacer();
  }

  // Blocks that are made alike: a layer's experts, a matrix.
  struct Group {
    std::vector<std::string> tensors;  // gate, up and down; or one
    uint32_t first_block = 0;
    uint32_t n_blocks = 0;
    int64_t block_bytes = 0;   // packed
    int64_t cached_bytes = 0;  // its front that is read as a whole: all of it, or what lies before an expert's neurons
    int64_t neurons_at = 0;    // where those begin (compute/neuron_layout.h), with what they share
    PackOrder order = PackOrder::kTiles;
    int32_t layer = 0;  // index of a layer that has blocks
  };

  // The experts of layer `layer` of the model: stacked tensors, dims [cols, rows, n_experts].
  void AddExperts(int32_t layer, int32_t n_experts, const ExpertLayout& layout, const TensorInfo& gate,
                  const TensorInfo& up, const TensorInfo& down);
  // The same where each neuron is read by itself: gate, then the neurons. REQUIRES: by_neuron().
  void AddExpertNeurons(int32_t layer, int32_t n_experts, const WeightMatrix& gate_shape, const NeuronLayout& layout,
                        const TensorInfo& gate, const TensorInfo& up, const TensorInfo& down);
  // Where an expert's neurons begin in its block.
  static int64_t NeuronsAt(const WeightMatrix& gate_shape);
  // A matrix of that layer; sets the blocks of `matrix`. REQUIRES: layers ascend; no layer has experts and matrices.
  void AddMatrix(int32_t layer, const TensorInfo& tensor, WeightMatrix* matrix);
  // The neurons of that layer, a block. REQUIRES: by_neuron().
  void AddNeurons(int32_t layer, const NeuronLayout& layout, const TensorInfo& up, const TensorInfo& down);
  // A matrix whose rows are not in blocks.
  void AddRows(const TensorInfo& tensor, int64_t resident_bytes);
  // All blocks that were added lie in `pack`, which must outlive the placer, and is read from there. kUnsupported: its blocks are other ones.
  Status ReadFrom(const PackTable& pack);

  const std::vector<Group>& groups() const { return groups_; }
  const std::optional<RowsInFile>& rows_in_file() const { return rows_in_file_; }  // none: all rows are in memory
  // Layers that have blocks are numbered from 0, without the others.
  int32_t n_layers() const { return static_cast<int32_t>(layers_.size()); }
  int32_t first_layer() const { return layers_.empty() ? 0 : layers_.front().number; }  // in the model
  int32_t NumberOf(int32_t layer) const { return layers_[static_cast<size_t>(layer)].number; }
  int32_t LayerAt(int32_t number) const { return index_of_layer_[static_cast<size_t>(number)]; }
  bool has_experts() const { return has_experts_; }  // else: matrices, or neurons
  bool by_neuron() const { return by_neuron_; }
  // Of the first layer that has some, of each of its networks: one, or as many as experts, a block each; null: none has. All have as many
  // neurons and bundles as large, in whatever formats.
  const NeuronLayout* neurons() const { return neurons_.empty() ? nullptr : neurons_.data(); }
  int64_t kept_neuron_bytes() const { return kept_neuron_bytes_; }  // of any layer's bundle, the most that kernels read
  const NeuronLayout& NeuronsOf(int32_t layer) const { return neurons_[static_cast<size_t>(layer)]; }
  int32_t n_networks() const { return has_experts_ ? n_blocks(0) : 1; }  // of a layer. REQUIRES: neurons() != nullptr
  // Where a network's bundles begin in the pack.
  uint64_t BundlesOffset(BlockId network) const;
  // Whether a bundle read from a pack is what was packed, and the error that says it is not.
  bool BundleIsIntact(BlockId network, int32_t neuron, std::span<const uint8_t> bundle) const;
  Status DamagedBundle(BlockId network, int32_t neuron) const;
  int32_t n_blocks(int32_t layer) const { return layers_[static_cast<size_t>(layer)].n_blocks; }
  BlockId Block(int32_t layer, int32_t i) const {
    return BlockId(layers_[static_cast<size_t>(layer)].first_block + static_cast<uint32_t>(i));
  }
  int64_t n_blocks() const { return static_cast<int64_t>(group_of_block_.size()); }
  int32_t LayerOf(BlockId block) const { return GroupOf(block).layer; }
  int32_t IndexInLayer(BlockId block) const {
    return static_cast<int32_t>(block.value() - layers_[static_cast<size_t>(LayerOf(block))].first_block);
  }
  // In memory; all blocks of matrices count as the largest, and neurons that are read alone are none of a block's.
  int64_t block_bytes(BlockId block) const { return has_experts_ ? GroupOf(block).cached_bytes : largest_block_bytes_; }

  size_t max_piece_bytes() const override { return max_piece_bytes_; }
  int n_pieces(BlockId block) const override;
  BlockPiece Piece(BlockId block, int piece) const override;
  Status Place(BlockId block, int piece, const uint8_t* bytes, uint8_t* memory) const override;
  void Seal(BlockId block, uint8_t* memory) const override;

 private:
  struct Part {  // a tensor's share in each block of a group
    const MatMulKernel* kernel;
    int32_t file;
    uint64_t offset;  // of the group's first block
    int64_t rows;     // of a block
    int64_t cols;
    int64_t all_rows;  // of the tensor
    int64_t row_bytes;
    int64_t rows_per_piece;  // whole tiles
    int64_t to;              // where it begins in the block's memory
  };
  struct Parts {
    int32_t n;
    Part parts[3];
  };
  struct Layer {
    int32_t number;  // in the model
    uint32_t first_block;
    int32_t n_blocks;
  };
  struct Rows {  // of a piece
    const Part* part;
    int64_t first;  // of the block
    int64_t n;
  };

  const Group& GroupOf(BlockId block) const { return groups_[group_of_block_[block.value()]]; }
  const Parts& PartsOf(BlockId block) const { return parts_[group_of_block_[block.value()]]; }
  static int64_t RowsOfBlock(const Part& part, int64_t block_in_group);
  Rows RowsOf(BlockId block, int piece) const;
  uint64_t NumberOf(BlockId block, int64_t neuron) const;  // over all layers
  Part MakePart(const TensorInfo& tensor, const WeightMatrix& matrix, int64_t rows_of_block, int64_t to,
                int64_t piece_bytes);
  void AddGroup(int32_t layer, Group group, const Parts& parts);
  void AddNeuronLayout(const NeuronLayout& layout);

  int64_t matrix_block_bytes_;
  bool has_experts_ = false;
  bool by_neuron_ = false;
  std::vector<NeuronLayout> neurons_;  // by layer
  int64_t kept_neuron_bytes_ = 0;
  std::optional<RowsInFile> rows_in_file_;
  std::vector<Layer> layers_;
  std::vector<int32_t> index_of_layer_;  // by number in the model; -1: it has no blocks
  std::vector<Group> groups_;
  std::vector<Parts> parts_;  // by group
  const PackTable* pack_ = nullptr;
  std::vector<uint32_t> group_of_block_;
  int64_t largest_block_bytes_ = 0;
  size_t max_piece_bytes_ = 0;
};

}  // namespace pantry
