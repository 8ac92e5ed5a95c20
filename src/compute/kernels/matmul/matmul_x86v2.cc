// SPDX-License-Identifier: Apache-2.0
// Integer kernels for x86-64-v2 (SSSE3, SSE4.1): 4 rows per vector, four columns per pair of multiply-add instructions.
//
// Two vectors of 8 rows would need 16 registers for a block's codes alone: all there are. Without fused multiply-add a term is rounded
// before it is added, so results may differ in the last bits from every other level's.
#include <smmintrin.h>

#include "compute/kernels/matmul/column_tile.h"
#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/quant_format.h"

namespace pantry::matmul {
namespace {

#define PANTRY_INLINE inline __attribute__((always_inline))

constexpr int kR = 4;
constexpr int kMaxM = 4;
constexpr bool kSignedBytes = true;
using Ints = __m128i;
using Floats = __m128;

PANTRY_INLINE Ints LoadPlane(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
PANTRY_INLINE Ints Splat32(int32_t v) { return _mm_set1_epi32(v); }
PANTRY_INLINE Ints SplatByte(int v) { return _mm_set1_epi8(static_cast<char>(v)); }
PANTRY_INLINE Ints And(Ints a, Ints b) { return _mm_and_si128(a, b); }
PANTRY_INLINE Ints Or(Ints a, Ints b) { return _mm_or_si128(a, b); }
PANTRY_INLINE Ints Xor(Ints a, Ints b) { return _mm_xor_si128(a, b); }
PANTRY_INLINE Ints Add32(Ints a, Ints b) { return _mm_add_epi32(a, b); }
PANTRY_INLINE Ints Sub32(Ints a, Ints b) { return _mm_sub_epi32(a, b); }
PANTRY_INLINE Ints AddBytes(Ints a, Ints b) { return _mm_add_epi8(a, b); }
PANTRY_INLINE Ints ShiftRight32(Ints v, int n) { return _mm_srl_epi32(v, _mm_cvtsi32_si128(n)); }
template <int N>
PANTRY_INLINE Ints ShiftLeft32(Ints v) {
  return _mm_slli_epi32(v, N);
}
template <int N>
PANTRY_INLINE Ints ShiftRight16(Ints v) {
  return _mm_srli_epi16(v, N);
}
template <int N>
PANTRY_INLINE Ints ShiftLeft16(Ints v) {
  return _mm_slli_epi16(v, N);
}
// Columns 4g..4g+3 of an activation row, in every lane: one load serves four shuffles, whose pattern must be a constant.
PANTRY_INLINE Ints SplatColumns(const int8_t* q, int g) {
  const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q + g / 4 * 16));
  switch (g % 4) {
    case 0: return _mm_shuffle_epi32(four, 0x00);
    case 1: return _mm_shuffle_epi32(four, 0x55);
    case 2: return _mm_shuffle_epi32(four, 0xAA);
    default: return _mm_shuffle_epi32(four, 0xFF);
  }
}
PANTRY_INLINE Ints LoadTable(const int8_t* table) { return _mm_load_si128(reinterpret_cast<const __m128i*>(table)); }
PANTRY_INLINE Ints Lookup(Ints table, Ints codes) { return _mm_shuffle_epi8(table, codes); }
PANTRY_INLINE __m128i LoadFour(const uint8_t* p) {
  int32_t bytes;
  __builtin_memcpy(&bytes, p, sizeof(bytes));
  return _mm_cvtsi32_si128(bytes);
}
PANTRY_INLINE Ints WidenUnsigned(const uint8_t* p) { return _mm_cvtepu8_epi32(LoadFour(p)); }
PANTRY_INLINE Ints WidenSigned(const uint8_t* p) { return _mm_cvtepi8_epi32(LoadFour(p)); }

PANTRY_INLINE Floats SplatFloat(float v) { return _mm_set1_ps(v); }
PANTRY_INLINE Floats AsFloats(Ints v) { return _mm_castsi128_ps(v); }
PANTRY_INLINE Floats ToFloat(Ints v) { return _mm_cvtepi32_ps(v); }
PANTRY_INLINE Floats Mul(Floats a, Floats b) { return _mm_mul_ps(a, b); }
PANTRY_INLINE Floats Fma(Floats a, Floats b, Floats c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
PANTRY_INLINE Floats FusedNegative(Floats a, Floats b, Floats c) { return _mm_sub_ps(c, _mm_mul_ps(a, b)); }
#include "compute/kernels/sse_halves.inc"
PANTRY_INLINE Floats LoadHalves(const uint8_t* p) {
  return HalvesToFloats(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
// 2^(byte - 128), subnormal below 2.
PANTRY_INLINE Floats LoadPowers(const uint8_t* p) {
  const Ints exponent = WidenUnsigned(p);
  const Ints normal = _mm_slli_epi32(Sub32(exponent, Splat32(1)), 23);
  const Ints subnormal = Add32(Splat32(0x00200000), _mm_slli_epi32(exponent, 21));  // of exponents 0 and 1
  return AsFloats(_mm_blendv_epi8(normal, subnormal, _mm_cmpgt_epi32(Splat32(2), exponent)));
}
PANTRY_INLINE Floats LoadPart(const float* p, int64_t n) {
  if (n == kR) return _mm_loadu_ps(p);
  alignas(16) float whole[kR] = {};
  for (int64_t i = 0; i < n; ++i) whole[i] = p[i];
  return _mm_load_ps(whole);
}
PANTRY_INLINE void StorePart(float* p, Floats v, int64_t n) {
  if (n == kR) return _mm_storeu_ps(p, v);
  alignas(16) float whole[kR];
  _mm_store_ps(whole, v);
  for (int64_t i = 0; i < n; ++i) p[i] = whole[i];
}

// Bytes of four columns: lane i of out[p] gets those at 4 p + i of each.
PANTRY_INLINE void Planes(const Ints in[4], Ints out[4]) {
  const Ints low01 = _mm_unpacklo_epi8(in[0], in[1]), high01 = _mm_unpackhi_epi8(in[0], in[1]);
  const Ints low23 = _mm_unpacklo_epi8(in[2], in[3]), high23 = _mm_unpackhi_epi8(in[2], in[3]);
  out[0] = _mm_unpacklo_epi16(low01, low23);
  out[1] = _mm_unpackhi_epi16(low01, low23);
  out[2] = _mm_unpacklo_epi16(high01, high23);
  out[3] = _mm_unpackhi_epi16(high01, high23);
}

PANTRY_INLINE Ints MultiplyPairs(Ints codes, Ints values) { return _mm_maddubs_epi16(codes, values); }
PANTRY_INLINE Ints AbsBytes(Ints v) { return _mm_abs_epi8(v); }
PANTRY_INLINE Ints SignBytes(Ints values, Ints v) { return _mm_sign_epi8(values, v); }
PANTRY_INLINE Ints AddPairs(Ints a, Ints b) { return _mm_add_epi16(a, b); }
PANTRY_INLINE Ints WidenPairs(Ints pairs) { return _mm_madd_epi16(pairs, _mm_set1_epi16(1)); }

#include "compute/kernels/matmul/pair_dot.inc"

#include "compute/kernels/matmul/integer_kernel.inc"

#include "compute/kernels/matmul/row_kernel.inc"

#include "compute/kernels/matmul/column_kernel.inc"

}  // namespace

PANTRY_INTEGER_FORMATS(PANTRY_DEFINE_INTEGER_KERNEL, x86v2)
PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_ROW_KERNEL, x86v2_rows)
PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_COLUMN_KERNEL, x86v2_columns)

}  // namespace pantry::matmul
