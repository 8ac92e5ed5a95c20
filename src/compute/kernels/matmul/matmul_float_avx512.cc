// SPDX-License-Identifier: Apache-2.0
// F32, F16 and BF16 kernels for AVX512: four rows of weights by up to four activation rows, 16 canonical lanes per vector.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // _mm512_undefined_ps() in GCC 12's own header
#endif
#include <immintrin.h>

#include "compute/kernels/matmul/matmul_compute.h"

namespace pantry::matmul {
namespace {

constexpr int kR = 4;
constexpr int64_t kLanes = 16;
enum class Element { kF32, kF16, kBF16 };
#define PANTRY_INLINE inline __attribute__((always_inline))

#include "compute/kernels/matmul/read_ahead.inc"

template <Element E>
PANTRY_INLINE __m512 Load16(const uint8_t* p) {
  if constexpr (E == Element::kF32) return _mm512_loadu_ps(p);
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  if constexpr (E == Element::kF16) return _mm512_cvtph_ps(bits);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// The canonical tree (l with l + 8, l + 4, l + 2, l + 1) for four vectors at once.
PANTRY_INLINE __m128 SumLanes(const __m512 (&v)[kR]) {
  const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(v[0], v[1], 0x44), _mm512_shuffle_f32x4(v[0], v[1], 0xEE));
  const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(v[2], v[3], 0x44), _mm512_shuffle_f32x4(v[2], v[3], 0xEE));
  const __m512 four = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
  const __m512 two = _mm512_add_ps(four, _mm512_permute_ps(four, 0x4E));
  const __m512 one = _mm512_add_ps(two, _mm512_permute_ps(two, 0xB1));
  const __m512i first_lanes = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
  return _mm512_castps512_ps128(_mm512_permutexvar_ps(first_lanes, one));
}

template <Element E, int M, int64_t kAhead = 0>
PANTRY_INLINE void TileRows(const uint8_t* tile, const ActivationRows& x, int64_t first, float* y, int64_t y_stride,
                            int64_t n_valid) {
  constexpr int64_t kGroup = kLanes * (E == Element::kF32 ? 4 : 2);
  const int64_t cols = x.n_cols;
  const float* f32 = x.f32 + first * cols;
  __m512 acc[M][kR];
  for (int r = 0; r < M; ++r) {
    for (int n = 0; n < kR; ++n) acc[r][n] = _mm512_setzero_ps();
  }
  int64_t k = 0;
  for (; k + kLanes <= cols; k += kLanes, tile += kR * kGroup) {
    ReadAhead<kAhead>(tile, kR * kGroup);
    __m512 w[kR];
    for (int n = 0; n < kR; ++n) w[n] = Load16<E>(tile + n * kGroup);
    for (int r = 0; r < M; ++r) {
      const __m512 values = _mm512_loadu_ps(f32 + r * cols + k);
      for (int n = 0; n < kR; ++n) acc[r][n] = _mm512_fmadd_ps(w[n], values, acc[r][n]);
    }
  }
  if (k < cols) {  // lanes past the last column stay as they are, as in the scalar kernel
    const auto mask = static_cast<__mmask16>((1u << (cols - k)) - 1);
    for (int r = 0; r < M; ++r) {
      const __m512 values = _mm512_maskz_loadu_ps(mask, f32 + r * cols + k);
      for (int n = 0; n < kR; ++n) {
        acc[r][n] = _mm512_mask3_fmadd_ps(Load16<E>(tile + n * kGroup), values, acc[r][n], mask);
      }
    }
  }
  const auto valid = static_cast<__mmask8>(n_valid >= kR ? 0xF : (1u << n_valid) - 1);
  for (int r = 0; r < M; ++r) _mm_mask_storeu_ps(y + (first + r) * y_stride, valid, SumLanes(acc[r]));
}

template <Element E, int64_t kAhead = 0>
void Compute(PANTRY_MATMUL_ARGS) {
  const int64_t tile_bytes = (cols + kLanes - 1) / kLanes * kR * kLanes * (E == Element::kF32 ? 4 : 2);
  for (int64_t t = tile_begin; t < tile_end; ++t) {
    const uint8_t* tile = tiles + t * tile_bytes;
    const int64_t n_valid = rows - t * kR;
    float* out = y + t * kR;
    int64_t r = 0;
    for (; r + 4 <= x.n_rows; r += 4) TileRows<E, 4>(tile, x, r, out, y_stride, n_valid);
    if (r + 2 <= x.n_rows) TileRows<E, 2>(tile, x, r, out, y_stride, n_valid), r += 2;
    if (r < x.n_rows) TileRows<E, 1, kAhead>(tile, x, r, out, y_stride, n_valid);
  }
}

}  // namespace

PANTRY_FLOAT_FORMATS(PANTRY_DEFINE_FLOAT_KERNEL, avx512)

void ComputeF16_amxint8(PANTRY_MATMUL_ARGS) {
  Compute<Element::kF16, kAmxReadAheadBytes>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride);
}

}  // namespace pantry::matmul
