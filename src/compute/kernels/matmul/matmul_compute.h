// SPDX-License-Identifier: Apache-2.0
// Declares the compute function of every kernel of matmul_kernels.inc; the contract is MatMulKernel::compute.
//
// Plain declarations only: files compiled for an instruction set include this. Such a file has, in its anonymous namespace, a template
// Compute<QuantFormat>(PANTRY_MATMUL_ARGS), and below it PANTRY_INTEGER_FORMATS(PANTRY_DEFINE_INTEGER_KERNEL, its suffix).
#pragma once

#include <cstdint>

#include "compute/activations.h"

// The formats with kernels: X(format, ...) for each.
#define PANTRY_FLOAT_FORMATS(X, ...) X(F32, __VA_ARGS__) X(F16, __VA_ARGS__) X(BF16, __VA_ARGS__)
#define PANTRY_INTEGER_FORMATS(X, ...) \
  X(Q4_0, __VA_ARGS__)                 \
  X(Q4_1, __VA_ARGS__)                 \
  X(Q5_0, __VA_ARGS__)                 \
  X(Q5_1, __VA_ARGS__)                 \
  X(Q8_0, __VA_ARGS__)                 \
  X(Q2_K, __VA_ARGS__)                 \
  X(Q3_K, __VA_ARGS__)                 \
  X(Q4_K, __VA_ARGS__)                 \
  X(Q5_K, __VA_ARGS__)                 \
  X(Q6_K, __VA_ARGS__)                 \
  X(IQ4_NL, __VA_ARGS__)               \
  X(IQ4_XS, __VA_ARGS__)               \
  X(MXFP4, __VA_ARGS__)
// Those that lie in rows and columns, too: of one F16 scale a block and codes of 4 or 8 bits.
#define PANTRY_SPARSE_FORMATS(X, ...) X(Q4_0, __VA_ARGS__) X(Q8_0, __VA_ARGS__)

#define PANTRY_MATMUL_ARGS                                                                                         \
  const uint8_t *tiles, int64_t rows, int64_t cols, int64_t tile_begin, int64_t tile_end, const ActivationRows &x, \
      float *y, int64_t y_stride
#define PANTRY_DEFINE_INTEGER_KERNEL(format, suffix)                                   \
  void Compute##format##_##suffix(PANTRY_MATMUL_ARGS) {                                \
    Compute<kFormat##format>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride); \
  }
#define PANTRY_ROWS_AT_ARGS \
  const uint8_t *const *rows, int64_t n, int64_t cols, const ActivationRows &x, float *y, int64_t y_stride
#define PANTRY_COLUMNS_AT_ARGS                                                                              \
  const uint8_t *const *columns, const uint8_t *scales, int64_t rows, int64_t tile_begin, int64_t tile_end, \
      int64_t col_begin, int64_t col_end, const ActivationRows &x, float *y, int64_t y_stride
#define PANTRY_DEFINE_ROW_KERNEL(format, suffix)                                           \
  void Compute##format##_##suffix(PANTRY_MATMUL_ARGS) {                                    \
    ComputeRows<kFormat##format>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride); \
  }                                                                                        \
  void ComputeAt##format##_##suffix(PANTRY_ROWS_AT_ARGS) {                                 \
    ComputeRowsAt<kFormat##format>(rows, n, cols, x, y, y_stride);                         \
  }
#define PANTRY_DEFINE_COLUMN_KERNEL(format, suffix)                                                          \
  void Compute##format##_##suffix(PANTRY_MATMUL_ARGS) {                                                      \
    ComputeColumns<kFormat##format>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride);                \
  }                                                                                                          \
  void ComputeAt##format##_##suffix(PANTRY_COLUMNS_AT_ARGS) {                                                \
    ComputeColumnsAt<kFormat##format>(columns, scales, rows, tile_begin, tile_end, col_begin, col_end, x, y, \
                                      y_stride);                                                             \
  }
#define PANTRY_DEFINE_FLOAT_KERNEL(format, suffix)                                        \
  void Compute##format##_##suffix(PANTRY_MATMUL_ARGS) {                                   \
    Compute<Element::k##format>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride); \
  }

namespace pantry::matmul {

#define PANTRY_KERNEL(format, activation, isa, suffix, layout) void Compute##format##_##suffix(PANTRY_MATMUL_ARGS);
#define PANTRY_ROW_KERNEL(format, activation, isa, suffix, layout) \
  void Compute##format##_##suffix(PANTRY_MATMUL_ARGS);             \
  void ComputeAt##format##_##suffix(PANTRY_ROWS_AT_ARGS);
#define PANTRY_COLUMN_KERNEL(format, activation, isa, suffix, layout) \
  void Compute##format##_##suffix(PANTRY_MATMUL_ARGS);                \
  void ComputeAt##format##_##suffix(PANTRY_COLUMNS_AT_ARGS);
#include "compute/kernels/matmul/matmul_kernels.inc"
#undef PANTRY_COLUMN_KERNEL
#undef PANTRY_ROW_KERNEL
#undef PANTRY_KERNEL

}  // namespace pantry::matmul
