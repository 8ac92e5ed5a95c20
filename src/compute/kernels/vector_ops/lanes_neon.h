// SPDX-License-Identifier: Apache-2.0
// F32x16 on NEON: sixteen F32 lanes in four registers; the same names and the same bits as lanes_avx512.h, which explains them.
//
// Only *_neon.cc may include this.
#pragma once

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

namespace pantry {
namespace {

// Register blocking of the attention kernels; 32 registers: 2 heads x 2 accumulators of four registers leave 16 for operands.
constexpr int kDotRows = 2;
constexpr int kMixChunks = 2;
constexpr int kHeadBlock = 2;

struct F32x16 {
  float32x4_t v[4];  // lanes 0..3, 4..7, 8..11, 12..15
};
struct Whole {};
struct Part {
  explicit Part(int64_t n_lanes) : n(static_cast<int>(n_lanes)) {}
  int n;
};

// {f(a.v[0]), ...}
#define PANTRY_LANES(expression_of_i)                          \
  F32x16 result;                                               \
  for (int i = 0; i < 4; ++i) result.v[i] = (expression_of_i); \
  return result

inline F32x16 Broadcast(float x) { PANTRY_LANES(vdupq_n_f32(x)); }
inline F32x16 Load(const float* p, Whole = {}) { PANTRY_LANES(vld1q_f32(p + 4 * i)); }
inline void Store(float* p, F32x16 a, Whole = {}) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, a.v[i]);
}
inline F32x16 Load(const float* p, Part part) {
  float whole[16] = {};
  memcpy(whole, p, static_cast<size_t>(part.n) * sizeof(float));
  return Load(whole);
}
inline void Store(float* p, F32x16 a, Part part) {
  float whole[16];
  Store(whole, a);
  memcpy(p, whole, static_cast<size_t>(part.n) * sizeof(float));
}

inline F32x16 operator+(F32x16 a, F32x16 b) { PANTRY_LANES(vaddq_f32(a.v[i], b.v[i])); }
inline F32x16 operator-(F32x16 a, F32x16 b) { PANTRY_LANES(vsubq_f32(a.v[i], b.v[i])); }
inline F32x16 operator*(F32x16 a, F32x16 b) { PANTRY_LANES(vmulq_f32(a.v[i], b.v[i])); }
inline F32x16 operator/(F32x16 a, F32x16 b) { PANTRY_LANES(vdivq_f32(a.v[i], b.v[i])); }
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) { PANTRY_LANES(vfmaq_f32(c.v[i], a.v[i], b.v[i])); }
inline F32x16 Fnma(F32x16 a, F32x16 b, F32x16 c) { PANTRY_LANES(vfmsq_f32(c.v[i], a.v[i], b.v[i])); }
// By comparison: NEON's own minimum and maximum keep NaN whichever side it is on.
inline F32x16 Min(F32x16 a, F32x16 b) { PANTRY_LANES(vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i])); }
inline F32x16 Max(F32x16 a, F32x16 b) { PANTRY_LANES(vbslq_f32(vcgtq_f32(a.v[i], b.v[i]), a.v[i], b.v[i])); }
inline F32x16 Abs(F32x16 a) { PANTRY_LANES(vabsq_f32(a.v[i])); }
inline F32x16 CopySign(F32x16 magnitude, F32x16 sign) {
  PANTRY_LANES(vbslq_f32(vdupq_n_u32(0x80000000u), sign.v[i], magnitude.v[i]));
}
inline F32x16 Round(F32x16 a) { PANTRY_LANES(vrndnq_f32(a.v[i])); }
// In two steps, since 2^n alone may not be a normal number; the first is exact.
inline float32x4_t ScaleByPowerOfTwo4(float32x4_t a, float32x4_t n) {
  const int32x4_t exponent = vcvtq_s32_f32(n), half = vshrq_n_s32(exponent, 1), bias = vdupq_n_s32(127);
  const int32x4_t first = vshlq_n_s32(vaddq_s32(half, bias), 23);
  const int32x4_t second = vshlq_n_s32(vaddq_s32(vsubq_s32(exponent, half), bias), 23);
  return vmulq_f32(vmulq_f32(a, vreinterpretq_f32_s32(first)), vreinterpretq_f32_s32(second));
}
inline F32x16 ScaleByPowerOfTwo(F32x16 a, F32x16 n) { PANTRY_LANES(ScaleByPowerOfTwo4(a.v[i], n.v[i])); }

