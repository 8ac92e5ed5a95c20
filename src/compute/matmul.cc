// SPDX-License-Identifier: Apache-2.0
#include "compute/matmul.h"

#include <algorithm>
#include <array>

#include "base/status.h"
#include "compute/kernels/vector_ops/vector_ops.h"
#include "compute/product_chunks.h"
#include "weights/quant/tensor_type.h"

namespace pantry {
namespace {

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
  PrepareRows(pool, FormsOf(tasks), x, prepare);
  MatMulPrepared(pool, tasks, x);
}

void MatMulPrepared(ThreadPool& pool, std::span<const MatMulTask> tasks, const ActivationRows& x,
                    FunctionRef<void()> aside) {
  if (x.n_rows == 0) {
    if (aside) aside();
    return;
  }
  PANTRY_CHECK(tasks.size() <= kMaxMatMulTasks);
  std::array<TileSpan, kMaxMatMulTasks> spans;
  int64_t total_bytes = 0;
  for (size_t i = 0; i < tasks.size(); ++i) {
    const WeightMatrix& w = *tasks[i].weights;
    PANTRY_CHECK(w.cols == x.n_cols);
    spans[i] = {total_bytes, w.kernel->packed_tile_bytes(w.cols), w.n_tiles()};
    total_bytes += spans[i].n_tiles * spans[i].tile_bytes;
  }
  const WantedForms wanted = FormsOf(tasks);
  const bool one_row = x.n_rows == 1;
  const int64_t n_threads = pool.n_threads();
  const int64_t chunk_bytes =
      ChunkBytes(total_bytes, x.n_rows, pool.n_threads(), one_row ? kMaxOneRowChunkBytes : kMaxChunkBytes);
  // Equal shares for the threads, whatever tasks they are of.
  const int64_t n_rounds =
      std::max<int64_t>(1, (total_bytes + chunk_bytes * n_threads - 1) / (chunk_bytes * n_threads));
  const int64_t n_chunks = n_rounds * n_threads;
  const auto begin_of = [&](int64_t chunk) {
    if (!one_row) return total_bytes * chunk / n_chunks;
    const int64_t share = chunk / n_rounds, first = total_bytes * share / n_threads;
    return first + ShrinkingChunk(total_bytes * (share + 1) / n_threads - first, chunk % n_rounds, n_rounds);
  };
  const int64_t row_bytes = x.n_cols * (wanted.quantizer ? 1 : wanted.bf16 ? 2 : 4);
  const int64_t rows_per_pass = RowsPerPass(row_bytes);
  const int64_t n_passes = (x.n_rows + rows_per_pass - 1) / rows_per_pass;

  const auto compute = [&](int64_t item, int) {
    const int64_t first_row = item % n_passes * rows_per_pass;
    const ActivationRows part = x.Rows(first_row, std::min(rows_per_pass, x.n_rows - first_row));
    const int64_t chunk = item / n_passes;
    const int64_t begin_byte = begin_of(chunk), end_byte = begin_of(chunk + 1);
    for (size_t i = 0; i < tasks.size(); ++i) {
      const int64_t begin = spans[i].TileAt(begin_byte), end = spans[i].TileAt(end_byte);
      if (begin >= end) continue;
      const WeightMatrix& w = *tasks[i].weights;
      w.kernel->compute(w.tiles, w.rows, w.cols, begin, end, part, tasks[i].y + first_row * tasks[i].y_stride,
                        tasks[i].y_stride);
    }
  };
  pool.ParallelFor(n_passes * n_chunks, compute, aside);
}

void MultiplyListed(const WeightMatrix& w, std::span<const int32_t> list, const ActivationRows& x, float* y) {
  PANTRY_CHECK(list.size() <= kMostListedRows);
  std::array<const uint8_t*, kMostListedRows> rows;
  const int64_t tile = w.kernel->row_tile, tile_bytes = w.kernel->packed_tile_bytes(w.cols);
  const int64_t row_bytes = RowBytes(w.kernel->type, w.cols);
  for (size_t i = 0; i < list.size(); ++i) rows[i] = w.tiles + list[i] / tile * tile_bytes + list[i] % tile * row_bytes;
  const auto n = static_cast<int64_t>(list.size());
  w.kernel->compute_rows_at(rows.data(), n, w.cols, x, y, n);
}

}  // namespace pantry
