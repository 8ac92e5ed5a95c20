// SPDX-License-Identifier: Apache-2.0
// The InterleavedLayout puts R rows of an integer format side by side, so that one vector holds four columns of R rows.
//
// A tile is a run of spans, a span (R rows x 32 or 256 columns) is
//   d[R] | m[R] | blocks[span_blocks] of { sub-scales[R] of each sub-block | sub-minimums[R] of each | codes }
// so that a kernel reads it strictly forward, which the hardware's prefetchers want: with all sub-scales before the first block, one row
// of Q4_K and Q6_K from DRAM was 20 % slower, with d and m apart from the blocks 40 % (Zen 4). Six-bit sub-scales, of which blocks share
// bytes, do lie before the first block. A block's codes (R rows x 32 columns, groups g = 0..7 of 4 columns) are one or more planes of
// R x 4 bytes, byte (r, j) standing for row r and column 4g + j:
//   8 bits: 8 planes, plane g is group g
//   4 to 6 bits: 4 planes, low nibble of plane p is group p, high nibble group p + 4
//   2, 3, 6 bits: 2 planes more, bits 2i and 2i+1 of plane p are group 4p + i (the lowest two bits, or bits 4 and 5 of six)
//   3, 5 bits: 1 plane more, bit g is group g (the top bit)
// Six-bit sub-scales become bytes in Q4_K and Q5_K (2.8 %) and IQ4_XS (1.5 %); else the bytes are as many as in the GGUF row.
// All is plain C++: the kernels of an instruction set share only QuantFormat with it.
#pragma once

#include <cstdint>
#include <cstring>

#include "compute/kernels/matmul/gguf_block.h"
#include "compute/kernels/matmul/matmul_kernel.h"
#include "compute/kernels/matmul/weight_block.h"

namespace pantry::matmul {

template <TensorType T, int R>
struct InterleavedLayout {
  static constexpr int32_t kRowTile = R;
  static constexpr WeightOrder kOrder = WeightOrder::kTiles;
  static constexpr QuantFormat kF = kFormatOf<T>;
  static constexpr int kSubs = kBlockCols / kF.sub_cols;  // per block
  static constexpr int kPlane = R * 4;
  // Where things lie in a span.
  static constexpr int kMin = R * kF.d_bytes;
  static constexpr int kSixBits = kMin + (kF.has_min ? R * 2 : 0);
  static constexpr int kBlocks = R * kF.HeadBytes();
  static constexpr int kBlock = R * kF.BlockBytes();
  static constexpr int kCodes = R * kF.BlockSubBytes();  // in a block
  // Where planes lie in a block's codes; the formats are such that unused offsets are never read.
  static constexpr int kPairs = kF.bits >= 4 ? 4 * kPlane : 0;
  static constexpr int kTopBits = kF.bits == 3 ? 2 * kPlane : 4 * kPlane;
  static constexpr int kPairShift = kF.bits == 6 ? 4 : 0;
  static constexpr int kTopShift = kF.bits - 1;

  static int64_t SpanCount(int64_t cols) { return cols / (kBlockCols * kF.span_blocks); }
  static int64_t TileBytes(int64_t cols) { return (SpanCount(cols) * R * kF.SpanBytes() + 63) / 64 * 64; }

  static void Pack(const uint8_t* rows, int64_t n_rows, int64_t cols, uint8_t* tile) {
    const int64_t n_spans = SpanCount(cols), row_bytes = n_spans * GgufSpanBytes<T>();
    const int64_t n_bytes = n_spans * R * kF.SpanBytes();
    const bool is_filled = n_rows == R && kF.sub != SubScales::kSixBits;  // those are put together bit by bit
    const int64_t zeros_from = is_filled ? n_bytes : 0;
    std::memset(tile + zeros_from, 0, static_cast<size_t>(TileBytes(cols) - zeros_from));
    for (int64_t s = 0; s < n_spans; ++s) {
      const uint8_t* const from = rows + s * GgufSpanBytes<T>();
      uint8_t* const span = tile + s * R * kF.SpanBytes();
      for (int64_t row = 0; row < n_rows; row += 4) {
        const int64_t n = n_rows - row < 4 ? n_rows - row : 4;
        for (int b = 0; b < kF.span_blocks; ++b) {
          uint8_t* const to = span + kBlocks + b * kBlock;
          uint8_t* const subs = kF.sub == SubScales::kSixBits ? span + kSixBits : to;
          for (int64_t i = row; i < row + n; ++i) {
            WeightBlock block;
            ReadBlock<T>(from + i * row_bytes, b, &block);  // the compiler leaves out what is not used of it
            if (b == 0) PutHeader(block, span, i);
            PutSubScales(block, b, subs, i);
            if (!kHasWords<T> || n < 4) PutCodes(block.codes, to + kCodes + i * 4);
          }
          if constexpr (kHasWords<T>) {
            if (n == 4) PutCodesOfFour(from + row * row_bytes, row_bytes, b, to + kCodes + row * 4);
          }
        }
      }
    }
  }

