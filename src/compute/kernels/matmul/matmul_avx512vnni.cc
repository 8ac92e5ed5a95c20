// SPDX-License-Identifier: Apache-2.0
// Integer kernels for AVX512-VNNI: 16 rows per vector, four columns per dot-product instruction, unsigned codes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // _mm512_undefined_ps() in GCC 12's own header
#endif
#include <immintrin.h>

#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/quant_format.h"

namespace pantry::matmul {
namespace {

#define PANTRY_INLINE inline __attribute__((always_inline))

constexpr int kR = 16;
constexpr int kMaxM = 8;
constexpr bool kSignedBytes = false;
using Ints = __m512i;
using Floats = __m512;

PANTRY_INLINE Ints LoadPlane(const uint8_t* p) { return _mm512_loadu_si512(p); }
PANTRY_INLINE Ints Splat32(int32_t v) { return _mm512_set1_epi32(v); }
PANTRY_INLINE Ints SplatByte(int v) { return _mm512_set1_epi8(static_cast<char>(v)); }
PANTRY_INLINE Ints And(Ints a, Ints b) { return _mm512_and_si512(a, b); }
PANTRY_INLINE Ints Or(Ints a, Ints b) { return _mm512_or_si512(a, b); }
PANTRY_INLINE Ints Xor(Ints a, Ints b) { return _mm512_xor_si512(a, b); }
PANTRY_INLINE Ints Sub32(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
PANTRY_INLINE Ints AddBytes(Ints a, Ints b) { return _mm512_add_epi8(a, b); }
PANTRY_INLINE Ints ShiftRight32(Ints v, int n) { return _mm512_srl_epi32(v, _mm_cvtsi32_si128(n)); }
template <int N>
PANTRY_INLINE Ints ShiftLeft32(Ints v) {
  return _mm512_slli_epi32(v, N);
}
template <int N>
PANTRY_INLINE Ints ShiftRight16(Ints v) {
  return _mm512_srli_epi16(v, N);
}
template <int N>
PANTRY_INLINE Ints ShiftLeft16(Ints v) {
  return _mm512_slli_epi16(v, N);
}
PANTRY_INLINE __m128i LoadBytes(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
PANTRY_INLINE Ints LoadTable(const int8_t* table) { return _mm512_broadcast_i32x4(LoadBytes(table)); }
PANTRY_INLINE Ints Lookup(Ints table, Ints codes) { return _mm512_shuffle_epi8(table, codes); }
PANTRY_INLINE Ints WidenUnsigned(const uint8_t* p) { return _mm512_cvtepu8_epi32(LoadBytes(p)); }
PANTRY_INLINE Ints WidenSigned(const uint8_t* p) { return _mm512_cvtepi8_epi32(LoadBytes(p)); }

PANTRY_INLINE Floats SplatFloat(float v) { return _mm512_set1_ps(v); }
PANTRY_INLINE Floats AsFloats(Ints v) { return _mm512_castsi512_ps(v); }
PANTRY_INLINE Floats ToFloat(Ints v) { return _mm512_cvtepi32_ps(v); }
PANTRY_INLINE Floats Mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
PANTRY_INLINE Floats Fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
PANTRY_INLINE Floats FusedNegative(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
PANTRY_INLINE Floats LoadHalves(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
// 2^(byte - 128), subnormal below 2.
PANTRY_INLINE Floats LoadPowers(const uint8_t* p) {
  const Ints exponent = WidenUnsigned(p);
  const Ints normal = _mm512_slli_epi32(Sub32(exponent, Splat32(1)), 23);
  const Ints subnormal = _mm512_sllv_epi32(Splat32(0x00200000), exponent);
  return AsFloats(_mm512_mask_mov_epi32(normal, _mm512_cmplt_epi32_mask(exponent, Splat32(2)), subnormal));
}
PANTRY_INLINE __mmask16 FirstLanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
PANTRY_INLINE Floats LoadPart(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(FirstLanes(n), p); }
PANTRY_INLINE void StorePart(float* p, Floats v, int64_t n) { _mm512_mask_storeu_ps(p, FirstLanes(n), v); }

// start + the products of N code vectors with the activations of 4 N columns.
template <QuantFormat F, int N>
PANTRY_INLINE Ints Dot(Ints start, const Ints* w, const int8_t* q) {
  for (int g = 0; g < N; ++g) {
    int32_t columns;
    __builtin_memcpy(&columns, q + 4 * g, sizeof(columns));
    start = _mm512_dpbusd_epi32(start, w[g], Splat32(columns));
  }
  return start;
}

#include "compute/kernels/matmul/integer_kernel.inc"

}  // namespace

#define PANTRY_SCALAR_KERNEL(format, activation)
#define PANTRY_X86_KERNEL(format, activation, isa, suffix, layout) PANTRY_DEFINE_##activation##_##suffix(format)
#define PANTRY_DEFINE_kF32_avx512vnni(format)
#define PANTRY_DEFINE_kQ8_avx2(format)
#define PANTRY_DEFINE_kF32_avx2(format)
#define PANTRY_DEFINE_kQ8_avx512vnni(format)                                           \
  void Compute##format##_avx512vnni(PANTRY_MATMUL_ARGS) {                              \
    Compute<kFormat##format>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride); \
  }
#include "compute/kernels/matmul/matmul_kernels.inc"

}  // namespace pantry::matmul
