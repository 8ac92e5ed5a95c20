// SPDX-License-Identifier: Apache-2.0
// F32x16 on AVX2: sixteen F32 lanes in two registers; the same names and the same bits as lanes_avx512.h, which explains them.
//
// Only *_avx2.cc may include this.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace pantry {
namespace {

// Register blocking of the attention kernels; 16 registers: 2 heads x 2 accumulators of two registers leave 8 for operands.
constexpr int kDotRows = 2;
constexpr int kMixChunks = 2;
constexpr int kHeadBlock = 2;

struct F32x16 {
  __m256 lo, hi;  // lanes 0..7, 8..15
};
struct Whole {};
struct Part {
  explicit Part(int64_t n_lanes) : n(static_cast<int>(n_lanes)) {}
  __m256i Mask(int first) const {
    const __m256i lane = _mm256_add_epi32(_mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0), _mm256_set1_epi32(first));
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
  }
  int n;
};

inline F32x16 Broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F32x16 Load(const float* p, Whole = {}) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline F32x16 Load(const float* p, Part part) {
  return {_mm256_maskload_ps(p, part.Mask(0)),
          part.n > 8 ? _mm256_maskload_ps(p + 8, part.Mask(8)) : _mm256_setzero_ps()};
}
inline void Store(float* p, F32x16 a, Whole = {}) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
inline void Store(float* p, F32x16 a, Part part) {
  _mm256_maskstore_ps(p, part.Mask(0), a.lo);
  if (part.n > 8) _mm256_maskstore_ps(p + 8, part.Mask(8), a.hi);
}

inline F32x16 operator+(F32x16 a, F32x16 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
inline F32x16 operator-(F32x16 a, F32x16 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
inline F32x16 operator*(F32x16 a, F32x16 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
inline F32x16 operator/(F32x16 a, F32x16 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline F32x16 Fnma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fnmadd_ps(a.lo, b.lo, c.lo), _mm256_fnmadd_ps(a.hi, b.hi, c.hi)};
}
inline F32x16 Min(F32x16 a, F32x16 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
inline F32x16 Max(F32x16 a, F32x16 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
inline F32x16 Abs(F32x16 a) {
  const __m256 bit = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(bit, a.lo), _mm256_andnot_ps(bit, a.hi)};
}
inline F32x16 CopySign(F32x16 magnitude, F32x16 sign) {
  const __m256 bit = _mm256_set1_ps(-0.0f);
  return {_mm256_or_ps(_mm256_andnot_ps(bit, magnitude.lo), _mm256_and_ps(bit, sign.lo)),
          _mm256_or_ps(_mm256_andnot_ps(bit, magnitude.hi), _mm256_and_ps(bit, sign.hi))};
}
inline F32x16 Round(F32x16 a) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.lo, kNearest), _mm256_round_ps(a.hi, kNearest)};
}
// In two steps, since 2^n alone may not be a normal number; the first is exact.
inline __m256 ScaleByPowerOfTwo8(__m256 a, __m256 n) {
  const __m256i exponent = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(exponent, 1), bias = _mm256_set1_epi32(127);
  const __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(exponent, half), bias), 23);
  return _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}
inline F32x16 ScaleByPowerOfTwo(F32x16 a, F32x16 n) {
  return {ScaleByPowerOfTwo8(a.lo, n.lo), ScaleByPowerOfTwo8(a.hi, n.hi)};
}

inline float First(F32x16 a) { return _mm256_cvtss_f32(a.lo); }

inline float ReduceAdd(F32x16 a) {
  const __m256 eight = _mm256_add_ps(a.lo, a.hi);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float ReduceMax(F32x16 a) {
  const __m256 eight = _mm256_max_ps(a.lo, a.hi);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

inline void ReduceRows(const F32x16 (&rows)[kDotRows], float* out) {
  const __m256 a = _mm256_add_ps(rows[0].lo, rows[0].hi), b = _mm256_add_ps(rows[1].lo, rows[1].hi);
  // [a: 4 lanes | b: 4 lanes]
  const __m256 four = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  const __m256 two = _mm256_add_ps(four, _mm256_permute_ps(four, 0x4E));
  const __m256 one = _mm256_add_ps(two, _mm256_permute_ps(two, 0xB1));
  _mm_store_ss(out, _mm256_castps256_ps128(one));
  _mm_store_ss(out + 1, _mm256_extractf128_ps(one, 1));
}

inline F32x16 LoadF16(const void* p, Whole = {}) {
  const __m128i* halves = static_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
}
inline void StoreF16(void* p, F32x16 a, Whole = {}) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_cvtps_ph(a.lo, kNearest));
  _mm_storeu_si128(static_cast<__m128i*>(p) + 1, _mm256_cvtps_ph(a.hi, kNearest));
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
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes)))};
}
inline int StoreI8(void* p, F32x16 a) {
  const __m256i lo = _mm256_cvtps_epi32(a.lo), hi = _mm256_cvtps_epi32(a.hi);
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xD8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(static_cast<__m128i*>(p), bytes);
  const __m256i eight = _mm256_add_epi32(lo, hi);
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xB1)));
}
inline uint32_t MaxAbsBits(F32x16 a, F32x16 b) {
  const F32x16 x = Abs(a), y = Abs(b);
  const __m256i eight = _mm256_max_epu32(_mm256_max_epu32(_mm256_castps_si256(x.lo), _mm256_castps_si256(x.hi)),
                                         _mm256_max_epu32(_mm256_castps_si256(y.lo), _mm256_castps_si256(y.hi)));
  const __m128i four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4E));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epu32(two, _mm_shuffle_epi32(two, 0xB1))));
}

inline __m256 RotatePairs8(__m256 pairs, __m256 cos_sin) {
  const __m256 swapped = _mm256_permute_ps(pairs, 0xB1);
  return _mm256_fmaddsub_ps(pairs, _mm256_moveldup_ps(cos_sin), _mm256_mul_ps(swapped, _mm256_movehdup_ps(cos_sin)));
}
inline F32x16 RotatePairs(F32x16 pairs, F32x16 cos_sin) {
  return {RotatePairs8(pairs.lo, cos_sin.lo), RotatePairs8(pairs.hi, cos_sin.hi)};
}
inline void SplitPairs8(const float* cos_sin, __m256* cos, __m256* sin) {
  const __m256 low = _mm256_loadu_ps(cos_sin), high = _mm256_loadu_ps(cos_sin + 8);
  // Within each half: even or odd numbers of low, then of high; the middle quarters then change places.
  const __m256d even = _mm256_castps_pd(_mm256_shuffle_ps(low, high, 0x88));
  const __m256d odd = _mm256_castps_pd(_mm256_shuffle_ps(low, high, 0xDD));
  *cos = _mm256_castpd_ps(_mm256_permute4x64_pd(even, 0xD8));
  *sin = _mm256_castpd_ps(_mm256_permute4x64_pd(odd, 0xD8));
}
inline void SplitPairs(const float* cos_sin, F32x16* cos, F32x16* sin) {
  SplitPairs8(cos_sin, &cos->lo, &sin->lo);
  SplitPairs8(cos_sin + 16, &cos->hi, &sin->hi);
}

}  // namespace
}  // namespace pantry
