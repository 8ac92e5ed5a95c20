// SPDX-License-Identifier: Apache-2.0
#include "sim/sim_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "residency/cache/block_cache.h"
#include "residency/stream/block_stream.h"

namespace pantry {
namespace {

// As the engine cuts them (models/weight_placer.cc).
constexpr int64_t kExpertPieceBytes = 512 * 1024;
constexpr int64_t kMatrixPieceBytes = 1024 * 1024;
constexpr int64_t kMatrixBlockBytes = 2048 * 1024;
// Parallel loops of the engine's forward pass: norm with q, k and v; attention; output projection; router.
constexpr double kAttentionSteps = 3;
constexpr double kRouterSteps = 2;
constexpr double kProjectionSteps = 1;

constexpr int64_t kProcessBytes = 41 << 20;  // the program with a tokenizer; assumed, as it was on one machine
constexpr int64_t kScratchBytes = 48 << 20;
constexpr int64_t kBookkeepingPerBlock = 160;

std::vector<SimShape> AllShapes() {
  std::vector<SimShape> shapes;
#define SHAPE(NAME, LAYERS, WIDTH, HEADS, KV_HEADS, HEAD_DIM, FF, EXPERTS, USED, VOCABULARY, EARLY, TIED) \
  {                                                                                                       \
    SimShape& each = shapes.emplace_back();                                                               \
    each = {.name = NAME, .shape = {}, .routes_early = EARLY, .is_tied = TIED};                           \
    ModelShape& s = each.shape;                                                                           \
    s.n_layers = LAYERS, s.n_embd = WIDTH, s.n_heads = HEADS, s.n_kv_heads = KV_HEADS;                    \
    s.head_dim = HEAD_DIM, s.n_ff = (EXPERTS) > 0 ? 0 : (FF), s.n_ff_expert = (EXPERTS) > 0 ? (FF) : 0;   \
    s.n_experts = EXPERTS, s.n_experts_used = USED, s.n_vocab = VOCABULARY, s.n_ctx_train = 4096;         \
  }
#include "sim/shapes.inc"
#undef SHAPE
  return shapes;
}

double MacsOf(int64_t rows, int64_t cols) { return static_cast<double>(rows) * static_cast<double>(cols); }
Work MatrixWork(double macs, double n_steps) {
  return {.bytes = kQ4Bytes * macs, .int8_macs = macs, .n_steps = n_steps};
}

class Builder {
 public:
  explicit Builder(const SimShape& shape) : shape_(shape.shape), routes_early_(shape.routes_early) {
    model_.name = shape.name;
  }

  SimModel Build(int64_t n_ctx, bool is_tied) {
    for (int32_t layer = 0; layer < shape_.n_layers; ++layer) {
      if (shape_.has_experts()) AddExpertLayer(layer);
      else AddDenseLayer(layer);
    }
    model_.n_experts = shape_.n_experts;
    model_.n_used = shape_.n_experts_used;
    model_.steps_of_blocks = shape_.has_experts() ? 3 : 1;
    const double head_macs = MacsOf(shape_.n_vocab, shape_.n_embd);
    model_.after = MatrixWork(head_macs, kProjectionSteps);
    model_.kv_bytes_per_position = 2.0 * 2 * shape_.n_layers * shape_.n_kv_heads * shape_.head_dim;  // F16
    model_.attention_macs_per_position = 2.0 * shape_.n_layers * shape_.n_heads * shape_.head_dim;
    PlanFor(n_ctx, (is_tied ? 1 : 2) * kQ4Bytes * head_macs);
    return std::move(model_);
  }

 private:
  int64_t n_q() const { return int64_t{shape_.n_heads} * shape_.head_dim; }
  int64_t n_kv() const { return int64_t{shape_.n_kv_heads} * shape_.head_dim; }

