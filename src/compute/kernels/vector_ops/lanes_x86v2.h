// SPDX-License-Identifier: Apache-2.0
// F32x16 on x86-64-v2: sixteen F32 lanes in four registers; the same names as lanes_avx512.h, which explains them.
//
// There is no fused multiply-add: the product is rounded too, so results may differ in the last bits from those of every other level.
// Only *_x86v2.cc may include this.
#pragma once

#include <smmintrin.h>
#include <stdint.h>
#include <string.h>

namespace pantry {
namespace {

#include "compute/kernels/sse_halves.inc"

// Register blocking of the attention kernels; 16 registers: one head x 2 accumulators of four registers leave 8 for operands.
constexpr int kDotRows = 2;
constexpr int kMixChunks = 2;
constexpr int kHeadBlock = 1;

struct F32x16 {
  __m128 v[4];  // lanes 0..3, 4..7, 8..11, 12..15
};
struct Whole {};
struct Part {
  explicit Part(int64_t n_lanes) : n(static_cast<int>(n_lanes)) {}
  int n;
};

#define PANTRY_LANES(expression_of_i)                          \
  F32x16 result;                                               \
  for (int i = 0; i < 4; ++i) result.v[i] = (expression_of_i); \
  return result

inline F32x16 Broadcast(float x) { PANTRY_LANES(_mm_set1_ps(x)); }
inline F32x16 Load(const float* p, Whole = {}) { PANTRY_LANES(_mm_loadu_ps(p + 4 * i)); }
inline void Store(float* p, F32x16 a, Whole = {}) {
  for (int i = 0; i < 4; ++i) _mm_storeu_ps(p + 4 * i, a.v[i]);
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

inline F32x16 operator+(F32x16 a, F32x16 b) { PANTRY_LANES(_mm_add_ps(a.v[i], b.v[i])); }
inline F32x16 operator-(F32x16 a, F32x16 b) { PANTRY_LANES(_mm_sub_ps(a.v[i], b.v[i])); }
inline F32x16 operator*(F32x16 a, F32x16 b) { PANTRY_LANES(_mm_mul_ps(a.v[i], b.v[i])); }
inline F32x16 operator/(F32x16 a, F32x16 b) { PANTRY_LANES(_mm_div_ps(a.v[i], b.v[i])); }
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) { PANTRY_LANES(_mm_add_ps(_mm_mul_ps(a.v[i], b.v[i]), c.v[i])); }
inline F32x16 Fnma(F32x16 a, F32x16 b, F32x16 c) { PANTRY_LANES(_mm_sub_ps(c.v[i], _mm_mul_ps(a.v[i], b.v[i]))); }
inline F32x16 Min(F32x16 a, F32x16 b) { PANTRY_LANES(_mm_min_ps(a.v[i], b.v[i])); }
inline F32x16 Max(F32x16 a, F32x16 b) { PANTRY_LANES(_mm_max_ps(a.v[i], b.v[i])); }
inline F32x16 Abs(F32x16 a) { PANTRY_LANES(_mm_andnot_ps(_mm_set1_ps(-0.0f), a.v[i])); }
inline F32x16 CopySign(F32x16 magnitude, F32x16 sign) {
  const __m128 bit = _mm_set1_ps(-0.0f);
  PANTRY_LANES(_mm_or_ps(_mm_andnot_ps(bit, magnitude.v[i]), _mm_and_ps(bit, sign.v[i])));
}
inline F32x16 Round(F32x16 a) { PANTRY_LANES(_mm_round_ps(a.v[i], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }
// In two steps, since 2^n alone may not be a normal number; the first is exact.
inline __m128 ScaleByPowerOfTwo4(__m128 a, __m128 n) {
  const __m128i exponent = _mm_cvtps_epi32(n), half = _mm_srai_epi32(exponent, 1), bias = _mm_set1_epi32(127);
  const __m128i first = _mm_slli_epi32(_mm_add_epi32(half, bias), 23);
  const __m128i second = _mm_slli_epi32(_mm_add_epi32(_mm_sub_epi32(exponent, half), bias), 23);
  return _mm_mul_ps(_mm_mul_ps(a, _mm_castsi128_ps(first)), _mm_castsi128_ps(second));
}
inline F32x16 ScaleByPowerOfTwo(F32x16 a, F32x16 n) { PANTRY_LANES(ScaleByPowerOfTwo4(a.v[i], n.v[i])); }

inline float First(F32x16 a) { return _mm_cvtss_f32(a.v[0]); }

// Lane l with l+8, then l+4: what is left of the tree is l+2, l+1.
inline __m128 SumToFour(F32x16 a) { return _mm_add_ps(_mm_add_ps(a.v[0], a.v[2]), _mm_add_ps(a.v[1], a.v[3])); }
inline float ReduceAdd(F32x16 a) {
  const __m128 four = SumToFour(a), two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float ReduceMax(F32x16 a) {
  const __m128 four = _mm_max_ps(_mm_max_ps(a.v[0], a.v[2]), _mm_max_ps(a.v[1], a.v[3]));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
inline void ReduceRows(const F32x16 (&rows)[kDotRows], float* out) {
  for (int i = 0; i < kDotRows; ++i) out[i] = ReduceAdd(rows[i]);
}

inline F32x16 LoadF16(const void* p, Whole = {}) {
  const uint16_t* halves = static_cast<const uint16_t*>(p);
  PANTRY_LANES(HalvesToFloats(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(halves + 4 * i))));
}
inline void StoreF16(void* p, F32x16 a, Whole = {}) {
  __m128i* halves = static_cast<__m128i*>(p);
  _mm_storeu_si128(halves, _mm_packus_epi32(FloatsToHalves(a.v[0]), FloatsToHalves(a.v[1])));
  _mm_storeu_si128(halves + 1, _mm_packus_epi32(FloatsToHalves(a.v[2]), FloatsToHalves(a.v[3])));
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
  const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
  return {{_mm_cvtepi32_ps(_mm_cvtepi8_epi32(bytes)), _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_srli_si128(bytes, 4))),
           _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_srli_si128(bytes, 8))),
           _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_srli_si128(bytes, 12)))}};
}
inline int StoreI8(void* p, F32x16 a) {
  const __m128i low = _mm_packs_epi32(_mm_cvtps_epi32(a.v[0]), _mm_cvtps_epi32(a.v[1]));
  const __m128i high = _mm_packs_epi32(_mm_cvtps_epi32(a.v[2]), _mm_cvtps_epi32(a.v[3]));
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm_packs_epi16(low, high));
  const __m128i four = _mm_madd_epi16(_mm_add_epi16(low, high), _mm_set1_epi16(1));  // 16 numbers of at most 127
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xB1)));
}
inline uint32_t MaxAbsBits(F32x16 a, F32x16 b) {
  const F32x16 x = Abs(a), y = Abs(b);
  __m128i max = _mm_setzero_si128();
  for (int i = 0; i < 4; ++i) {
    max = _mm_max_epu32(max, _mm_max_epu32(_mm_castps_si128(x.v[i]), _mm_castps_si128(y.v[i])));
  }
  max = _mm_max_epu32(max, _mm_shuffle_epi32(max, 0x4E));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epu32(max, _mm_shuffle_epi32(max, 0xB1))));
}

inline __m128 RotatePairs4(__m128 pairs, __m128 cos_sin) {
  const __m128 swapped = _mm_shuffle_ps(pairs, pairs, 0xB1);
  return _mm_addsub_ps(_mm_mul_ps(pairs, _mm_moveldup_ps(cos_sin)), _mm_mul_ps(swapped, _mm_movehdup_ps(cos_sin)));
}
inline F32x16 RotatePairs(F32x16 pairs, F32x16 cos_sin) { PANTRY_LANES(RotatePairs4(pairs.v[i], cos_sin.v[i])); }
inline void SplitPairs(const float* cos_sin, F32x16* cos, F32x16* sin) {
  for (int i = 0; i < 4; ++i) {
    const __m128 low = _mm_loadu_ps(cos_sin + 8 * i), high = _mm_loadu_ps(cos_sin + 8 * i + 4);
    cos->v[i] = _mm_shuffle_ps(low, high, 0x88);
    sin->v[i] = _mm_shuffle_ps(low, high, 0xDD);
  }
}
#undef PANTRY_LANES

}  // namespace
}  // namespace pantry
