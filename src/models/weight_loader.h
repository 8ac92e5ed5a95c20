// SPDX-License-Identifier: Apache-2.0
// A WeightLoader is first the list of tensors that a model wants, then the one pass over the file that fetches them all.
//
// A model names its tensors with Matrix() and Vector(); each is checked against the file's table at once, so n_bytes() is exact before a
// byte of tensor data is read. Load() allocates one block of memory for everything and walks the file in file order, in chunks of rows:
// whoever has read a chunk packs it into the kernels' layout (io/read_extents.h). Memory: n_bytes() and some chunks.
// It does not know what a tensor is for.
// Threads: thread-compatible; Load() starts and ends threads of its own, most of which wait for the disk.
// Invariants: (1) the first error stays, later calls do nothing, n_bytes() is meaningless then. (2) no pointer is set before Load().
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/logger.h"
#include "base/status.h"
#include "compute/matmul.h"
#include "io/read_extents.h"
#include "models/model.h"
#include "models/weight_placer.h"
#include "models/weight_source.h"
#include "sys/aligned_buffer.h"
#include "sys/isa.h"
#include "sys/thread_pool.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {

// Matrices of one size, one after another.
struct WeightStack {
  WeightMatrix first;
  int64_t stride = 0;  // bytes

  WeightMatrix At(int64_t i) const {
    return {.kernel = first.kernel, .rows = first.rows, .cols = first.cols, .tiles = first.tiles + i * stride};
  }
};

// A layer's neurons, each by itself, in memory or in a file.
struct NeuronLayer {
  NeuronLayout layout;              // none: they do not lie so
  const uint8_t* scales = nullptr;  // of down, in memory
  bool in_memory = false;           // and the bundles behind them
};

class WeightLoader {
 public:
  enum class Left : uint8_t { kExperts, kLayers };
  // `file` must outlive the loader. `in_file`, if given, is told where the weights lie that are left there: experts, or the matrices of all
  // layers, and Rows(). Without `may_lie_by_neuron` everything lies in tiles.
  WeightLoader(const GgufFile& file, Isa isa, WeightPlacer* in_file = nullptr, Left left = Left::kExperts,
               bool may_lie_by_neuron = true)
      : file_(file), isa_(isa), in_file_(in_file), left_(left), may_lie_by_neuron_(may_lie_by_neuron) {}

  // Wants tensor `name` as a matrix of `rows` outputs and `cols` inputs, of any weight format. Kernel and dims of `out` are set here, its
  // tiles by Load(); it must stay where it is until then. Errors: kCorruption (absent, other dims), kUnsupported (no kernel for its type).
  // REQUIRES for any order but tiles: CanLie().
  void Matrix(const std::string& name, int64_t rows, int64_t cols, WeightMatrix* out,
              WeightOrder order = WeightOrder::kTiles);
  // As Matrix(), of a matrix of which a run wants single rows: it stays in the file where weights are left there, and `out` gets no tiles.
  void Rows(const std::string& name, int64_t rows, int64_t cols, WeightMatrix* out);
  // Whether tensor `name` can lie in an order of our choice: there is a kernel for it, it needs no padding, it is not packed, and no matrix
  // that is left in the file, of which blocks hold tiles.
  bool CanLie(const std::string& name, WeightOrder order) const;
  // Whether a feed-forward network can lie by neuron: up in rows, down in columns, and gate in a format that reads the same activations.
  bool CanLieByNeuron(const std::string& gate, const std::string& up, const std::string& down) const;
  // SiLU networks, too, have neurons that rest (ForwardRun::firing), so they are to lie by neuron.
  void RestByThreshold() { rests_by_threshold_ = true; }
  bool rests_by_threshold() const { return rests_by_threshold_; }
  // Runs predict which gates are positive (ForwardRun::prediction), so gates of what lies by neuron lie in rows, too.
  void PredictGates() { gate_order_ = WeightOrder::kRows; }
  WeightOrder gate_order(bool by_neuron) const { return by_neuron ? gate_order_ : WeightOrder::kTiles; }
  int32_t n_by_neuron() const { return n_by_neuron_; }  // dense networks in memory that lie so
  // Whether neurons that can lie one by one are left in the file, and nothing else of the layers.
  bool leaves_neurons() const { return in_file_ != nullptr && in_file_->by_neuron(); }
  // Wants up [n_ff, n_embd] and down of a feed-forward network as neurons, beside their gate. `out` must stay where it is until Load().
  // Where leaves_neurons() they stay in the file; kUnsupported: they cannot lie so. REQUIRES else: CanLieByNeuron().
  void Neurons(const std::string& up, const std::string& down, int64_t n_ff, int64_t n_embd, const WeightMatrix& gate,
               NeuronLayer* out);
  // Wants tensor `name` as n such matrices.
  void Stack(const std::string& name, int64_t n, int64_t rows, int64_t cols, WeightStack* out);
  // Wants tensor `name` as n F32 numbers, whatever its format. `out` as above.
  void Vector(const std::string& name, int64_t n, const float** out);
  // Wants the tensors `block`ffn_{gate,up,down}_exps.weight, each of n_experts matrices, as blocks of one expert each, one after another;
  // and `.bias` of them where the file has it.
  // Errors: as Matrix(), and kUnsupported for experts that lie in the file in another way.
  // `by_neuron`: up in rows and down in columns where they can lie so, or one by one where leaves_neurons().
  void Experts(const std::string& block, int64_t n_experts, int64_t n_embd, int64_t n_ff, ExpertLayer* out,
               bool by_neuron = false);
  // As Matrix() and Vector() where the file has the tensor; else `out` stays empty.
  void OptionalMatrix(const std::string& name, int64_t rows, int64_t cols, WeightMatrix* out);
  void OptionalVector(const std::string& name, int64_t n, const float** out);

