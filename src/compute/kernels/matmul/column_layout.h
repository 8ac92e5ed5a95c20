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
  static_assert(kF.span_blocks == 1 && kF.d_bytes == 2 && !kF.has_min &&
                (T == TensorType::kQ8_0 || kIsSimpleNibbles<T>));

  static int64_t TileBytes(int64_t cols) { return cols / kBlockCols * kColumnScaleBytes + cols * kColumn; }

  // What is missing has zero codes and a scale of zero.
  static void Pack(const uint8_t* rows, int64_t n_rows, int64_t cols, uint8_t* tile) {
    const int64_t n_blocks = cols / kBlockCols;
    if (n_rows < kColumnRows) std::memset(tile, 0, static_cast<size_t>(TileBytes(cols)));
    for (int64_t row = 0; row < n_rows; ++row) {
      const uint8_t* const scales = rows + row * n_blocks * GgufSpanBytes<T>();
      for (int64_t b = 0; b < n_blocks; ++b) {
        std::memcpy(tile + b * kColumnScaleBytes + 2 * row, scales + b * GgufSpanBytes<T>(), kF.d_bytes);
      }
    }
    uint8_t* const codes = tile + n_blocks * kColumnScaleBytes;
    for (int64_t first = 0; first < n_rows; first += kGroupRows) {
      for (int64_t b = 0; b < n_blocks; ++b) {
        uint8_t* const to = codes + b * kBlockCols * kColumn + first * kF.bits / 8;
        for (int part = 0; part < kGroup; part += kVector) PackPart(rows, n_rows, n_blocks, b, first, part, to + part);
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
  static constexpr int kVector = 16;
  using Bytes = uint8_t __attribute__((vector_size(kVector)));

  static constexpr int kGroup = 4 * R;                     // bytes
  static constexpr int kGroupRows = kGroup * 8 / kF.bits;  // rows
  static_assert(kColumnRows % kGroupRows == 0);

  // Of row `row` of a group: its byte, + kGroup where it is the high nibble.
  static constexpr int PlaceOf(int row) {
    const int in_half = row % kGroup;
    return row / kGroup * kGroup + in_half % R / 4 * 16 + in_half / R * 4 + in_half % 4;
  }

  static Bytes CodesOf(const uint8_t* rows, int64_t n_rows, int64_t n_blocks, int64_t b, int64_t row, int from) {
    Bytes codes = {};
    if (row >= n_rows) return codes;
    std::memcpy(&codes, rows + (row * n_blocks + b) * GgufSpanBytes<T>() + kF.d_bytes + from, kVector);
    return kF.bits == 8 ? codes ^ uint8_t { 0x80 } : codes;
  }

  // Bytes [part, part + kVector) of a group of the block's columns, which begins at row `first`: kVector rows, or pairs of them, whose codes
  // are turned from rows into columns.
  static void PackPart(const uint8_t* rows, int64_t n_rows, int64_t n_blocks, int64_t b, int64_t first, int part,
                       uint8_t* to) {
    Bytes left[kVector], right[kVector];  // columns 0 to 15, and 16 to 31
    for (int i = 0; i < kVector; ++i) {
      const int64_t row = first + R * (i / 4) + part / 4 + i % 4;
      const Bytes codes = CodesOf(rows, n_rows, n_blocks, b, row, 0);
      if constexpr (kF.bits == 8) {
        left[i] = codes;
        right[i] = CodesOf(rows, n_rows, n_blocks, b, row, kVector);
      } else {
        const Bytes others = CodesOf(rows, n_rows, n_blocks, b, row + kGroup, 0);
        left[i] = (codes & uint8_t{15}) | (others << 4);
        right[i] = (codes >> 4) | (others & uint8_t{0xF0});
      }
    }
    Transpose(left);
    Transpose(right);
    for (int c = 0; c < kVector; ++c) {
      std::memcpy(to + c * kColumn, &left[c], kVector);
      std::memcpy(to + (c + kVector) * kColumn, &right[c], kVector);
    }
  }

  // Byte j of vector i changes places with byte i of vector j: four rounds of a perfect shuffle of all bytes.
  static void Transpose(Bytes (&v)[kVector]) {
    for (int round = 0; round < 4; ++round) {
      Bytes shuffled[kVector];
      for (int i = 0; i < kVector / 2; ++i) {
        const Bytes a = v[i], b = v[i + kVector / 2];
        shuffled[2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        shuffled[2 * i + 1] =
            __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
      }
      std::memcpy(v, shuffled, sizeof(shuffled));
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