  void AddExpertLayer(int32_t layer) {
    const double qkv = MacsOf(n_q() + 2 * n_kv(), shape_.n_embd), out = MacsOf(n_q(), shape_.n_embd);
    SimStep& step = model_.steps.emplace_back();
    const double router = MacsOf(shape_.n_experts, shape_.n_embd);
    step.before = MatrixWork(qkv, 1);
    step.before += Work{.bytes = 4 * router, .float_macs = router, .n_steps = kRouterSteps};  // F32
    model_.guess = {.bytes = 4 * router, .float_macs = router, .n_steps = 1};
    (routes_early_ ? step.between : step.before) += MatrixWork(out, kAttentionSteps - 1);
    step.before.row_bytes = RowBytesOfLayer(shape_);
    step.layer = layer;
    step.first_block = static_cast<uint32_t>(model_.blocks.size());
    step.n_blocks = static_cast<uint32_t>(shape_.n_experts);
    const double macs = MacsOf(shape_.n_ff_expert, shape_.n_embd);
    for (int32_t expert = 0; expert < shape_.n_experts; ++expert) AddCut(layer, 3, macs, kExpertPieceBytes);
  }

  void AddDenseLayer(int32_t layer) {
    struct Matrix {
      double macs;
      int n;  // of that size
    };
    const auto matrices = [&](double n_steps, std::initializer_list<Matrix> all) {
      SimStep& step = model_.steps.emplace_back();
      step.before.n_steps = n_steps;
      step.layer = layer;
      step.wants_all = true;
      step.first_block = static_cast<uint32_t>(model_.blocks.size());
      for (const Matrix& matrix : all) {
        const auto n_blocks = static_cast<int>(kQ4Bytes * matrix.macs / kMatrixBlockBytes) + 1;
        for (int b = 0; b < matrix.n * n_blocks; ++b) AddCut(layer, 1, matrix.macs / n_blocks, kMatrixPieceBytes);
      }
      step.n_blocks = static_cast<uint32_t>(model_.blocks.size()) - step.first_block;
    };
    matrices(1, {{MacsOf(n_q(), shape_.n_embd), 1}, {MacsOf(n_kv(), shape_.n_embd), 2}});
    model_.steps.back().before.row_bytes = RowBytesOfLayer(shape_);
    matrices(kAttentionSteps - 1, {{MacsOf(n_q(), shape_.n_embd), 1}});
    matrices(1, {{MacsOf(shape_.n_ff, shape_.n_embd), 2}});
    matrices(1, {{MacsOf(shape_.n_ff, shape_.n_embd), 1}});
  }

  // A block of n_parts matrices of `macs` each, which lie apart in the file.
  void AddCut(int32_t layer, int n_parts, double macs, int64_t most_bytes) {
    const auto part_bytes = static_cast<int64_t>(kQ4Bytes * macs);
    std::vector<BlockPiece> pieces;
    for (int part = 0; part < n_parts; ++part) {
      const int64_t n = (part_bytes + most_bytes - 1) / most_bytes;
      for (int64_t i = 0; i < n; ++i) {
        const int64_t begin = part_bytes * i / n, end = part_bytes * (i + 1) / n;
        pieces.push_back({0, file_bytes_ + static_cast<uint64_t>(begin), static_cast<size_t>(end - begin)});
      }
      file_bytes_ += static_cast<uint64_t>(part_bytes) + kGap;
    }
    model_.AddBlock(layer, n_parts * part_bytes, n_parts * macs, pieces);
  }

