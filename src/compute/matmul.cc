// SPDX-License-Identifier: Apache-2.0
#include "compute/matmul.h"

#include <algorithm>
#include <array>

#include "base/status.h"
#include "compute/kernels/vector_ops/vector_ops.h"

namespace pantry {
namespace {

// A chunk of tiles is the unit that threads claim: large enough that claiming costs nothing (32 KiB are 3 us at 10 GB/s), small
// enough that the last chunks do not leave threads waiting, and that its tiles stay in L2 while groups of activation rows pass.
constexpr int64_t kMinChunkBytes = 32 << 10;
constexpr int64_t kMaxChunkBytes = 256 << 10;
constexpr int64_t kChunksPerThread = 8;
// Codes of the activation rows of one pass over a chunk: a megabyte of L2 holds them and the chunk. All passes over a chunk follow each
// other, so that weights come from DRAM once; the rows, fewer bytes, come from L3 again (a 4096 x 11008 matrix, 512 rows: 1.33 times as
// fast as the other way round with half as many rows a pass).
constexpr int64_t kActivationBytes = 512 << 10;
constexpr int64_t kRowGroup = 16;  // rows per pass are a multiple, so that kernels run in full groups

int64_t TileCount(const WeightMatrix& w) { return (w.rows + w.kernel->row_tile - 1) / w.kernel->row_tile; }

// The same rows from `begin` on, `n_rows` of them.
ActivationRows Slice(const ActivationRows& x, int64_t begin, int64_t n_rows) {
  ActivationRows part = x;
  part.n_rows = n_rows;
  part.f32 = x.f32 ? x.f32 + begin * x.n_cols : nullptr;
  part.bf16 = x.bf16 ? x.bf16 + begin * x.n_cols : nullptr;
  if (x.q) {
    part.q = x.q + begin * x.n_cols;
    part.scales = x.scales + begin * (x.n_cols / kActivationBlock);
    part.scaled_sums = x.scaled_sums + begin * (x.n_cols / kActivationBlock);
    part.sums = x.sums + begin * (x.n_cols / kActivationSum);
  }
  return part;
}

// The forms of the rows that some task wants, besides F32.
struct WantedForms {
  const VectorOps* quantizer = nullptr;
  bool bf16 = false;
};

WantedForms FormsOf(std::span<const MatMulTask> tasks) {
  WantedForms wanted;
  for (const MatMulTask& task : tasks) {
    const MatMulKernel& kernel = *task.weights->kernel;
    if (kernel.activation == ActivationFormat::kQ8) wanted.quantizer = &VectorOpsFor(kernel.isa);
    if (kernel.activation == ActivationFormat::kBf16) wanted.bf16 = true;
  }
  return wanted;
}

void PrepareRows(ThreadPool& pool, const WantedForms& wanted, const ActivationRows& x, RowTask prepare) {
  if (!wanted.quantizer && !wanted.bf16 && !prepare) return;
  PANTRY_CHECK(!wanted.quantizer || (x.q && x.scales && x.scaled_sums && x.sums));
  PANTRY_CHECK(!wanted.bf16 || x.bf16);
  constexpr int64_t kColsPerItem = 4 << 10;  // some microseconds
  const int64_t rows_per_item = std::max<int64_t>(1, kColsPerItem / x.n_cols);
  const int64_t n_items = (x.n_rows + rows_per_item - 1) / rows_per_item;
  const auto body = [&](int64_t item, int) {
    const int64_t end = std::min(x.n_rows, (item + 1) * rows_per_item);
    for (int64_t row = item * rows_per_item; row < end; ++row) {
      if (prepare) prepare(row);
      if (wanted.quantizer) wanted.quantizer->quantize_row(x, row);
      if (wanted.bf16) RoundRowToBf16(x, row);
    }
  };
  if (n_items == 1) return body(0, 0);
  pool.ParallelFor(n_items, body);
}

// Where a task's tiles lie in the bytes of all tasks, one after another.
struct TileSpan {
  int64_t first_byte;
  int64_t tile_bytes;
  int64_t n_tiles;

  // The first tile that begins at `byte` or behind it; n_tiles if none does.
  int64_t TileAt(int64_t byte) const {
    return std::clamp<int64_t>((byte - first_byte + tile_bytes - 1) / tile_bytes, 0, n_tiles);
  }
};

}  // namespace

void MatMul(ThreadPool& pool, std::span<const MatMulTask> tasks, const ActivationRows& x, RowTask prepare) {
  if (x.n_rows == 0) return;
  PANTRY_CHECK(tasks.size() <= kMaxMatMulTasks);
  std::array<TileSpan, kMaxMatMulTasks> spans;
  int64_t total_bytes = 0;
  for (size_t i = 0; i < tasks.size(); ++i) {
    const WeightMatrix& w = *tasks[i].weights;
    PANTRY_CHECK(w.cols == x.n_cols);
    spans[i] = {total_bytes, w.kernel->packed_tile_bytes(w.cols), TileCount(w)};
    total_bytes += spans[i].n_tiles * spans[i].tile_bytes;
  }
  const WantedForms wanted = FormsOf(tasks);
  PrepareRows(pool, wanted, x, prepare);

  const int64_t fair_bytes = total_bytes / (pool.n_threads() * kChunksPerThread);
  const int64_t min_bytes = kMinChunkBytes / std::min<int64_t>(x.n_rows, 16);  // more rows, more work per byte
  const int64_t chunk_bytes = std::clamp(fair_bytes, min_bytes, kMaxChunkBytes);
  // Equal shares for the threads, whatever tasks they are of.
  const int64_t n_rounds =
      std::max<int64_t>(1, (total_bytes + chunk_bytes * pool.n_threads() - 1) / (chunk_bytes * pool.n_threads()));
  const int64_t n_chunks = n_rounds * pool.n_threads();
  const int64_t row_bytes = x.n_cols * (wanted.quantizer ? 1 : wanted.bf16 ? 2 : 4);
  const int64_t rows_per_pass = std::max<int64_t>(1, kActivationBytes / row_bytes / kRowGroup) * kRowGroup;
  const int64_t n_passes = (x.n_rows + rows_per_pass - 1) / rows_per_pass;

  pool.ParallelFor(n_passes * n_chunks, [&](int64_t item, int) {
    const int64_t first_row = item % n_passes * rows_per_pass;
    const ActivationRows part = Slice(x, first_row, std::min(rows_per_pass, x.n_rows - first_row));
    const int64_t chunk = item / n_passes;
    const int64_t begin_byte = total_bytes * chunk / n_chunks, end_byte = total_bytes * (chunk + 1) / n_chunks;
    for (size_t i = 0; i < tasks.size(); ++i) {
      const int64_t begin = spans[i].TileAt(begin_byte), end = spans[i].TileAt(end_byte);
      if (begin >= end) continue;
      const WeightMatrix& w = *tasks[i].weights;
      w.kernel->compute(w.tiles, w.rows, w.cols, begin, end, part, tasks[i].y + first_row * tasks[i].y_stride,
                        tasks[i].y_stride);
    }
  });
}

}  // namespace pantry
