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

template <Element E>
PANTRY_INLINE __m512 Load16(const uint8_t* p) {
  if constexpr (E == Element::kF32) return _mm512_loadu_ps(p);
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  if constexpr (E == Element::kF16) return _mm512_cvtph_ps(bits);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// The canonical tree: l with l + 8, l + 4, l + 2, l + 1.
PANTRY_INLINE float SumLanes(__m512 v) {
  const __m256 by8 = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 by4 = _mm_add_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
  const __m128 by2 = _mm_add_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_add_ss(by2, _mm_movehdup_ps(by2)));
}

template <Element E, int M>
PANTRY_INLINE void TileRows(const uint8_t* tile, const ActivationRows& x, int64_t first, float* y, int64_t y_stride,
                            int64_t n_valid) {
  constexpr int64_t kGroup = kLanes * (E == Element::kF32 ? 4 : 2);
  const int64_t cols = x.n_cols;
  const float* f32 = x.f32 + first * cols;
  __m512 acc[M][kR];
  for (int r = 0; r < M; ++r) {
    for (int n = 0; n < kR; ++n) acc[r][n] = _mm512_setzero_ps();
  }
  for (int64_t k = 0; k < cols; k += kLanes, tile += kR * kGroup) {
    const auto mask = static_cast<__mmask16>(cols - k >= kLanes ? 0xFFFFu : (1u << (cols - k)) - 1);
    __m512 w[kR];
    for (int n = 0; n < kR; ++n) w[n] = Load16<E>(tile + n * kGroup);
    for (int r = 0; r < M; ++r) {
      const __m512 values = _mm512_maskz_loadu_ps(mask, f32 + r * cols + k);
      // Lanes past the last column stay as they are, as in the scalar kernel.
      for (int n = 0; n < kR; ++n) acc[r][n] = _mm512_mask3_fmadd_ps(w[n], values, acc[r][n], mask);
    }
  }
  for (int r = 0; r < M; ++r) {
    for (int n = 0; n < kR; ++n) {
      if (n < n_valid) y[(first + r) * y_stride + n] = SumLanes(acc[r][n]);
    }
  }
}

template <Element E>
void Compute(PANTRY_MATMUL_ARGS) {
  const int64_t tile_bytes = (cols + kLanes - 1) / kLanes * kR * kLanes * (E == Element::kF32 ? 4 : 2);
  for (int64_t t = tile_begin; t < tile_end; ++t) {
    const uint8_t* tile = tiles + t * tile_bytes;
    const int64_t n_valid = rows - t * kR;
    float* out = y + t * kR;
    int64_t r = 0;
    for (; r + 4 <= x.n_rows; r += 4) TileRows<E, 4>(tile, x, r, out, y_stride, n_valid);
    if (r + 2 <= x.n_rows) TileRows<E, 2>(tile, x, r, out, y_stride, n_valid), r += 2;
    if (r < x.n_rows) TileRows<E, 1>(tile, x, r, out, y_stride, n_valid);
  }
}

}  // namespace

void ComputeF32_avx512vnni(PANTRY_MATMUL_ARGS) {
  Compute<Element::kF32>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride);
}
void ComputeF16_avx512vnni(PANTRY_MATMUL_ARGS) {
  Compute<Element::kF16>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride);
}
void ComputeBF16_avx512vnni(PANTRY_MATMUL_ARGS) {
  Compute<Element::kBF16>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride);
}

}  // namespace pantry::matmul