  // "blk.12.attn_q.weight", "blk.12.": 12; -1 for tensors of no layer.
  static int32_t LayerOf(std::string_view name);
  const GgufFile& file() const { return file_; }
  const Status& status() const { return status_; }          // the first error so far
  const WeightPlacer* in_file() const { return in_file_; }  // null: nothing is left there
  // Everything was asked for: the first error, also kUnsupported of a pack that was made differently.
  Status EndBinding();
  int64_t n_bytes() const { return n_bytes_; }  // in memory, packed; without what is left in the file
  // Calls visit(tensor's name, its matrix or one of them, how many it has) for every tensor of matrices that was asked for; without tiles.
  void ForEachMatrix(
      const std::function<void(const std::string& name, const WeightMatrix& matrix, int64_t n_matrices)>& visit) const;

  // Reads everything that was asked for, on about as many threads as the pool has, and warns once about tensors that nobody asked for;
  // a layer's bias among them is kUnsupported. `progress` counts bytes of the file. The pointers that were bound point into the result.
  // kOutOfBudget, kIoError, kCancelled, and the errors of binding.
  Result<AlignedBuffer> Load(const ThreadPool& pool, Logger& log, const LoadProgress& progress);

  // How the file may use the page cache: `available_bytes` of memory at the start, -1 unknown.
  static PageCacheUse CacheUse(int64_t available_bytes, uint64_t tensor_bytes);

 private:
  static constexpr int64_t kInBlocks = -1;
  // A tensor and its place: one or several matrices of `rows` rows, `stride` bytes apart, or numbers.
  struct Binding {
    const TensorInfo* tensor;
    const MatMulKernel* kernel;  // null: the rows become F32 numbers
    int64_t rows, cols;
    int64_t n_matrices;
    int64_t arena_offset;  // kInBlocks: it is not loaded from here
    int64_t stride;
    const uint8_t** tiles;  // one of these is set by Load(), unless both are null
    const float** numbers;
    const NeuronLayout* neurons = nullptr;  // whose up or down it is, in a block at arena_offset

    WeightMatrix matrix() const { return {.kernel = kernel, .rows = rows, .cols = cols}; }
  };
  struct Chunk {
    const Binding* binding;
    int64_t first_row;  // of the tensor; where a tile of the kernel begins
    int64_t n_rows;
  };
  // Blocks of a pack that are loaded: a group of `blocks_`, one after another.
  struct LoadedGroup {
    size_t group;
    int64_t arena_offset;
    const uint8_t** tiles;  // set by Load()
  };
  struct Piece {  // of one of them, or of a block of neurons
    BlockId block;
    int piece;
    int64_t arena_offset;  // of its block
    int64_t n_bytes = -1;  // of the block, that are loaded; -1: all of it
  };
  // The front of a block of neurons, which is loaded.
  struct LoadedScales {
    size_t group;
    int64_t n_bytes;
    int64_t arena_offset;
    const uint8_t** scales;  // set by Load()
  };

  // Experts() where each neuron is left in the file by itself.
  void ExpertNeurons(int32_t layer, const TensorInfo& gate, const TensorInfo& up, const TensorInfo& down,
                     ExpertLayer* out);
  const TensorInfo* Want(const std::string& name, const std::vector<int64_t>& dims);
  void Numbers(const std::string& name, const std::vector<int64_t>& dims, const float** out);
  const MatMulKernel* WantKernel(const TensorInfo& tensor, WeightOrder order = WeightOrder::kTiles);
  // A pack has the tensor in blocks, and nobody takes it from there.
  void RefuseBlocks(const TensorInfo& tensor);
  // Takes the arena for the blocks that were added last, which lie in a pack.
  void LoadLastGroup(const uint8_t** tiles);
  // Takes n_bytes of the arena: where they begin.
  int64_t Reserve(int64_t n_bytes);
  void CheckExpertsAreStacked(const std::string& block);
  // The layout of neurons of a network; kUnsupported where they cannot lie one by one beside that gate and those of layers before.
  NeuronLayout LayNeurons(const TensorInfo& up, const WeightMatrix& up_shape, const WeightMatrix& down_shape,
                          const WeightMatrix& gate_shape);
  Status CheckUnused(Logger& log) const;
  std::vector<Chunk> ChunksInFileOrder() const;
  std::vector<Piece> PiecesOfPack() const;
  const WeightPlacer& PlacerOf(const Piece& piece) const { return piece.n_bytes < 0 ? blocks_ : *in_file_; }
  Status PlaceFront(const Piece& piece, const uint8_t* bytes, uint8_t* memory) const;
  Status ReadChunks(uint8_t* arena, int n_threads, const LoadProgress& progress) const;
  static int64_t RowBytesOf(const Binding& binding);
  static void Pack(const Chunk& chunk, const uint8_t* rows, uint8_t* arena);

  const GgufFile& file_;
  Isa isa_;
  WeightPlacer* in_file_;
  Left left_;
  bool may_lie_by_neuron_;
  Status status_;
  std::vector<Binding> bindings_;
  WeightPlacer blocks_;  // of a pack, that are loaded
  std::vector<LoadedGroup> loaded_groups_;
  std::vector<LoadedScales> loaded_scales_;
  std::unordered_set<const TensorInfo*> wanted_;
  int64_t n_bytes_ = 0;
  bool rests_by_threshold_ = false;
  WeightOrder gate_order_ = WeightOrder::kTiles;
  int32_t n_by_neuron_ = 0;
};

}  // namespace pantry
