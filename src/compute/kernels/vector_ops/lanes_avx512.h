// SPDX-License-Identifier: Apache-2.0
// F32x16 on AVX512: sixteen F32 lanes in one register. Kernels that are written on F32x16 give the same bits on every instruction set.
//
// lanes_avx2.h defines the same names on pairs of 256-bit registers; a kernel body (*.inc) is compiled once with each. Everything lies in
// an anonymous namespace, so that the linker can never keep an AVX512 copy of a function that older CPUs run as well.
// Only *_avx512*.cc may include this.
#pragma once

#if defined(__GNUC__) && \
    !defined(__clang__)  // GCC 12 takes its own "undefined" operands for a bug of ours (GCC PR 105593)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif
#include <stdint.h>

namespace pantry {
namespace {

// Register blocking of the attention kernels; 32 registers: 4 heads x 4 accumulators leave 16 for operands.
constexpr int kDotRows = 4;    // cache rows that one pass multiplies
constexpr int kMixChunks = 4;  // 16-lane chunks of the output that stay in registers
constexpr int kHeadBlock = 4;  // query heads that share a pass

struct F32x16 {
  __m512 v;
};
struct Whole {};
struct Part {  // the first n lanes, 0 < n < 16
  explicit Part(int64_t n) : mask(static_cast<__mmask16>((1u << n) - 1u)) {}
  __mmask16 mask;
};

inline F32x16 Broadcast(float x) { return {_mm512_set1_ps(x)}; }
inline F32x16 Load(const float* p, Whole = {}) { return {_mm512_loadu_ps(p)}; }
inline F32x16 Load(const float* p, Part part) { return {_mm512_maskz_loadu_ps(part.mask, p)}; }  // other lanes 0
inline void Store(float* p, F32x16 a, Whole = {}) { _mm512_storeu_ps(p, a.v); }
inline void Store(float* p, F32x16 a, Part part) { _mm512_mask_storeu_ps(p, part.mask, a.v); }

inline F32x16 operator+(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32x16 operator-(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32x16 operator*(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32x16 operator/(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }    // a b + c
inline F32x16 Fnma(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }  // c - a b
inline F32x16 Min(F32x16 a, F32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }  // b where one is not a number
inline F32x16 Max(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }  // b where one is not a number
inline F32x16 Abs(F32x16 a) { return {_mm512_abs_ps(a.v)}; }
inline F32x16 CopySign(F32x16 magnitude, F32x16 sign) {
  const __m512 bit = _mm512_set1_ps(-0.0f);
  return {_mm512_or_ps(_mm512_andnot_ps(bit, magnitude.v), _mm512_and_ps(bit, sign.v))};
}
inline F32x16 Round(F32x16 a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// a * 2^n, rounded once; n integral, |n| <= 152.
inline F32x16 ScaleByPowerOfTwo(F32x16 a, F32x16 n) { return {_mm512_scalef_ps(a.v, n.v)}; }

inline float First(F32x16 a) { return _mm512_cvtss_f32(a.v); }

// Lane l with l+8, then l+4, l+2, l+1: the fixed tree.
inline float ReduceAdd(F32x16 a) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float ReduceMax(F32x16 a) { return _mm512_reduce_max_ps(a.v); }

// out[i] = ReduceAdd(rows[i]), the same tree for four rows at a time.
inline void ReduceRows(const F32x16 (&rows)[kDotRows], float* out) {
  const __m512 a = rows[0].v, b = rows[1].v, c = rows[2].v, d = rows[3].v;
  // [a: 8 lanes | b: 8 lanes], [c | d]
  const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
  const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xEE));
  // [a: 4 | b: 4 | c: 4 | d: 4]
  const __m512 four = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
  const __m512 two = _mm512_add_ps(four, _mm512_permute_ps(four, 0x4E));
  const __m512 one = _mm512_add_ps(two, _mm512_permute_ps(two, 0xB1));
  const __m512i first_lanes = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
  _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(first_lanes, one)));
}

inline F32x16 LoadF16(const void* p, Whole = {}) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)))};
}
inline F32x16 LoadF16(const void* p, Part part) { return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(part.mask, p))}; }
inline void StoreF16(void* p, F32x16 a, Whole = {}) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline void StoreF16(void* p, F32x16 a, Part part) {
  _mm256_mask_storeu_epi16(p, part.mask, _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline F32x16 LoadI8(const void* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))))};
}
// Rounds |a| <= 127 to int8, stores them and returns their sum.
inline int StoreI8(void* p, F32x16 a) {
  const __m512i rounded = _mm512_cvtps_epi32(a.v);
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(rounded));
  return _mm512_reduce_add_epi32(rounded);
}
// The largest |lane| of a and b, as bits: they order like the numbers, infinity and then NaN above all.
inline uint32_t MaxAbsBits(F32x16 a, F32x16 b) {
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  return _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(a.v), magnitude),
                                                  _mm512_and_si512(_mm512_castps_si512(b.v), magnitude)));
}

// Eight pairs (a, b) rotated by eight pairs (cos, sin): a cos - b sin, b cos + a sin; the second product is rounded, then fused.
inline F32x16 RotatePairs(F32x16 pairs, F32x16 cos_sin) {
  const __m512 swapped = _mm512_permute_ps(pairs.v, 0xB1);
  return {_mm512_fmaddsub_ps(pairs.v, _mm512_moveldup_ps(cos_sin.v),
                             _mm512_mul_ps(swapped, _mm512_movehdup_ps(cos_sin.v)))};
}
// Sixteen pairs (cos, sin) taken apart.
inline void SplitPairs(const float* cos_sin, F32x16* cos, F32x16* sin) {
  const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512 low = _mm512_loadu_ps(cos_sin), high = _mm512_loadu_ps(cos_sin + 16);
  cos->v = _mm512_permutex2var_ps(low, even, high);
  sin->v = _mm512_permutex2var_ps(low, _mm512_add_epi32(even, _mm512_set1_epi32(1)), high);
}

}  // namespace
}  // namespace pantry
