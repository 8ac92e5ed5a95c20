// SPDX-License-Identifier: Apache-2.0
#include "models/weight_loader.h"

#include <fmt/ranges.h>

#include <algorithm>
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
  std::vector<int64_t> found = tensor->dims;
  while (found.size() > dims.size() && found.back() == 1) found.pop_back();
  if (found != dims) {
    status_ = CorruptionError("{}: tensor '{}' has the wrong dims: expected [{}], found [{}]", file_.path(), name,
                              fmt::join(dims, ", "), fmt::join(tensor->dims, ", "));
    return nullptr;
  }
  if (!TraitsOf(tensor->type).is_weight) {
    status_ = UnsupportedError("{}: tensor '{}' has type {}, which is no weight format", file_.path(), name,
                               TensorTypeName(tensor->type));
    return nullptr;
  }
  return tensor;
}

void WeightLoader::Bind(const Binding& binding, int64_t n_bytes) {
  bindings_.push_back(binding);
  bindings_.back().arena_offset = n_bytes_;
  wanted_.insert(binding.tensor);
  n_bytes_ += AlignUp(n_bytes);
}

void WeightLoader::Matrix(const std::string& name, int64_t rows, int64_t cols, WeightMatrix* out) {
  const TensorInfo* tensor = Want(name, {cols, rows});
  if (tensor == nullptr) return;
  const MatMulKernel* kernel = FindMatMulKernel(tensor->type, isa_);
  if (kernel == nullptr) {
    status_ = UnsupportedError("{}: tensor '{}' has type {}, and there is no matrix kernel for it", file_.path(), name,
                               TensorTypeName(tensor->type));
    return;
  }
  *out = WeightMatrix{kernel, rows, cols, nullptr};
  Bind({tensor, out, nullptr, 0}, WeightMatrix::PackedBytes(*kernel, rows, cols));
}

void WeightLoader::Vector(const std::string& name, int64_t n, const float** out) {
  const TensorInfo* tensor = Want(name, {n});
  if (tensor == nullptr) return;
  Bind({tensor, nullptr, out, 0}, n * static_cast<int64_t>(sizeof(float)));
}

void WeightLoader::OptionalMatrix(const std::string& name, int64_t rows, int64_t cols, WeightMatrix* out) {
  if (file_.FindTensor(name) != nullptr) Matrix(name, rows, cols, out);
}

void WeightLoader::OptionalVector(const std::string& name, int64_t n, const float** out) {
  if (file_.FindTensor(name) != nullptr) Vector(name, n, out);
}

void WeightLoader::ForEachMatrix(const std::function<void(const std::string&, const WeightMatrix&)>& visit) const {
  for (const Binding& binding : bindings_) {
    if (binding.matrix != nullptr) visit(binding.tensor->name, *binding.matrix);
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
  for (const Binding& binding : bindings_) order.push_back(&binding);
  std::sort(order.begin(), order.end(), [](const Binding* a, const Binding* b) {
    return std::pair(a->tensor->shard, a->tensor->offset) < std::pair(b->tensor->shard, b->tensor->offset);
  });
  std::vector<Chunk> chunks;
  for (const Binding* binding : order) {
    const int64_t n_rows = binding->tensor->n_rows();
    const int64_t tile = binding->matrix != nullptr ? binding->matrix->kernel->row_tile : 1;
    const int64_t tiles_per_chunk = std::max<int64_t>(1, kChunkBytes / (tile * RowBytesOf(*binding)));
    const int64_t step = std::min(n_rows, tiles_per_chunk * tile);
    for (int64_t row = 0; row < n_rows; row += step) chunks.push_back({binding, row, std::min(step, n_rows - row)});
  }
  return chunks;
}

void WeightLoader::Pack(const Chunk& chunk, const uint8_t* rows, uint8_t* arena) {
  const Binding& binding = *chunk.binding;
  uint8_t* to = arena + binding.arena_offset;
  if (binding.matrix == nullptr) {
    DequantizeRow(binding.tensor->type, rows, binding.tensor->row_elements(), reinterpret_cast<float*>(to));
    return;
  }
  const MatMulKernel& kernel = *binding.matrix->kernel;
  const int64_t cols = binding.matrix->cols;
  to += chunk.first_row / kernel.row_tile * kernel.packed_tile_bytes(cols);
  for (int64_t row = 0; row < chunk.n_rows; row += kernel.row_tile) {
    kernel.pack_tile(rows + row * RowBytesOf(binding), std::min<int64_t>(kernel.row_tile, chunk.n_rows - row), cols,
                     to);
    to += kernel.packed_tile_bytes(cols);
  }
}

Status WeightLoader::ReadChunks(uint8_t* arena, int n_threads, const LoadProgress& progress) const {
  const std::vector<Chunk> chunks = ChunksInFileOrder();
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
  ReadExtentsOptions options;
  options.n_lanes = std::clamp(n_threads, kMinLanes, kMaxLanes);
  options.page_cache = CacheUse(AvailableMemoryBytes(), file_.tensor_bytes());
  size_t failed = chunks.size();
  const Status status = ReadExtents(
      extents, options, [&](size_t i, const uint8_t* rows) { Pack(chunks[i], rows, arena); },
      [&](uint64_t n_bytes) { return !progress || progress(static_cast<int64_t>(n_bytes), n_total); }, &failed);
  if (failed == chunks.size()) return status.WithContext(file_.path());
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
    if (binding.matrix != nullptr) binding.matrix->tiles = at;
    else *binding.vector = reinterpret_cast<const float*>(at);
  }
  PANTRY_RETURN_IF_ERROR(ReadChunks(arena->data(), pool.n_threads(), progress));
  return arena;
}

}  // namespace pantry