  static void UnpackRow(const uint8_t* tile, int64_t cols, int64_t row, float* out) {
    for (int64_t s = 0; s < SpanCount(cols); ++s) {
      const uint8_t* span = tile + s * R * kF.SpanBytes();
      for (int b = 0; b < kF.span_blocks; ++b, out += kBlockCols) {
        WeightBlock block;
        block.d = kF.d_bytes == 1 ? span[row] : LoadU16(span + 2 * row);
        if constexpr (kF.has_min) block.m = LoadU16(span + kMin + 2 * row);
        const uint8_t* from = span + kBlocks + b * kBlock;
        GetSubScales(kF.sub == SubScales::kSixBits ? span + kSixBits : from, b, row, &block);
        GetCodes(from + kCodes + row * 4, block.codes);
        DecodeBlock<T>(block, out);
      }
    }
  }

 private:
  static void PutHeader(const WeightBlock& block, uint8_t* span, int64_t row) {
    std::memcpy(span + kF.d_bytes * row, &block.d, kF.d_bytes);  // little endian: the low byte of an exponent
    if constexpr (kF.has_min) std::memcpy(span + kMin + 2 * row, &block.m, 2);
  }

  static void PutSubScales(const WeightBlock& block, int b, uint8_t* sub, int64_t row) {
    for (int i = 0; i < kSubs; ++i) {
      const int s = kF.sub == SubScales::kSixBits ? b * kSubs + i : i;
      const auto scale = static_cast<uint8_t>(block.sub_scale[i]);
      const auto min = static_cast<uint8_t>(block.sub_min[i]);
      if constexpr (kF.sub == SubScales::kSigned) sub[s * R + row] = scale;
      if constexpr (kF.sub == SubScales::kNibbles) sub[s * R + row] = static_cast<uint8_t>(scale | min << 4);
      if constexpr (kF.sub == SubScales::kPair) {
        sub[s * R + row] = scale;
        sub[(kSubs + s) * R + row] = min;
      }
      if constexpr (kF.sub == SubScales::kSixBits) {
        const auto code = static_cast<uint8_t>(scale + 32);
        sub[s / 2 * R + row] |= static_cast<uint8_t>((code & 15) << (s % 2 * 4));
        sub[(8 + s / 4) * R + row] |= static_cast<uint8_t>((code >> 4) << (s % 4 * 2));
      }
    }
  }

  static void GetSubScales(const uint8_t* sub, int b, int64_t row, WeightBlock* block) {
    for (int half = 0; half < 2; ++half) {
      const int s = (kF.sub == SubScales::kSixBits ? b * kSubs : 0) + half * kSubs / 2;
      if constexpr (kF.sub == SubScales::kSigned) block->sub_scale[half] = static_cast<int8_t>(sub[s * R + row]);
      if constexpr (kF.sub == SubScales::kNibbles) {
        block->sub_scale[half] = sub[s * R + row] & 15;
        block->sub_min[half] = sub[s * R + row] >> 4;
      }
      if constexpr (kF.sub == SubScales::kPair) {
        block->sub_scale[half] = sub[s * R + row];
        block->sub_min[half] = sub[(kSubs + s) * R + row];
      }
      if constexpr (kF.sub == SubScales::kSixBits) {
        const int low = sub[s / 2 * R + row] >> (s % 2 * 4) & 15;
        const int high = sub[(8 + s / 4) * R + row] >> (s % 4 * 2) & 3;
        block->sub_scale[half] = static_cast<int8_t>((low | high << 4) - 32);
      }
    }
  }

