// SPDX-License-Identifier: Apache-2.0
// A WeightMatrix is a packed matrix with the kernel that knows its layout; MatMul() multiplies several of them with the same rows.
//
// Threads: MatMul() from the pool's owner. A WeightMatrix is a view; the bytes live in the model's weight memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "base/block_id.h"
#include "base/function_ref.h"
#include "compute/activations.h"
#include "compute/kernels/matmul/matmul_kernel.h"
#include "sys/thread_pool.h"

namespace pantry {

struct WeightMatrix {
  const MatMulKernel* kernel = nullptr;  // null: no such matrix
  int64_t rows = 0;                      // outputs
  int64_t cols = 0;                      // inputs
  const uint8_t* tiles = nullptr;        // 64-byte aligned; null where they come from a source, in blocks
  BlockId first_block = kNoBlock;        // then: of the blocks, one after another, each of
  int64_t rows_per_block = 0;            // so many rows (whole tiles), the last one of the rest

  explicit operator bool() const { return kernel != nullptr; }
  int64_t n_tiles() const { return (rows + kernel->row_tile - 1) / kernel->row_tile; }
  static int64_t PackedBytes(const MatMulKernel& kernel, int64_t rows, int64_t cols) {
    return (rows + kernel.row_tile - 1) / kernel.row_tile * kernel.packed_tile_bytes(cols);
  }
  // Decodes row `row` to out[cols]: an embedding look-up.
  void UnpackRow(int64_t row, float* out) const {
    kernel->unpack_row(tiles + row / kernel->row_tile * kernel->packed_tile_bytes(cols), cols, row % kernel->row_tile,
                       out);
  }
};

// Packs n_rows GGUF rows of `row_bytes` each, contiguous at `rows`, into the tiles from `tiles` on.
inline void PackRows(const MatMulKernel& kernel, const uint8_t* rows, int64_t row_bytes, int64_t n_rows, int64_t cols,
                     uint8_t* tiles) {
  for (int64_t row = 0; row < n_rows; row += kernel.row_tile, tiles += kernel.packed_tile_bytes(cols)) {
    kernel.pack_tile(rows + row * row_bytes, std::min<int64_t>(kernel.row_tile, n_rows - row), cols, tiles);
  }
}

struct MatMulTask {
  const WeightMatrix* weights;
  float* y;  // [x.n_rows, y_stride], columns [0, weights->rows) written
  int64_t y_stride;
};

inline constexpr size_t kMaxMatMulTasks = 8;  // of one MatMul()

// What is to be done to each row before the product: body(row). Empty: nothing.
using RowTask = FunctionRef<void(int64_t row)>;

// Brings rows of x into the forms that the tasks' kernels want (Q8, BF16; those parts of x must point at scratch then), each right after
// `prepare`, which may be what writes x.f32; then computes all tasks in one parallel loop over tiles. Results do not depend on the pool's size.
void MatMul(ThreadPool& pool, std::span<const MatMulTask> tasks, const ActivationRows& x, RowTask prepare = {});
// The same of rows that are in these forms already. The caller runs aside() while the others begin (ThreadPool::ParallelFor).
void MatMulPrepared(ThreadPool& pool, std::span<const MatMulTask> tasks, const ActivationRows& x,
                    FunctionRef<void()> aside = {});

// y[m, n] = rows list[i] of a matrix in rows times x, by the calling thread. At most kMostListedRows.
inline constexpr size_t kMostListedRows = 2048;
void MultiplyListed(const WeightMatrix& w, std::span<const int32_t> list, const ActivationRows& x, float* y);

}  // namespace pantry
