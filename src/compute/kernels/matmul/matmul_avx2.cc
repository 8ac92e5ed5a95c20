// SPDX-License-Identifier: Apache-2.0
// Integer kernels for AVX2: 8 rows per vector, four columns per pair of multiply-add instructions.
#include <immintrin.h>

#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/quant_format.h"

namespace pantry::matmul {
namespace {

#define PANTRY_INLINE inline __attribute__((always_inline))

constexpr int kR = 8;
constexpr int kMaxM = 4;
constexpr bool kSignedBytes = true;
using Ints = __m256i;
using Floats = __m256;

PANTRY_INLINE Ints LoadPlane(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
PANTRY_INLINE Ints Splat32(int32_t v) { return _mm256_set1_epi32(v); }
PANTRY_INLINE Ints SplatByte(int v) { return _mm256_set1_epi8(static_cast<char>(v)); }
PANTRY_INLINE Ints And(Ints a, Ints b) { return _mm256_and_si256(a, b); }
PANTRY_INLINE Ints Or(Ints a, Ints b) { return _mm256_or_si256(a, b); }
PANTRY_INLINE Ints Xor(Ints a, Ints b) { return _mm256_xor_si256(a, b); }
PANTRY_INLINE Ints Sub32(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
PANTRY_INLINE Ints AddBytes(Ints a, Ints b) { return _mm256_add_epi8(a, b); }
PANTRY_INLINE Ints ShiftRight32(Ints v, int n) { return _mm256_srl_epi32(v, _mm_cvtsi32_si128(n)); }
template <int N>
PANTRY_INLINE Ints ShiftLeft32(Ints v) {
  return _mm256_slli_epi32(v, N);
}
template <int N>
PANTRY_INLINE Ints ShiftRight16(Ints v) {
  return _mm256_srli_epi16(v, N);
}
template <int N>
PANTRY_INLINE Ints ShiftLeft16(Ints v) {
  return _mm256_slli_epi16(v, N);
}
PANTRY_INLINE __m128i LoadEight(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
PANTRY_INLINE __m128i LoadBytes(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
PANTRY_INLINE Ints LoadTable(const int8_t* table) { return _mm256_broadcastsi128_si256(LoadBytes(table)); }
PANTRY_INLINE Ints Lookup(Ints table, Ints codes) { return _mm256_shuffle_epi8(table, codes); }
PANTRY_INLINE Ints WidenUnsigned(const uint8_t* p) { return _mm256_cvtepu8_epi32(LoadEight(p)); }
PANTRY_INLINE Ints WidenSigned(const uint8_t* p) { return _mm256_cvtepi8_epi32(LoadEight(p)); }

PANTRY_INLINE Floats SplatFloat(float v) { return _mm256_set1_ps(v); }
PANTRY_INLINE Floats AsFloats(Ints v) { return _mm256_castsi256_ps(v); }
PANTRY_INLINE Floats ToFloat(Ints v) { return _mm256_cvtepi32_ps(v); }
PANTRY_INLINE Floats Mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
PANTRY_INLINE Floats Fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
PANTRY_INLINE Floats FusedNegative(Floats a, Floats b, Floats c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a * b
PANTRY_INLINE Floats LoadHalves(const uint8_t* p) { return _mm256_cvtph_ps(LoadBytes(p)); }
// 2^(byte - 128), subnormal below 2.
PANTRY_INLINE Floats LoadPowers(const uint8_t* p) {
  const Ints exponent = WidenUnsigned(p);
  const Ints normal = _mm256_slli_epi32(Sub32(exponent, Splat32(1)), 23);
  const Ints subnormal = _mm256_sllv_epi32(Splat32(0x00200000), exponent);
  return AsFloats(_mm256_blendv_epi8(normal, subnormal, _mm256_cmpgt_epi32(Splat32(2), exponent)));
}
PANTRY_INLINE Ints FirstLanes(int64_t n) {
  return _mm256_cmpgt_epi32(Splat32(static_cast<int32_t>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
PANTRY_INLINE Floats LoadPart(const float* p, int64_t n) { return _mm256_maskload_ps(p, FirstLanes(n)); }
PANTRY_INLINE void StorePart(float* p, Floats v, int64_t n) { _mm256_maskstore_ps(p, FirstLanes(n), v); }

// The largest code as the dot product sees it, and how many pair products of it and +-127 an int16 sum holds.
template <QuantFormat F>
constexpr int kLargestCode = F.offset == 128                ? 128
                             : F.table == CodeTable::kMxfp4 ? 24
                                                            : (1 << F.bits) - 1;
template <QuantFormat F>
constexpr int kSafeSteps = 32767 / (2 * 127 * kLargestCode<F>);

// start + the products of N code vectors with the activations of 4 N columns. Pairs of products are summed in int16, as many as are safe
// from saturation; signed codes give their sign to the activations first, since the instruction takes unsigned ones.
template <QuantFormat F, int N>
PANTRY_INLINE Ints Dot(Ints start, const Ints* w, const int8_t* q) {
  constexpr int kSteps = kSafeSteps<F> >= 8 ? 8 : kSafeSteps<F> >= 4 ? 4 : kSafeSteps<F> >= 2 ? 2 : 1;
  for (int g = 0; g < N;) {
    Ints pairs = Splat32(0);
    for (int end = g + (kSteps < N ? kSteps : N), first = g; g < end; ++g) {
      int32_t columns;
      __builtin_memcpy(&columns, q + 4 * g, sizeof(columns));
      const Ints values = Splat32(columns);
      const Ints products = F.offset == 128
                                ? _mm256_maddubs_epi16(_mm256_abs_epi8(w[g]), _mm256_sign_epi8(values, w[g]))
                                : _mm256_maddubs_epi16(w[g], values);
      pairs = g == first ? products : _mm256_add_epi16(pairs, products);
    }
    start = _mm256_add_epi32(start, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  return start;
}

#include "compute/kernels/matmul/integer_kernel.inc"

}  // namespace

#define PANTRY_SCALAR_KERNEL(format, activation)
#define PANTRY_X86_KERNEL(format, activation, isa, suffix, layout) PANTRY_DEFINE_##activation##_##suffix(format)
#define PANTRY_DEFINE_kF32_avx512vnni(format)
#define PANTRY_DEFINE_kQ8_avx512vnni(format)
#define PANTRY_DEFINE_kF32_avx2(format)
#define PANTRY_DEFINE_kQ8_avx2(format)                                                 \
  void Compute##format##_avx2(PANTRY_MATMUL_ARGS) {                                    \
    Compute<kFormat##format>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride); \
  }
#include "compute/kernels/matmul/matmul_kernels.inc"

}  // namespace pantry::matmul
