// SPDX-License-Identifier: Apache-2.0
#include "compute/matmul.h"

#include <algorithm>

#include "base/status.h"
#include "compute/kernels/vector_ops/vector_ops.h"

namespace pantry {
namespace {

// A chunk of tiles is the unit that threads claim: large enough that claiming costs nothing (32 KiB are 3 us at 10 GB/s), small
// enough that the last chunks do not leave threads waiting, and that its tiles stay in L2 while groups of activation rows pass.
constexpr int64_t kMinChunkBytes = 32 << 10;
constexpr int64_t kMaxChunkBytes = 256 << 10;
constexpr int64_t kChunksPerThread = 8;
// Codes of the activation rows of one pass over the weights: half a megabyte of L2 holds them and a chunk.
constexpr int64_t kActivationBytes = 256 << 10;
constexpr int64_t kRowGroup = 16;  // rows per pass are a multiple, so that kernels run in full groups

int64_t TileCount(const WeightMatrix& w) { return (w.rows + w.kernel->row_tile - 1) / w.kernel->row_tile; }

// The same rows from `begin` on, `n_rows` of them.
ActivationRows Slice(const ActivationRows& x, int64_t begin, int64_t n_rows) {
  ActivationRows part = x;
  part.n_rows = n_rows;
  part.f32 = x.f32 ? x.f32 + begin * x.n_cols : nullptr;
  if (x.q) {
    part.q = x.q + begin * x.n_cols;
    part.scales = x.scales + begin * (x.n_cols / kActivationBlock);
    part.scaled_sums = x.scaled_sums + begin * (x.n_cols / kActivationBlock);
    part.sums = x.sums + begin * (x.n_cols / kActivationSum);
  }
  return part;
}

void Quantize(ThreadPool& pool, const VectorOps& ops, const ActivationRows& x) {
  constexpr int64_t kColsPerItem = 16 << 10;  // some microseconds
  const int64_t rows_per_item = std::max<int64_t>(1, kColsPerItem / x.n_cols);
  const int64_t n_items = (x.n_rows + rows_per_item - 1) / rows_per_item;
  const auto quantize = [&](int64_t item, int) {
    const int64_t end = std::min(x.n_rows, (item + 1) * rows_per_item);
    for (int64_t row = item * rows_per_item; row < end; ++row) ops.quantize_row(x, row);
  };
  if (n_items == 1) return quantize(0, 0);
  pool.ParallelFor(n_items, quantize);
}

int64_t TilesPerChunk(const WeightMatrix& w, int64_t chunk_bytes) {
  return std::max<int64_t>(1, chunk_bytes / w.kernel->packed_tile_bytes(w.cols));
}

}  // namespace

void MatMul(ThreadPool& pool, std::span<const MatMulTask> tasks, const ActivationRows& x) {
  if (x.n_rows == 0) return;
  const VectorOps* quantizer = nullptr;
  int64_t total_bytes = 0;
  for (const MatMulTask& task : tasks) {
    const WeightMatrix& w = *task.weights;
    PANTRY_CHECK(w.cols == x.n_cols);
    if (w.kernel->activation == ActivationFormat::kQ8) quantizer = &VectorOpsFor(w.kernel->isa);
    total_bytes += TileCount(w) * w.kernel->packed_tile_bytes(w.cols);
  }
  if (quantizer) {
    PANTRY_CHECK(x.q && x.scales && x.scaled_sums && x.sums);
    Quantize(pool, *quantizer, x);
  }

  const int64_t fair_bytes = total_bytes / (pool.n_threads() * kChunksPerThread);
  const int64_t min_bytes = kMinChunkBytes / std::min<int64_t>(x.n_rows, 16);  // more rows, more work per byte
  const int64_t chunk_bytes = std::clamp(fair_bytes, min_bytes, kMaxChunkBytes);
  int64_t n_chunks = 0;
  for (const MatMulTask& task : tasks) {
    const int64_t per_chunk = TilesPerChunk(*task.weights, chunk_bytes);
    n_chunks += (TileCount(*task.weights) + per_chunk - 1) / per_chunk;
  }
  const int64_t row_bytes = x.n_cols * (quantizer ? 1 : 4);
  const int64_t rows_per_pass = std::max<int64_t>(1, kActivationBytes / row_bytes / kRowGroup) * kRowGroup;
  const int64_t n_passes = (x.n_rows + rows_per_pass - 1) / rows_per_pass;

  pool.ParallelFor(n_passes * n_chunks, [&](int64_t item, int) {
    const int64_t first_row = item / n_chunks * rows_per_pass;
    const ActivationRows part = Slice(x, first_row, std::min(rows_per_pass, x.n_rows - first_row));
    int64_t chunk = item % n_chunks;
    for (const MatMulTask& task : tasks) {
      const WeightMatrix& w = *task.weights;
      const int64_t n_tiles = TileCount(w);
      const int64_t per_chunk = TilesPerChunk(w, chunk_bytes);
      const int64_t begin = chunk * per_chunk;
      if (begin < n_tiles) {
        w.kernel->compute(w.tiles, w.rows, w.cols, begin, std::min(begin + per_chunk, n_tiles), part,
                          task.y + first_row * task.y_stride, task.y_stride);
        return;
      }
      chunk -= (n_tiles + per_chunk - 1) / per_chunk;
    }
  });
}

}  // namespace pantry