  // The codes of four rows at once.
  static void PutCodesOfFour(const uint8_t* from, int64_t row_bytes, int b, uint8_t* to) {
    for (int part = 0; part < kF.bits / 4; ++part) {
      CodeWords rows[4];
      for (int i = 0; i < 4; ++i) rows[i] = ReadCodeWords<T>(from + i * row_bytes, b, part);
      const CodeWords a = __builtin_shufflevector(rows[0], rows[1], 0, 4, 1, 5);
      const CodeWords c = __builtin_shufflevector(rows[2], rows[3], 0, 4, 1, 5);
      const CodeWords d = __builtin_shufflevector(rows[0], rows[1], 2, 6, 3, 7);
      const CodeWords e = __builtin_shufflevector(rows[2], rows[3], 2, 6, 3, 7);
      const CodeWords planes[4] = {__builtin_shufflevector(a, c, 0, 1, 4, 5), __builtin_shufflevector(a, c, 2, 3, 6, 7),
                                   __builtin_shufflevector(d, e, 0, 1, 4, 5),
                                   __builtin_shufflevector(d, e, 2, 3, 6, 7)};
      for (int p = 0; p < 4; ++p) std::memcpy(to + (4 * part + p) * kPlane, &planes[p], sizeof(CodeWords));
    }
  }

  // `to` and `from` point at the row's four bytes in the first plane.
  static void PutCodes(const uint8_t* codes, uint8_t* to) {
    if constexpr (kF.bits == 8) {
      for (int g = 0; g < 8; ++g) std::memcpy(to + g * kPlane, codes + 4 * g, 4);
    }
    if constexpr (kF.bits >= 4 && kF.bits <= 6) {
      uint8_t nibbles[16];
      for (int i = 0; i < 16; ++i) nibbles[i] = static_cast<uint8_t>((codes[i] & 15) | codes[i + 16] << 4);
      for (int p = 0; p < 4; ++p) std::memcpy(to + p * kPlane, nibbles + 4 * p, 4);
    }
    if constexpr (kF.bits == 2 || kF.bits == 3 || kF.bits == 6) {
      for (int p = 0; p < 2; ++p) {  // four codes at a time, as the bytes of a word
        uint32_t pairs = 0;
        for (int i = 0; i < 4; ++i) pairs |= (LoadU32(codes + 16 * p + 4 * i) >> kPairShift & 0x03030303u) << (2 * i);
        std::memcpy(to + kPairs + p * kPlane, &pairs, 4);
      }
    }
    if constexpr (kF.bits == 3 || kF.bits == 5) {
      uint32_t bits = 0;
      for (int g = 0; g < 8; ++g) bits |= (LoadU32(codes + 4 * g) >> kTopShift & 0x01010101u) << g;
      std::memcpy(to + kTopBits, &bits, 4);
    }
  }

  static void GetCodes(const uint8_t* from, uint8_t* codes) {
    for (int i = 0; i < kBlockCols; ++i) {
      const int g = i / 4, j = i % 4;
      int code = 0;
      if constexpr (kF.bits == 8) code = from[g * kPlane + j];
      if constexpr (kF.bits >= 4 && kF.bits <= 6) code = from[g % 4 * kPlane + j] >> (g / 4 * 4) & 15;
      if constexpr (kF.bits == 2 || kF.bits == 3 || kF.bits == 6) {
        code |= (from[kPairs + g / 4 * kPlane + j] >> (g % 4 * 2) & 3) << kPairShift;
      }
      if constexpr (kF.bits == 3 || kF.bits == 5) code |= (from[kTopBits + j] >> g & 1) << kTopShift;
      codes[i] = static_cast<uint8_t>(code);
    }
  }
};

template <TensorType T>
using Interleaved4 = InterleavedLayout<T, 4>;
template <TensorType T>
using Interleaved8 = InterleavedLayout<T, 8>;
template <TensorType T>
using Interleaved16 = InterleavedLayout<T, 16>;

}  // namespace pantry::matmul
