// SPDX-License-Identifier: Apache-2.0
// A WeightBlock is 32 columns of one row of an integer format, taken apart: codes, scales and minimums as plain numbers.
//
// ReadBlock() (gguf_block.h) takes it out of a GGUF row, the packers rearrange it, the scalar kernel multiplies with it.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "compute/kernels/matmul/quant_format.h"
#include "weights/quant/dequantize.h"
#include "weights/quant/half.h"
#include "weights/quant/tensor_type.h"

namespace pantry::matmul {

struct WeightBlock {
  uint8_t codes[kBlockCols];
  uint16_t d = 0;            // F16 bits, or the exponent byte
  uint16_t m = 0;            // F16 bits: minimum, or the factor of the sub-minimums
  int8_t sub_scale[2] = {};  // of columns 0..15 and 16..31 (equal where sub_cols is 32); 0 where the format has none
  int8_t sub_min[2] = {};
};

template <TensorType T>
inline constexpr QuantFormat kFormatOf = {};
#define PANTRY_FORMAT(name) \
  template <>               \
  inline constexpr QuantFormat kFormatOf<TensorType::k##name> = kFormat##name
PANTRY_FORMAT(Q4_0);
PANTRY_FORMAT(Q4_1);
PANTRY_FORMAT(Q5_0);
PANTRY_FORMAT(Q5_1);
PANTRY_FORMAT(Q8_0);
PANTRY_FORMAT(Q2_K);
PANTRY_FORMAT(Q3_K);
PANTRY_FORMAT(Q4_K);
PANTRY_FORMAT(Q5_K);
PANTRY_FORMAT(Q6_K);
PANTRY_FORMAT(IQ4_NL);
PANTRY_FORMAT(IQ4_XS);
PANTRY_FORMAT(MXFP4);
#undef PANTRY_FORMAT

inline uint16_t LoadU16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline uint32_t LoadU32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

// The exact integer a code stands for.
template <TensorType T>
inline int CodeValue(uint8_t code) {
  constexpr QuantFormat kF = kFormatOf<T>;
  if constexpr (kF.table == CodeTable::kIq4Nl) return kIq4NlValues[code];
  if constexpr (kF.table == CodeTable::kMxfp4) return kMxfp4Values[code];
  return code - kF.offset;
}

// 2^(exponent - 128), subnormal below 2.
inline float PowerOfTwo(uint32_t exponent) {
  return std::bit_cast<float>(exponent < 2 ? uint32_t{0x00200000} << exponent : (exponent - 1) << 23);
}

// w_scale and w_min of columns 16 * half .. 16 * half + 15.
template <TensorType T>
inline float WeightScale(const WeightBlock& block, int half) {
  constexpr QuantFormat kF = kFormatOf<T>;
  if constexpr (kF.d_bytes == 1) return PowerOfTwo(block.d);
  if constexpr (kF.sub == SubScales::kNone) return F16ToF32(block.d);
  return F16ToF32(block.d) * static_cast<float>(block.sub_scale[half]);
}
template <TensorType T>
inline float WeightMin(const WeightBlock& block, int half) {
  constexpr QuantFormat kF = kFormatOf<T>;
  if constexpr (!kF.has_min) return 0.0f;
  if constexpr (kF.sub == SubScales::kNone) return F16ToF32(block.m);
  return -(F16ToF32(block.m) * static_cast<float>(block.sub_min[half]));
}

// Decodes 32 weights as DequantizeRow() does.
template <TensorType T>
inline void DecodeBlock(const WeightBlock& block, float* out) {
  for (int half = 0; half < 2; ++half) {
    const float scale = WeightScale<T>(block, half);
    const float min = WeightMin<T>(block, half);
    for (int i = half * 16; i < half * 16 + 16; ++i) {
      out[i] = scale * static_cast<float>(CodeValue<T>(block.codes[i]));
      if constexpr (kFormatOf<T>.has_min) out[i] += min;
    }
  }
}

}  // namespace pantry::matmul
