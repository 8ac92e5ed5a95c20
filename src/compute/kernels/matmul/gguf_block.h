// SPDX-License-Identifier: Apache-2.0
// ReadBlock() takes 32 columns out of a GGUF row, whatever integer format it has.
//
// Bytes of a format are listed in its branch in their order in the file, [n] counting bytes.
// Source: the layouts of ggml's block structs.
#pragma once

#include <cstdint>
#include <cstring>

#include "compute/kernels/matmul/quant_format.h"
#include "compute/kernels/matmul/weight_block.h"
#include "weights/quant/tensor_type.h"

namespace pantry::matmul {

// GGUF bytes of a span (1 or 8 blocks of 32 columns).
template <TensorType T>
constexpr int GgufSpanBytes() {
  constexpr QuantFormat kF = kFormatOf<T>;
  if constexpr (kF.sub == SubScales::kPair) return kF.SpanBytes() - 4;  // 16 codes of 6 bits take 12 bytes there
  if constexpr (T == TensorType::kIQ4_XS) return kF.SpanBytes() - 2;    // 8 codes of 6 bits take 6
  return kF.SpanBytes();
}

// 16 bytes: columns 0..15 in the low nibbles, 16..31 in the high ones.
inline void ReadNibbles(const uint8_t* qs, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = qs[i] & 15;
    codes[i + 16] = qs[i] >> 4;
  }
}

// Adds bit i of `high` to codes[i] as its bit 4, for 32 codes, eight at a time.
inline void AddFifthBits(uint32_t high, uint8_t* codes) {
  for (int i = 0; i < 4; ++i) {
    const uint64_t byte = high >> (8 * i) & 0xFF;
    const uint64_t selected = byte * 0x0101010101010101u & 0x8040201008040201u;  // byte k keeps bit k
    const uint64_t ones = (selected + 0x7F7F7F7F7F7F7F7Fu) >> 7 & 0x0101010101010101u;
    uint64_t eight;
    std::memcpy(&eight, codes + 8 * i, 8);
    eight |= ones << 4;
    std::memcpy(codes + 8 * i, &eight, 8);
  }
}

// The 6-bit scale and minimum of sub-block `j` (0..7) of Q4_K and Q5_K: 12 bytes, the last 4 hold nibbles of 4..7, the top bits the rest.
inline void ReadPackedPair(const uint8_t* s, int j, WeightBlock* out) {
  int scale = s[j & 3] & 63, min = s[(j & 3) + 4] & 63;
  if (j >= 4) {
    scale = (s[j + 4] & 15) | (s[j - 4] >> 6 << 4);
    min = (s[j + 4] >> 4) | (s[j] >> 6 << 4);
  }
  for (int i = 0; i < 2; ++i) {
    out->sub_scale[i] = static_cast<int8_t>(scale);
    out->sub_min[i] = static_cast<int8_t>(min);
  }
}

template <TensorType T>
inline constexpr bool kIsSimpleNibbles =
    T == TensorType::kQ4_0 || T == TensorType::kQ4_1 || T == TensorType::kIQ4_NL || T == TensorType::kMXFP4;

