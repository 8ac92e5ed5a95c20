// SPDX-License-Identifier: Apache-2.0
#include "models/weight_loader.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/units.h"
#include "compute/kernels/matmul/matmul_kernel.h"
#include "sys/memory_info.h"
#include "weights/gguf/gguf_cursor.h"
#include "weights/quant/dequantize.h"
#include "weights/quant/tensor_type.h"

namespace pantry {
namespace {

// Large enough that a disk streams and a call to the system costs nothing, small enough that packing finds it in the L2 cache.
constexpr int64_t kChunkBytes = 512 * kKiB;
// More than this many reads in flight, or threads that copy from the page cache, gain nothing.
constexpr int kMinLanes = 8;
constexpr int kMaxLanes = 32;
constexpr int64_t kAlignment = 64;
constexpr size_t kMaxNamesInWarning = 4;
constexpr size_t kMaxNameChars = 100;  // of a tensor, in messages

// "blk.12.attn_q.weight", "blk.12.": 12; -1 for tensors of no layer.
int32_t LayerOf(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  int32_t layer = -1;
  if (name.starts_with(kPrefix)) std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), layer);
  return layer;
}

int64_t AlignUp(int64_t n_bytes) { return (n_bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

// The tensor, or null with status_ set. `dims` in GGUF order.
const TensorInfo* WeightLoader::Want(const std::string& name, const std::vector<int64_t>& dims) {
  if (!status_.ok()) return nullptr;
  const TensorInfo* tensor = file_.FindTensor(name);
  if (tensor == nullptr) {
    status_ = CorruptionError(
        "{}: tensor '{}' is missing; expected one of dims [{}]. The file is incomplete or not of the architecture it "
        "names",
        file_.path(), name, fmt::join(dims, ", "));
    return nullptr;
  }
  const auto without_ones = [](std::vector<int64_t> sizes) {
    while (sizes.size() > 1 && sizes.back() == 1) sizes.pop_back();
    return sizes;
  };
  if (without_ones(tensor->dims) != without_ones(dims)) {
    status_ = CorruptionError("{}: tensor '{}' has the wrong dims: expected [{}], found [{}]", file_.path(), name,
                              fmt::join(dims, ", "), fmt::join(tensor->dims, ", "));
    return nullptr;
  }
  if (!TraitsOf(tensor->type).is_weight) {
    status_ = UnsupportedError("{}: tensor '{}' has type {}, which is no weight format", file_.path(), name,
                               TensorTypeName(tensor->type));
    return nullptr;
  }
  wanted_.insert(tensor);
  return tensor;
}

bool WeightLoader::CanLie(const std::string& name, WeightOrder order) const {
  const TensorInfo* tensor = file_.FindTensor(name);
  if (tensor == nullptr || tensor->in_blocks() || tensor->dims.size() < 2) return false;
  const bool is_experts = tensor->dims.size() > 2;
  if (in_file_ != nullptr && LayerOf(name) >= 0 && is_experts == (left_ == Left::kExperts)) return false;
  const MatMulKernel* kernel = FindMatMulKernel(tensor->type, isa_, order);
  if (kernel == nullptr) return false;
  return tensor->dims[1] % kernel->row_tile == 0;
}

bool WeightLoader::CanLieByNeuron(const std::string& gate, const std::string& up, const std::string& down) const {
  return may_lie_by_neuron_ && CanLie(gate, WeightOrder::kRows) && CanLie(up, WeightOrder::kRows) &&
         CanLie(down, WeightOrder::kColumns);
}

const MatMulKernel* WeightLoader::WantKernel(const TensorInfo& tensor, WeightOrder order) {
  const MatMulKernel* kernel = FindMatMulKernel(tensor.type, isa_, order);
  if (kernel == nullptr) {
    status_ = UnsupportedError("{}: tensor '{}' has type {}, and there is no matrix kernel for it", file_.path(),
                               tensor.name, TensorTypeName(tensor.type));
  } else if (tensor.in_blocks() && FindMatMulKernel(tensor.type, file_.pack()->layout()) != kernel) {
    const std::string_view packed_for = IsaName(file_.pack()->layout());
    status_ = UnsupportedError(
        "{}: it was packed for the kernels of {}, and these are {}'s. Options: --isa {} where the CPU has it, or pack "
        "the GGUF file again on this machine",
        file_.path(), packed_for, IsaName(isa_), packed_for);
    return nullptr;
  }
  return kernel;
}

void WeightLoader::RefuseBlocks(const TensorInfo& tensor) {
  status_ = UnsupportedError(
      "{}: tensor '{}' lies in blocks, where this version of Pantry never has it; pack the GGUF file again",
      file_.path(), Printable(tensor.name, kMaxNameChars));
}

void WeightLoader::LoadLastGroup(const uint8_t** tiles) {
  const WeightPlacer::Group& group = blocks_.groups().back();
  loaded_groups_.push_back({blocks_.groups().size() - 1, Reserve(group.n_blocks * group.block_bytes), tiles});
}

Status WeightLoader::EndBinding() {
  PANTRY_RETURN_IF_ERROR(status_);
  if (file_.pack() == nullptr) return OkStatus();
  WeightPlacer& blocks = in_file_ != nullptr ? *in_file_ : blocks_;
  return status_ = blocks.ReadFrom(*file_.pack()).WithContext(file_.path());
}

int64_t WeightLoader::Reserve(int64_t n_bytes) {
  const int64_t offset = n_bytes_;
  n_bytes_ += AlignUp(n_bytes);
  return offset;
}

void WeightLoader::Matrix(const std::string& name, int64_t rows, int64_t cols, WeightMatrix* out, WeightOrder order) {
  const TensorInfo* tensor = Want(name, {cols, rows});
  const MatMulKernel* kernel = tensor != nullptr ? WantKernel(*tensor, order) : nullptr;
  if (kernel == nullptr) return;
  *out = {.kernel = kernel, .rows = rows, .cols = cols};
  const bool may_be_left = left_ == Left::kLayers && LayerOf(name) >= 0;
  if (tensor->in_blocks() && !may_be_left) return RefuseBlocks(*tensor);
  const bool is_left = may_be_left && in_file_ != nullptr;
  if (is_left || tensor->in_blocks()) {
    (is_left ? in_file_ : &blocks_)->AddMatrix(LayerOf(name), *tensor, out);
    if (!is_left) LoadLastGroup(&out->tiles);
    bindings_.push_back({tensor, kernel, rows, cols, 1, kInBlocks, 0, nullptr, nullptr});
    return;
  }
  const int64_t offset = Reserve(WeightMatrix::PackedBytes(*kernel, rows, cols));
  bindings_.push_back({tensor, kernel, rows, cols, 1, offset, 0, &out->tiles, nullptr});
}

void WeightLoader::Stack(const std::string& name, int64_t n, int64_t rows, int64_t cols, WeightStack* out) {
  const TensorInfo* tensor = Want(name, {cols, rows, n});
  const MatMulKernel* kernel = tensor != nullptr ? WantKernel(*tensor) : nullptr;
  if (kernel == nullptr) return;
  *out = {{.kernel = kernel, .rows = rows, .cols = cols}, AlignUp(WeightMatrix::PackedBytes(*kernel, rows, cols))};
  bindings_.push_back(
      {tensor, kernel, rows, cols, n, Reserve(n * out->stride), out->stride, &out->first.tiles, nullptr});
}

void WeightLoader::Numbers(const std::string& name, const std::vector<int64_t>& dims, const float** out) {
  const TensorInfo* tensor = Want(name, dims);
  if (tensor == nullptr) return;
  const int64_t offset = Reserve(tensor->n_elements() * static_cast<int64_t>(sizeof(float)));
  bindings_.push_back({tensor, nullptr, tensor->n_rows(), tensor->row_elements(), 1, offset, 0, nullptr, out});
}

void WeightLoader::Vector(const std::string& name, int64_t n, const float** out) { Numbers(name, {n}, out); }

// Files of old converters have a tensor for each expert, some others gate and up in one.
void WeightLoader::CheckExpertsAreStacked(const std::string& block) {
  for (const char* other : {"ffn_gate.0.weight", "ffn_gate_up_exps.weight"}) {
    if (!status_.ok() || file_.FindTensor(block + other) == nullptr) continue;
    status_ = UnsupportedError(
        "{}: tensor '{}{}': this version reads experts from 'ffn_gate_exps', 'ffn_up_exps' and 'ffn_down_exps' only; "
        "convert the model again with a current converter",
        file_.path(), block, other);
  }
}

void WeightLoader::Experts(const std::string& block, int64_t n_experts, int64_t n_embd, int64_t n_ff, ExpertLayer* out,
                           bool by_neuron) {
  CheckExpertsAreStacked(block);
  by_neuron = by_neuron && CanLieByNeuron(block + "ffn_gate_exps.weight", block + "ffn_up_exps.weight",
                                          block + "ffn_down_exps.weight");
  const TensorInfo* const gate = Want(block + "ffn_gate_exps.weight", {n_embd, n_ff, n_experts});
  const TensorInfo* const up = Want(block + "ffn_up_exps.weight", {n_embd, n_ff, n_experts});
  const TensorInfo* const down = Want(block + "ffn_down_exps.weight", {n_ff, n_embd, n_experts});
  if (!status_.ok()) return;
  const ExpertBlock shape = {
      {.kernel = WantKernel(*gate), .rows = n_ff, .cols = n_embd},
      {.kernel = WantKernel(*up, by_neuron ? WeightOrder::kRows : WeightOrder::kTiles), .rows = n_ff, .cols = n_embd},
      {.kernel = WantKernel(*down, by_neuron ? WeightOrder::kColumns : WeightOrder::kTiles),
       .rows = n_embd,
       .cols = n_ff}};
  if (!status_.ok()) return;
  if (shape.gate.kernel->activation != shape.up.kernel->activation) {
    status_ =
        UnsupportedError("{}: tensor '{}' has type {} and '{}' {}: they cannot be multiplied with the same rows",
                         file_.path(), gate->name, TensorTypeName(gate->type), up->name, TensorTypeName(up->type));
    return;
  }
  for (const auto& [part, n, bias] : {std::tuple("gate", n_ff, &out->biases.gate),
                                      {"up", n_ff, &out->biases.up},
                                      {"down", n_embd, &out->biases.down}}) {
    const std::string name = fmt::format("{}ffn_{}_exps.bias", block, part);
    if (file_.FindTensor(name) != nullptr) Numbers(name, {n, n_experts}, bias);
  }
  if (!status_.ok()) return;
  out->layout = ExpertLayout::Of(shape);
  out->n_experts = static_cast<int32_t>(n_experts);
  if (gate->in_blocks() && left_ != Left::kExperts) return RefuseBlocks(*gate);
  const bool is_left = left_ == Left::kExperts && in_file_ != nullptr;
  if (is_left || gate->in_blocks()) {
    (is_left ? in_file_ : &blocks_)->AddExperts(LayerOf(block), out->n_experts, out->layout, *gate, *up, *down);
    if (!is_left) LoadLastGroup(&out->blocks);
    bindings_.push_back({gate, shape.gate.kernel, n_ff, n_embd, n_experts, kInBlocks, 0, nullptr, nullptr});
    bindings_.push_back({up, shape.up.kernel, n_ff, n_embd, n_experts, kInBlocks, 0, nullptr, nullptr});
    bindings_.push_back({down, shape.down.kernel, n_embd, n_ff, n_experts, kInBlocks, 0, nullptr, nullptr});
    return;
  }
  const int64_t stride = out->layout.n_bytes, at = Reserve(n_experts * stride);
  bindings_.push_back({gate, shape.gate.kernel, n_ff, n_embd, n_experts, at, stride, &out->blocks, nullptr});
  bindings_.push_back(
      {up, shape.up.kernel, n_ff, n_embd, n_experts, at + out->layout.up_offset, stride, nullptr, nullptr});
  bindings_.push_back(
      {down, shape.down.kernel, n_embd, n_ff, n_experts, at + out->layout.down_offset, stride, nullptr, nullptr});
}

void WeightLoader::OptionalMatrix(const std::string& name, int64_t rows, int64_t cols, WeightMatrix* out) {
  if (file_.FindTensor(name) != nullptr) Matrix(name, rows, cols, out);
}

void WeightLoader::OptionalVector(const std::string& name, int64_t n, const float** out) {
  if (file_.FindTensor(name) != nullptr) Vector(name, n, out);
}

void WeightLoader::ForEachMatrix(
    const std::function<void(const std::string&, const WeightMatrix&, int64_t)>& visit) const {
  for (const Binding& binding : bindings_) {
    if (binding.kernel != nullptr) visit(binding.tensor->name, binding.matrix(), binding.n_matrices);
  }
}

// A tensor without a place in the arithmetic is worth a warning; a bias certainly has one, and without it every answer is wrong.
Status WeightLoader::CheckUnused(Logger& log) const {
  std::vector<std::string> names;
  size_t n_unused = 0;
  for (const TensorInfo& tensor : file_.tensors()) {
    if (wanted_.contains(&tensor)) continue;
    if (tensor.name.starts_with("blk.") && tensor.name.ends_with(".bias")) {
      return UnsupportedError(
          "{}: tensor '{}' is a bias that this version does not know in a model of this architecture; it would "
          "compute wrong results without it",
          file_.path(), Printable(tensor.name, kMaxNameChars));
    }
    if (++n_unused <= kMaxNamesInWarning) names.push_back(Printable(tensor.name, kMaxNameChars));
  }
  if (n_unused == 0) return OkStatus();
  log.Warning("{}: {} tensor{} not used by this architecture: {}{}", file_.path(), n_unused,
              n_unused == 1 ? " is" : "s are", fmt::join(names, ", "), n_unused > names.size() ? ", ..." : "");
  return OkStatus();
}

// Where file and weights do not fit into memory side by side, a copy in the page cache would push out something else, this model's first
// half for one.
PageCacheUse WeightLoader::CacheUse(int64_t available_bytes, uint64_t tensor_bytes) {
  const bool is_short = available_bytes >= 0 && static_cast<uint64_t>(available_bytes) / 2 < tensor_bytes;
  return is_short ? PageCacheUse::kNever : PageCacheUse::kForSlowDisks;
}

int64_t WeightLoader::RowBytesOf(const Binding& binding) {
  return RowBytes(binding.tensor->type, binding.tensor->row_elements());
}

std::vector<WeightLoader::Chunk> WeightLoader::ChunksInFileOrder() const {
  std::vector<const Binding*> order;
  for (const Binding& binding : bindings_) {
    if (binding.arena_offset != kInBlocks) order.push_back(&binding);
  }
  std::sort(order.begin(), order.end(), [](const Binding* a, const Binding* b) {
    return std::pair(a->tensor->shard, a->tensor->offset) < std::pair(b->tensor->shard, b->tensor->offset);
  });
  std::vector<Chunk> chunks;
  for (const Binding* binding : order) {
    const int64_t tile = binding->kernel != nullptr ? binding->kernel->row_tile : 1;
    const int64_t tiles_per_chunk = std::max<int64_t>(1, kChunkBytes / (tile * RowBytesOf(*binding)));
    // A tile has rows of one matrix only, so chunks may go on into the next matrix where it begins with a tile.
    const int64_t n_rows = binding->tensor->n_rows();
    const int64_t section = binding->rows % tile == 0 ? n_rows : binding->rows;
    for (int64_t begin = 0; begin < n_rows; begin += section) {
      const int64_t step = std::min(section, tiles_per_chunk * tile);
      for (int64_t row = 0; row < section; row += step) {
        chunks.push_back({binding, begin + row, std::min(step, section - row)});
      }
    }
  }
  return chunks;
}

void WeightLoader::Pack(const Chunk& chunk, const uint8_t* rows, uint8_t* arena) {
  const Binding& binding = *chunk.binding;
  uint8_t* const to = arena + binding.arena_offset;
  if (binding.kernel == nullptr) {
    const int64_t row_bytes = RowBytesOf(binding);
    for (int64_t i = 0; i < chunk.n_rows; ++i) {
      DequantizeRow(binding.tensor->type, rows + i * row_bytes, binding.cols,
                    reinterpret_cast<float*>(to) + (chunk.first_row + i) * binding.cols);
    }
    return;
  }
  const MatMulKernel& kernel = *binding.kernel;
  const int64_t row_bytes = RowBytesOf(binding), tile_bytes = kernel.packed_tile_bytes(binding.cols);
  for (int64_t done = 0, n = 0; done < chunk.n_rows; done += n) {  // of one matrix after another
    const int64_t matrix = (chunk.first_row + done) / binding.rows, row = (chunk.first_row + done) % binding.rows;
    n = std::min(binding.rows - row, chunk.n_rows - done);
    PackRows(kernel, rows + done * row_bytes, row_bytes, n, binding.cols,
             to + matrix * binding.stride + row / kernel.row_tile * tile_bytes);
  }
}

std::vector<WeightLoader::Piece> WeightLoader::PiecesOfPack() const {
  std::vector<Piece> pieces;
  for (const LoadedGroup& loaded : loaded_groups_) {
    const WeightPlacer::Group& group = blocks_.groups()[loaded.group];
    for (uint32_t i = 0; i < group.n_blocks; ++i) {
      const BlockId block(group.first_block + i);
      for (int piece = 0; piece < blocks_.n_pieces(block); ++piece)
        pieces.push_back({block, piece, loaded.arena_offset + i * group.block_bytes});
    }
  }
  return pieces;
}

Status WeightLoader::ReadChunks(uint8_t* arena, int n_threads, const LoadProgress& progress) const {
  const std::vector<Chunk> chunks = ChunksInFileOrder();
  const std::vector<Piece> pieces = PiecesOfPack();
  std::vector<Extent> extents;
  int64_t n_total = 0;
  for (const Chunk& chunk : chunks) {
    const TensorInfo& tensor = *chunk.binding->tensor;
    const int64_t row_bytes = RowBytesOf(*chunk.binding);
    extents.push_back({file_.shards()[static_cast<size_t>(tensor.shard)].get(),
                       tensor.offset + static_cast<uint64_t>(chunk.first_row * row_bytes),
                       static_cast<size_t>(chunk.n_rows * row_bytes)});
    n_total += chunk.n_rows * row_bytes;
  }
  for (const Piece& piece : pieces) {  // they lie behind all other tensors
    const BlockPiece from = blocks_.Piece(piece.block, piece.piece);
    extents.push_back({file_.shards()[static_cast<size_t>(from.file)].get(), from.offset, from.n_bytes});
    n_total += static_cast<int64_t>(from.n_bytes);
  }
  ReadExtentsOptions options;
  options.n_lanes = std::clamp(n_threads, kMinLanes, kMaxLanes);
  options.page_cache = CacheUse(AvailableMemoryBytes(), file_.tensor_bytes());
  const auto consume = [&](size_t i, const uint8_t* bytes) {
    if (i >= chunks.size()) {
      const Piece& piece = pieces[i - chunks.size()];
      return blocks_.Place(piece.block, piece.piece, bytes, arena + piece.arena_offset);
    }
    Pack(chunks[i], bytes, arena);
    return OkStatus();
  };
  size_t failed = extents.size();
  Status status = ReadExtents(
      extents, options, consume,
      [&](uint64_t n_bytes) { return !progress || progress(static_cast<int64_t>(n_bytes), n_total); }, &failed);
  if (failed >= chunks.size()) return status;  // it names the file
  return status.WithContext(fmt::format("tensor '{}'", Printable(chunks[failed].binding->tensor->name, kMaxNameChars)));
}

Result<AlignedBuffer> WeightLoader::Load(const ThreadPool& pool, Logger& log, const LoadProgress& progress) {
  PANTRY_RETURN_IF_ERROR(status_);
  PANTRY_RETURN_IF_ERROR(CheckUnused(log));
  Result<AlignedBuffer> arena = AlignedBuffer::Allocate(static_cast<size_t>(n_bytes_));
  if (!arena.ok())
    return arena.status().WithContext(fmt::format("{}: memory for {} of weights", file_.path(), FormatBytes(n_bytes_)));
  for (const Binding& binding : bindings_) {
    const uint8_t* at = arena->data() + binding.arena_offset;
    if (binding.tiles != nullptr) *binding.tiles = at;
    if (binding.numbers != nullptr) *binding.numbers = reinterpret_cast<const float*>(at);
  }
  for (const LoadedGroup& loaded : loaded_groups_) *loaded.tiles = arena->data() + loaded.arena_offset;
  PANTRY_RETURN_IF_ERROR(ReadChunks(arena->data(), pool.n_threads(), progress));
  return arena;
}

}  // namespace pantry
