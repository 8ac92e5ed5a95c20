// SPDX-License-Identifier: Apache-2.0
// A MatMulKernel multiplies a packed weight matrix of one number format with rows of activations, on one instruction set.
//
//   y[m, n] = sum over k of W[n, k] * x[m, k]        W: [rows, cols], x: [m, cols], y: [m, rows], all row-major in meaning
//
// Packed layout: `row_tile` neighbouring rows are interleaved into a tile, so that one vector instruction feeds that many outputs; a
// matrix is ceil(rows / row_tile) tiles of packed_tile_bytes(cols) each, the last one padded with zero rows. What a tile looks like
// inside is the kernel's own business; it holds the same information as the GGUF rows and at most 3 % more bytes. Matrices of which a
// token needs a part only may lie in another order (WeightOrder).
//
// Order of summation (all kernels, all shapes): an output element is accumulated along k in ascending order, block by block, in one F32
// accumulator. Integer formats: inside a block of 32 columns (16 where the format has 16-wide sub-blocks) the products are summed exactly
// in int32 and enter as
//   acc = fma(float(isum), w_scale * x_scale, acc)    isum = sum of (code - offset) * q, exact
//   acc = fma(w_min, x_scaled_sum, acc)               for formats with a minimum per block of 32, after the first
//   acc = fma(w_min, x_scale * float(xsum), acc)      for formats with a minimum per sub-block (K-quants), after the first
// F16, BF16 and F32 weights: 16 partial sums, lane l takes columns k with k % 16 == l in ascending order by fma, the lanes reduced in a
// fixed tree (l with l+8, l+4, l+2, l+1). So results do not depend on m, on tile ranges or on threads, and integer formats give the same
// bits on every instruction set that has fused multiply-add. x86-64-v2 has none: there fma(a, b, c) is a * b, rounded, + c, and results
// differ in the last bits from every other level's; they still depend on nothing else. Nor do those of AVX512-BF16, whose BF16 kernel
// multiplies with activations rounded to BF16, lane l taking columns k with k % 32 / 2 == l.
// Threads: compute() writes only the outputs of its tile range; distinct ranges may run in parallel.
#pragma once

#include <cstdint>
#include <span>

#include "compute/activations.h"
#include "sys/isa.h"
#include "weights/quant/tensor_type.h"

namespace pantry {

enum class ActivationFormat : uint8_t { kF32, kBf16, kQ8 };

// What lies side by side in packed weights. All orders give the same bits.
enum class WeightOrder : uint8_t {
  kTiles,    // as the instruction set wants them: the fastest where all weights are used
  kRows,     // whole GGUF rows: any of them can be computed alone, for outputs most of which nobody needs
  kColumns,  // column by column within a tile: columns whose activation is zero are not read
};

struct MatMulKernel {
  const char* name;  // "q4_1_avx512vnni"
  TensorType type;
  Isa isa;
  ActivationFormat activation;
  WeightOrder order;
  int32_t row_tile;  // rows of a tile

  // Bytes of one tile; a multiple of 64.
  int64_t (*packed_tile_bytes)(int64_t cols);
  // Packs n_rows (1..row_tile) GGUF rows, contiguous at `rows`, into `tile`; missing rows become zero weights.
  void (*pack_tile)(const uint8_t* rows, int64_t n_rows, int64_t cols, uint8_t* tile);
  // Decodes row `row` (0..row_tile-1) of a tile to out[cols]: the same values as DequantizeRow() of the GGUF row, bit for bit.
  void (*unpack_row)(const uint8_t* tile, int64_t cols, int64_t row, float* out);
  // Computes outputs n in [tile_begin * row_tile, min(tile_end * row_tile, rows)) for all x.n_rows rows:
  // y[m * y_stride + n]. `tiles` points at tile 0 of the matrix. REQUIRES: x.n_cols == cols; x.q filled when activation == kQ8.
  void (*compute)(const uint8_t* tiles, int64_t rows, int64_t cols, int64_t tile_begin, int64_t tile_end,
                  const ActivationRows& x, float* y, int64_t y_stride);

  // Parts of a matrix wherever they lie, e.g. one by one in a cache; results as compute() gives them.
  // kRows only, else null. y[m * y_stride + i] = the GGUF row at rows[i], i in [0, n).
  void (*compute_rows_at)(const uint8_t* const* rows, int64_t n, int64_t cols, const ActivationRows& x, float* y,
                          int64_t y_stride);
  // kColumns only, else null. Outputs of tiles [tile_begin, tile_end) over columns [col_begin, col_end), multiples of 32: y[m * y_stride + n],
  // added to what is there where col_begin > 0; so a range after another gives what compute() gives. Column k's codes, those of all tiles
  // one behind the other, at columns[k]; scales: F16 [x.n_cols / 32][tiles][row_tile]. A column for which no row of x has a number but
  // zero may lie anywhere.
  void (*compute_columns_at)(const uint8_t* const* columns, const uint8_t* scales, int64_t rows, int64_t tile_begin,
                             int64_t tile_end, int64_t col_begin, int64_t col_end, const ActivationRows& x, float* y,
                             int64_t y_stride);
};

// All kernels of this build, in no particular order; the table is matmul_kernels.inc.
std::span<const MatMulKernel> AllMatMulKernels();

// The kernel for `type` of the best level that `isa` includes (scalar has all in tiles, and no other order). Null when `type` is no weight
// format, or not one with this order.
const MatMulKernel* FindMatMulKernel(TensorType type, Isa isa, WeightOrder order = WeightOrder::kTiles);

}  // namespace pantry