// Reads block `b` (0..7; 0 in formats with one block per span) of the GGUF span at `p`.
template <TensorType T>
inline void ReadBlock(const uint8_t* p, int b, WeightBlock* out) {
  constexpr QuantFormat kF = kFormatOf<T>;
  const int half = b / 4, quarter = b % 4;  // of a 256-wide span
  if constexpr (kF.span_blocks == 1) {      // [d][m][high bits][codes]
    out->d = kF.d_bytes == 1 ? *p : LoadU16(p);
    p += kF.d_bytes;
    if constexpr (kF.has_min) out->m = LoadU16(p), p += 2;
  }
  if constexpr (kIsSimpleNibbles<T>) {
    ReadNibbles(p, out->codes);
  } else if constexpr (T == TensorType::kQ5_0 || T == TensorType::kQ5_1) {
    ReadNibbles(p + 4, out->codes);
    AddFifthBits(LoadU32(p), out->codes);
  } else if constexpr (T == TensorType::kQ8_0) {
    for (int i = 0; i < 32; ++i) out->codes[i] = p[i] ^ 0x80;
  } else if constexpr (T == TensorType::kQ2_K) {  // [scale and min nibbles 16][codes 64][d][dmin]
    const uint8_t* qs = p + 16 + half * 32;
    for (int i = 0; i < 32; ++i) out->codes[i] = qs[i] >> (2 * quarter) & 3;
    for (int i = 0; i < 2; ++i) {
      out->sub_scale[i] = p[2 * b + i] & 15;
      out->sub_min[i] = p[2 * b + i] >> 4;
    }
    out->d = LoadU16(p + 80);
    out->m = LoadU16(p + 82);
  } else if constexpr (T == TensorType::kQ3_K) {  // [high bits 32][codes 64][scales 12][d]
    const uint8_t* qs = p + 32 + half * 32;
    const uint8_t* scales = p + 96;
    for (int i = 0; i < 32; ++i) {
      out->codes[i] = static_cast<uint8_t>((qs[i] >> (2 * quarter) & 3) | (p[i] >> b & 1) << 2);
    }
    for (int i = 0; i < 2; ++i) {
      const int s = 2 * b + i;
      const int low = s < 8 ? scales[s] & 15 : scales[s - 8] >> 4;
      out->sub_scale[i] = static_cast<int8_t>((low | (scales[8 + s % 4] >> (2 * (s / 4)) & 3) << 4) - 32);
    }
    out->d = LoadU16(p + 108);
  } else if constexpr (T == TensorType::kQ4_K ||
                       T == TensorType::kQ5_K) {  // [d][dmin][scales 12][high bits 32][codes 128]
    out->d = LoadU16(p);
    out->m = LoadU16(p + 2);
    ReadPackedPair(p + 4, b, out);
    constexpr bool kHigh = T == TensorType::kQ5_K;
    const uint8_t* qs = p + 16 + (kHigh ? 32 : 0) + b / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      out->codes[i] = qs[i] >> (b % 2 * 4) & 15;
      if constexpr (kHigh) out->codes[i] |= static_cast<uint8_t>((p[16 + i] >> b & 1) << 4);
    }
  } else if constexpr (T == TensorType::kQ6_K) {  // [low nibbles 128][high pairs 64][scales 16][d]
    const uint8_t* low = p + half * 64 + quarter % 2 * 32;
    const uint8_t* high = p + 128 + half * 32;
    for (int i = 0; i < 32; ++i) {
      out->codes[i] = static_cast<uint8_t>((low[i] >> (quarter / 2 * 4) & 15) | (high[i] >> (2 * quarter) & 3) << 4);
    }
    for (int i = 0; i < 2; ++i) out->sub_scale[i] = static_cast<int8_t>(p[192 + 2 * b + i]);
    out->d = LoadU16(p + 208);
  } else if constexpr (T == TensorType::kIQ4_XS) {  // [d][scale high pairs 2][scale low nibbles 4][codes 128]
    out->d = LoadU16(p);
    const int scale = (p[4 + b / 2] >> (b % 2 * 4) & 15) | (LoadU16(p + 2) >> (2 * b) & 3) << 4;
    for (int i = 0; i < 2; ++i) out->sub_scale[i] = static_cast<int8_t>(scale - 32);
    ReadNibbles(p + 8 + b * 16, out->codes);
  }
}

// Codes of a block as the kernels' planes have them, in words of four columns, for the formats whose bytes nearly lie so: of 4 bits columns
// 4i in the low and 4i + 16 in the high nibbles; of 8 bits half of the block.
using CodeWords = uint32_t __attribute__((vector_size(16)));
template <TensorType T>
inline constexpr bool kHasWords =
    kIsSimpleNibbles<T> || T == TensorType::kIQ4_XS || T == TensorType::kQ4_K || T == TensorType::kQ8_0;

// Part 0, or in formats of 8 bits 0 or 1, of block `b` of the GGUF span at `p`.
template <TensorType T>
inline CodeWords ReadCodeWords(const uint8_t* p, int b, int part) {
  constexpr QuantFormat kF = kFormatOf<T>;
  const auto load = [](const uint8_t* from) {
    CodeWords words;
    std::memcpy(&words, from, sizeof(words));
    return words;
  };
  if constexpr (T == TensorType::kQ8_0) return load(p + kF.d_bytes + 16 * part) ^ 0x80808080u;
  if constexpr (T == TensorType::kIQ4_XS) return load(p + 8 + b * 16);
  if constexpr (T == TensorType::kQ4_K) {
    const CodeWords left = load(p + 16 + b / 2 * 32), right = load(p + 32 + b / 2 * 32);
    constexpr uint32_t kLow = 0x0F0F0F0Fu;
    return b % 2 == 0 ? (left & kLow) | (right & kLow) << 4 : (left >> 4 & kLow) | (right & ~kLow);
  }
  return load(p + kF.d_bytes + (kF.has_min ? 2 : 0));
}

}  // namespace pantry::matmul
