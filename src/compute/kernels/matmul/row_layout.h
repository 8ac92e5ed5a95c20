// SPDX-License-Identifier: Apache-2.0
// The RowLayout keeps a GGUF row as it is, padded to 64 bytes: one row per tile, for the scalar kernels; the ListedRowLayout has
// sixteen rows in a tile, padded together, for the kernels that compute any rows of a matrix.
#pragma once

#include <cstdint>
#include <cstring>

#include "compute/kernels/matmul/matmul_kernel.h"
#include "weights/quant/dequantize.h"
#include "weights/quant/tensor_type.h"

namespace pantry::matmul {

template <TensorType T>
struct RowLayout {
  static constexpr int32_t kRowTile = 1;
  static constexpr WeightOrder kOrder = WeightOrder::kTiles;
  static int64_t TileBytes(int64_t cols) { return (RowBytes(T, cols) + 63) / 64 * 64; }
  static void Pack(const uint8_t* rows, int64_t n_rows, int64_t cols, uint8_t* tile) {
    const int64_t n_bytes = RowBytes(T, cols) * n_rows;  // n_rows is 1
    std::memcpy(tile, rows, static_cast<size_t>(n_bytes));
    std::memset(tile + n_bytes, 0, static_cast<size_t>(TileBytes(cols) - n_bytes));
  }
  static void UnpackRow(const uint8_t* tile, int64_t cols, int64_t, float* out) { DequantizeRow(T, tile, cols, out); }
};

template <TensorType T>
struct ListedRowLayout {
  static constexpr int32_t kRowTile = 16;
  static constexpr WeightOrder kOrder = WeightOrder::kRows;
  static int64_t TileBytes(int64_t cols) { return (kRowTile * RowBytes(T, cols) + 63) / 64 * 64; }
  static void Pack(const uint8_t* rows, int64_t n_rows, int64_t cols, uint8_t* tile) {
    const int64_t n_bytes = n_rows * RowBytes(T, cols);
    std::memcpy(tile, rows, static_cast<size_t>(n_bytes));
    std::memset(tile + n_bytes, 0, static_cast<size_t>(TileBytes(cols) - n_bytes));
  }
  static void UnpackRow(const uint8_t* tile, int64_t cols, int64_t row, float* out) {
    DequantizeRow(T, tile + row * RowBytes(T, cols), cols, out);
  }
};

}  // namespace pantry::matmul