inline float First(F32x16 a) { return vgetq_lane_f32(a.v[0], 0); }

// Lane l with l+8, then l+4: what is left of the tree is l+2, l+1.
inline float32x4_t SumToFour(F32x16 a) { return vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3])); }
inline float ReduceAdd(F32x16 a) {
  const float32x4_t four = SumToFour(a);
  return vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)));
}
inline float ReduceMax(F32x16 a) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.v[0], a.v[2]), vmaxq_f32(a.v[1], a.v[3]))); }

inline void ReduceRows(const F32x16 (&rows)[kDotRows], float* out) {
  const float32x4_t a = SumToFour(rows[0]), b = SumToFour(rows[1]);
  const float32x2_t two_a = vadd_f32(vget_low_f32(a), vget_high_f32(a));
  const float32x2_t two_b = vadd_f32(vget_low_f32(b), vget_high_f32(b));
  vst1_f32(out, vpadd_f32(two_a, two_b));
}

inline F32x16 LoadF16(const void* p, Whole = {}) {
  const uint16_t* halves = static_cast<const uint16_t*>(p);
  PANTRY_LANES(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves + 4 * i))));
}
inline void StoreF16(void* p, F32x16 a, Whole = {}) {
  uint16_t* halves = static_cast<uint16_t*>(p);
  for (int i = 0; i < 4; ++i) vst1_u16(halves + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(a.v[i])));
}
inline F32x16 LoadF16(const void* p, Part part) {
  uint16_t whole[16] = {};
  memcpy(whole, p, static_cast<size_t>(part.n) * sizeof(uint16_t));
  return LoadF16(whole);
}
inline void StoreF16(void* p, F32x16 a, Part part) {
  uint16_t whole[16];
  StoreF16(whole, a);
  memcpy(p, whole, static_cast<size_t>(part.n) * sizeof(uint16_t));
}
inline F32x16 LoadI8(const void* p) {
  const int8x16_t bytes = vld1q_s8(static_cast<const int8_t*>(p));
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_high_s16(high))}};
}
inline int StoreI8(void* p, F32x16 a) {
  int32x4_t rounded[4];
  for (int i = 0; i < 4; ++i) rounded[i] = vcvtnq_s32_f32(a.v[i]);
  const int16x8_t low = vcombine_s16(vmovn_s32(rounded[0]), vmovn_s32(rounded[1]));
  const int16x8_t high = vcombine_s16(vmovn_s32(rounded[2]), vmovn_s32(rounded[3]));
  vst1q_s8(static_cast<int8_t*>(p), vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
  return vaddvq_s16(vaddq_s16(low, high));  // 16 numbers of at most 127
}
inline uint32_t MaxAbsBits(F32x16 a, F32x16 b) {
  uint32x4_t max = vdupq_n_u32(0);
  for (int i = 0; i < 4; ++i) {
    max = vmaxq_u32(max, vreinterpretq_u32_f32(vabsq_f32(a.v[i])));
    max = vmaxq_u32(max, vreinterpretq_u32_f32(vabsq_f32(b.v[i])));
  }
  return vmaxvq_u32(max);
}

inline float32x4_t RotatePairs4(float32x4_t pairs, float32x4_t cos_sin) {
  const float32x4_t cos = vtrn1q_f32(cos_sin, cos_sin), sin = vtrn2q_f32(cos_sin, cos_sin);
  const uint32x4_t even_sign = vreinterpretq_u32_u64(vdupq_n_u64(0x80000000u));
  const uint32x4_t product = vreinterpretq_u32_f32(vmulq_f32(vrev64q_f32(pairs), sin));
  return vfmaq_f32(vreinterpretq_f32_u32(veorq_u32(product, even_sign)), pairs, cos);
}
inline F32x16 RotatePairs(F32x16 pairs, F32x16 cos_sin) { PANTRY_LANES(RotatePairs4(pairs.v[i], cos_sin.v[i])); }
inline void SplitPairs(const float* cos_sin, F32x16* cos, F32x16* sin) {
  for (int i = 0; i < 4; ++i) {
    const float32x4x2_t pairs = vld2q_f32(cos_sin + 8 * i);
    cos->v[i] = pairs.val[0];
    sin->v[i] = pairs.val[1];
  }
}
#undef PANTRY_LANES

}  // namespace
}  // namespace pantry
