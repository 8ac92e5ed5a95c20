// SPDX-License-Identifier: Apache-2.0
// The FloatLayout puts four rows of F32, F16 or BF16 numbers side by side in groups of 16 columns, or of 32 where an instruction takes
// pairs; a last short group is padded with zeros.
//
//   tile = groups [ceil(cols / 16)] of [4 rows][16 columns]
//
// So one sequential stream feeds four outputs, and a group of a row is one vector of the 16 canonical lanes.
#pragma once

#include <cstdint>
#include <cstring>

#include "compute/kernels/matmul/matmul_kernel.h"
#include "weights/quant/dequantize.h"
#include "weights/quant/tensor_type.h"

namespace pantry::matmul {

template <TensorType T, int64_t kGroupCols = 16>
struct FloatLayout {
  static constexpr int32_t kRowTile = 4;
  static constexpr WeightOrder kOrder = WeightOrder::kTiles;
  static constexpr int64_t kElement = T == TensorType::kF32 ? 4 : 2;
  static constexpr int64_t kGroup = kGroupCols * kElement;

  static int64_t GroupCount(int64_t cols) { return (cols + kGroupCols - 1) / kGroupCols; }
  static int64_t TileBytes(int64_t cols) { return GroupCount(cols) * kRowTile * kGroup; }

  static void Pack(const uint8_t* rows, int64_t n_rows, int64_t cols, uint8_t* tile) {
    std::memset(tile, 0, static_cast<size_t>(TileBytes(cols)));
    for (int64_t row = 0; row < n_rows; ++row) {
      for (int64_t g = 0; g < GroupCount(cols); ++g) {
        const int64_t n = cols - g * kGroupCols < kGroupCols ? cols - g * kGroupCols : kGroupCols;
        std::memcpy(tile + (g * kRowTile + row) * kGroup, rows + (row * cols + g * kGroupCols) * kElement,
                    static_cast<size_t>(n * kElement));
      }
    }
  }

  static void UnpackRow(const uint8_t* tile, int64_t cols, int64_t row, float* out) {
    for (int64_t g = 0; g < GroupCount(cols); ++g) {
      const int64_t n = cols - g * kGroupCols < kGroupCols ? cols - g * kGroupCols : kGroupCols;
      DequantizeRow(T, tile + (g * kRowTile + row) * kGroup, n, out + g * kGroupCols);
    }
  }
};

template <TensorType T>
using PairLayout = FloatLayout<T, 32>;

}  // namespace pantry::matmul
