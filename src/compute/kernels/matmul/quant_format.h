// SPDX-License-Identifier: Apache-2.0
// A QuantFormat says what one integer weight format is made of; kernels and packers are templates over it.
//
// 32 columns of a row are a *block*; blocks that share a scale d (and a minimum) are a *span* of 1 or 8 blocks. A weight is
//   value(code) * w_scale + w_min      w_scale = d * sub_scale, w_min = m or -(dmin * sub_min), each product rounded once to F32
//   value(code) = code - offset, or table[code]
// Plain constants only: files compiled for an instruction set include this, so functions are consteval and leave no symbol.
#pragma once

#include <cstdint>

namespace pantry::matmul {

inline constexpr int kBlockCols = 32;

// What a span keeps besides d and m, per row.
enum class SubScales : uint8_t {
  kNone,
  kSigned,   // a signed byte per sub-block
  kPair,     // a byte of scale per sub-block, then a byte of minimum per sub-block
  kNibbles,  // scale in the low, minimum in the high nibble of a byte per sub-block
  kSixBits,  // 16 codes of 6 bits: 8 bytes of low nibbles (sub-blocks 2i and 2i+1), 4 bytes of bit pairs (4i..4i+3); minus 32
};
enum class CodeTable : uint8_t { kNone, kIq4Nl, kMxfp4 };

struct QuantFormat {
  int bits;         // of a code
  int offset;       // value = code - offset; with a table: what is added to its entries to make them unsigned
  int sub_cols;     // columns that share a scale: 16 or 32
  int span_blocks;  // 1 or 8
  int d_bytes;      // 2: F16. 1: a power of two, 2^(byte - 128)
  bool has_min;     // an F16 beside d
  SubScales sub;
  CodeTable table;

  consteval int SubCount() const { return span_blocks * kBlockCols / sub_cols; }
  consteval int SubBytes() const {  // per row and span
    switch (sub) {
      case SubScales::kNone: return 0;
      case SubScales::kPair: return 2 * SubCount();
      case SubScales::kSixBits: return 12;
      default: return SubCount();
    }
  }
  consteval int HeadBytes() const {  // d, m and six-bit sub-scales; per row and span
    return d_bytes + (has_min ? 2 : 0) + (sub == SubScales::kSixBits ? SubBytes() : 0);
  }
  consteval int BlockSubBytes() const {  // the other sub-scales; per row and block
    return sub == SubScales::kSixBits ? 0 : SubBytes() / span_blocks;
  }
  consteval int CodeBytes() const { return bits * kBlockCols / 8; }                     // per row and block
  consteval int BlockBytes() const { return BlockSubBytes() + CodeBytes(); }            // per row
  consteval int SpanBytes() const { return HeadBytes() + span_blocks * BlockBytes(); }  // per row
};

// NOLINTBEGIN(readability-identifier-naming): as the formats are written
//                                        bits offset sub span d  min    sub-scales           table
inline constexpr QuantFormat kFormatQ4_0 = {4, 8, 32, 1, 2, false, SubScales::kNone, CodeTable::kNone};
inline constexpr QuantFormat kFormatQ4_1 = {4, 0, 32, 1, 2, true, SubScales::kNone, CodeTable::kNone};
inline constexpr QuantFormat kFormatQ5_0 = {5, 16, 32, 1, 2, false, SubScales::kNone, CodeTable::kNone};
inline constexpr QuantFormat kFormatQ5_1 = {5, 0, 32, 1, 2, true, SubScales::kNone, CodeTable::kNone};
inline constexpr QuantFormat kFormatQ8_0 = {8, 128, 32, 1, 2, false, SubScales::kNone, CodeTable::kNone};
inline constexpr QuantFormat kFormatQ2_K = {2, 0, 16, 8, 2, true, SubScales::kNibbles, CodeTable::kNone};
inline constexpr QuantFormat kFormatQ3_K = {3, 4, 16, 8, 2, false, SubScales::kSixBits, CodeTable::kNone};
inline constexpr QuantFormat kFormatQ4_K = {4, 0, 32, 8, 2, true, SubScales::kPair, CodeTable::kNone};
inline constexpr QuantFormat kFormatQ5_K = {5, 0, 32, 8, 2, true, SubScales::kPair, CodeTable::kNone};
inline constexpr QuantFormat kFormatQ6_K = {6, 32, 16, 8, 2, false, SubScales::kSigned, CodeTable::kNone};
inline constexpr QuantFormat kFormatIQ4_NL = {4, 128, 32, 1, 2, false, SubScales::kNone, CodeTable::kIq4Nl};
inline constexpr QuantFormat kFormatIQ4_XS = {4, 128, 32, 8, 2, false, SubScales::kSigned, CodeTable::kIq4Nl};
inline constexpr QuantFormat kFormatMXFP4 = {4, 12, 32, 1, 1, false, SubScales::kNone, CodeTable::kMxfp4};
// NOLINTEND(readability-identifier-naming)

}  // namespace pantry::matmul