  void PlanFor(int64_t n_ctx, double ends_bytes) {
    MemoryRequest& memory = model_.memory;
    memory.process_bytes = kProcessBytes;
    double dense = ends_bytes;
    for (const SimStep& step : model_.steps) dense += step.before.bytes + step.between.bytes;
    memory.dense_bytes = static_cast<int64_t>(dense);
    memory.blocks = shape_.has_experts() ? "experts" : "layers";
    int64_t largest = 0;
    size_t piece = 0;
    for (const BlockInfo& block : model_.blocks) {
      memory.block_bytes += BlockCache::SlotBytes(block.n_bytes);
      largest = std::max(largest, BlockCache::SlotBytes(block.n_bytes));
    }
    for (const BlockPiece& each : model_.pieces) piece = std::max(piece, each.n_bytes);
    memory.least_block_bytes = 2 * largest;
    memory.reading_bytes = BlockStream::StagingBytes(piece) +
                           static_cast<int64_t>(model_.blocks.size()) * kBookkeepingPerBlock + (1 << 20);
    memory.scratch_bytes = kScratchBytes;
    memory.kv_bytes_per_position = static_cast<int64_t>(model_.kv_bytes_per_position);
    memory.n_ctx = n_ctx;
    memory.n_ctx_train = shape_.n_ctx_train;
  }

  static constexpr uint64_t kGap = 1 << 20;  // what lies apart is never read in one transfer
  const ModelShape& shape_;
  const bool routes_early_;
  SimModel model_;
  uint64_t file_bytes_ = 0;
};

}  // namespace

int32_t SimModel::n_layers() const { return blocks.empty() ? 0 : blocks.back().layer + 1; }

double SimModel::block_bytes() const {
  double n_bytes = 0;
  for (const BlockInfo& block : blocks) n_bytes += static_cast<double>(block.n_bytes);
  return n_bytes;
}

void SimModel::AddBlock(int32_t layer, int64_t n_bytes, double macs, std::span<const BlockPiece> its_pieces) {
  if (first_piece_of.empty()) first_piece_of.push_back(0);
  blocks.push_back({layer, n_bytes});
  block_macs.push_back(macs);
  pieces.insert(pieces.end(), its_pieces.begin(), its_pieces.end());
  first_piece_of.push_back(static_cast<uint32_t>(pieces.size()));
}

Status SimModel::Validate() const {
  if (steps.empty()) return InvalidArgumentError("model '{}' has no steps", name);
  if (block_macs.size() != blocks.size() || (!blocks.empty() && first_piece_of.size() != blocks.size() + 1)) {
    return InvalidArgumentError("model '{}': its tables of blocks differ in length", name);
  }
  for (const SimStep& step : steps) {
    if (step.layer < 0) continue;
    if (uint64_t{step.first_block} + step.n_blocks > blocks.size() || step.n_blocks == 0) {
      return InvalidArgumentError("model '{}': a step wants blocks that there are not", name);
    }
  }
  return OkStatus();
}

std::vector<std::string_view> ShapeNames() {
  std::vector<std::string_view> names;
  for (const SimShape& shape : AllShapes()) names.push_back(shape.name);
  return names;
}

Result<SimShape> FindShape(std::string_view name) {
  for (const SimShape& shape : AllShapes()) {
    if (shape.name == name) return shape;
  }
  return NotFoundError("'{}' is no shape; there are {}", name, fmt::join(ShapeNames(), ", "));
}

// Each pass over a row counts, as models/llama.cc and its siblings make them.
double RowBytesOfLayer(const ModelShape& shape) {
  constexpr double kFloatsOfALine =
      16;  // each number of a key is written into one of its own: a pack has positions side by side
  const double n_embd = shape.n_embd, n_q = int64_t{shape.n_heads} * shape.head_dim,
               n_kv = int64_t{shape.n_kv_heads} * shape.head_dim;
  // Norm, quantise, add; rotate and quantise; store.
  const double attention = 3 * n_embd + 2 * n_q + n_kv + kFloatsOfALine * n_kv;
  const double network = 3 * n_embd + (shape.has_experts() ? (1.0 + shape.n_experts_used) * n_embd : 2.0 * shape.n_ff);
  return sizeof(float) * (attention + network);
}

SimModel ModelOf(const SimShape& shape, int64_t n_ctx) { return Builder(shape).Build(n_ctx, shape.is_tied); }

}  // namespace pantry
