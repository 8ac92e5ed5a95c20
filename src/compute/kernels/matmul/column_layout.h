// SPDX-License-Identifier: Apache-2.0
// The ColumnLayout puts a column's codes side by side, so that a kernel reads only the columns whose activation is not zero.
//
// A tile is kColumnRows rows:
//   for each block of 32 columns { d[kColumnRows] F16 } | for each column { codes[kColumnRows] }
// so that scales, which are always read, are one stream; interleaved with the codes, most of which are not, they cost as much as those.
// A column's codes come in groups of 4 R bytes, R being the 32-bit lanes of a vector: 4 R rows of 8-bit codes (unsigned, with the format's
// offset), or 8 R rows of nibbles, the first half low and the second high. Byte 16 l + 4 i + j of a group is row R i + 4 l + j of a half:
// unpacking four columns' bytes, which a vector does in parts of 16 bytes, then puts R neighbouring rows into each vector.
// The bytes are as many as in the GGUF rows. For formats of one F16 scale a block and codes of 4 or 8 bits.
#pragma once

#include <cstdint>
#include <cstring>

#include "compute/kernels/matmul/column_tile.h"
#include "compute/kernels/matmul/gguf_block.h"
#include "compute/kernels/matmul/matmul_kernel.h"
#include "compute/kernels/matmul/weight_block.h"

namespace pantry::matmul {

template <TensorType T, int R>
struct ColumnLayout {
  static constexpr int32_t kRowTile = kColumnRows;
  static constexpr WeightOrder kOrder = WeightOrder::kColumns;
  static constexpr QuantFormat kF = kFormatOf<T>;
  static constexpr int kColumn = kColumnRows * kF.bits / 8;
  static_assert(kF.span_blocks == 1 && kF.d_bytes == 2 && !kF.has_min && (kF.bits == 4 || kF.bits == 8));

  static int64_t TileBytes(int64_t cols) { return cols / kBlockCols * kColumnScaleBytes + cols * kColumn; }

  static void Pack(const uint8_t* rows, int64_t n_rows, int64_t cols, uint8_t* tile) {
    const int64_t n_blocks = cols / kBlockCols;
    if (n_rows < kColumnRows) std::memset(tile, 0, static_cast<size_t>(TileBytes(cols)));
    for (int64_t first = 0; first < n_rows; first += kGroupRows) {
      const int n = static_cast<int>(n_rows - first < kGroupRows ? n_rows - first : kGroupRows);
      for (int64_t b = 0; b < n_blocks; ++b) {
        uint8_t codes[kBlockCols][kGroupRows] = {};  // what is missing has zero codes and a scale of zero
        for (int i = 0; i < n; ++i) {
          WeightBlock weights;
          ReadBlock<T>(rows + ((first + i) * n_blocks + b) * GgufSpanBytes<T>(), 0, &weights);
          std::memcpy(tile + b * kColumnScaleBytes + 2 * (first + i), &weights.d, 2);
          for (int c = 0; c < kBlockCols; ++c) codes[c][PlaceOf(i)] = weights.codes[c];
        }
        uint8_t* const to = tile + n_blocks * kColumnScaleBytes + b * kBlockCols * kColumn + first * kF.bits / 8;
        for (int c = 0; c < kBlockCols; ++c) PutGroup(codes[c], to + c * kColumn);
      }
    }
  }

  static void UnpackRow(const uint8_t* tile, int64_t cols, int64_t row, float* out) {
    const int64_t n_blocks = cols / kBlockCols;
    for (int64_t b = 0; b < n_blocks; ++b, out += kBlockCols) {
      WeightBlock decoded;
      decoded.d = LoadU16(tile + b * kColumnScaleBytes + 2 * row);
      const uint8_t* const codes =
          tile + n_blocks * kColumnScaleBytes + b * kBlockCols * kColumn + row / kGroupRows * kGroup;
      const int place = PlaceOf(static_cast<int>(row % kGroupRows));
      for (int c = 0; c < kBlockCols; ++c) {
        const uint8_t byte = codes[c * kColumn + place % kGroup];
        decoded.codes[c] = kF.bits == 8 ? byte : static_cast<uint8_t>(byte >> (place / kGroup * 4) & 15);
      }
      DecodeBlock<T>(decoded, out);
    }
  }

 private:
  static constexpr int kGroup = 4 * R;                     // bytes
  static constexpr int kGroupRows = kGroup * 8 / kF.bits;  // rows
  static_assert(kColumnRows % kGroupRows == 0);

  // Of row `row` of a group: its byte, + kGroup where it is the high nibble.
  static constexpr int PlaceOf(int row) {
    const int in_half = row % kGroup;
    return row / kGroup * kGroup + in_half % R / 4 * 16 + in_half / R * 4 + in_half % 4;
  }

  static void PutGroup(const uint8_t* codes, uint8_t* to) {
    if constexpr (kF.bits == 8) {
      std::memcpy(to, codes, kGroup);
    } else {
      for (int i = 0; i < kGroup; ++i) to[i] = static_cast<uint8_t>(codes[i] | codes[i + kGroup] << 4);
    }
  }
};

template <TensorType T>
using Columns4 = ColumnLayout<T, 4>;
template <TensorType T>
using Columns8 = ColumnLayout<T, 8>;
template <TensorType T>
using Columns16 = ColumnLayout<T, 16>;

}  // namespace pantry::matmul
