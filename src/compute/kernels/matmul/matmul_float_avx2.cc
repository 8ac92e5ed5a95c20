// SPDX-License-Identifier: Apache-2.0
// F32, F16 and BF16 kernels for AVX2: the 16 canonical lanes are two vectors; four rows of weights by one activation row, or two by three.
#include <immintrin.h>

#include "compute/kernels/matmul/matmul_compute.h"

namespace pantry::matmul {
namespace {

constexpr int kR = 4;
constexpr int64_t kLanes = 16;
enum class Element { kF32, kF16, kBF16 };
#define PANTRY_INLINE inline __attribute__((always_inline))

template <Element E>
constexpr int64_t kBytes = E == Element::kF32 ? 4 : 2;

template <Element E>
PANTRY_INLINE __m256 Load8(const uint8_t* p) {
  if constexpr (E == Element::kF32) return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  if constexpr (E == Element::kF16) return _mm256_cvtph_ps(bits);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

// The canonical tree: l with l + 8, l + 4, l + 2, l + 1.
PANTRY_INLINE float SumLanes(const __m256 v[2]) {
  const __m256 by8 = _mm256_add_ps(v[0], v[1]);
  const __m128 by4 = _mm_add_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
  const __m128 by2 = _mm_add_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_add_ss(by2, _mm_movehdup_ps(by2)));
}

// N rows of a tile from `first_row` on with M activation rows.
template <Element E, int M, int N>
PANTRY_INLINE void Product(const uint8_t* tile, int first_row, const float* x, int64_t cols, float* out,
                           int64_t y_stride, int64_t n_valid) {
  constexpr int64_t kGroup = kLanes * kBytes<E>;
  __m256 acc[M][N][2];
  for (int r = 0; r < M; ++r) {
    for (int n = 0; n < N; ++n) acc[r][n][0] = acc[r][n][1] = _mm256_setzero_ps();
  }
  const uint8_t* w = tile + first_row * kGroup;
  int64_t k = 0;
  for (; k + kLanes <= cols; k += kLanes, w += kR * kGroup) {
    for (int half = 0; half < 2; ++half) {
      __m256 weights[N];
      for (int n = 0; n < N; ++n) weights[n] = Load8<E>(w + n * kGroup + half * 8 * kBytes<E>);
      for (int r = 0; r < M; ++r) {
        const __m256 values = _mm256_loadu_ps(x + r * cols + k + half * 8);
        for (int n = 0; n < N; ++n) acc[r][n][half] = _mm256_fmadd_ps(weights[n], values, acc[r][n][half]);
      }
    }
  }
  if (k < cols) {  // lanes past the last column stay as they are, as in the scalar kernel
    for (int half = 0; half < 2; ++half) {
      const __m256i lanes = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(half * 8));
      const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(cols - k)), lanes);
      for (int r = 0; r < M; ++r) {
        const __m256 values = _mm256_maskload_ps(x + r * cols + k + half * 8, mask);
        for (int n = 0; n < N; ++n) {
          const __m256 weights = Load8<E>(w + n * kGroup + half * 8 * kBytes<E>);
          const __m256 sum = _mm256_fmadd_ps(weights, values, acc[r][n][half]);
          acc[r][n][half] = _mm256_blendv_ps(acc[r][n][half], sum, _mm256_castsi256_ps(mask));
        }
      }
    }
  }
  for (int r = 0; r < M; ++r) {
    for (int n = 0; n < N; ++n) {
      if (first_row + n < n_valid) out[r * y_stride + first_row + n] = SumLanes(acc[r][n]);
    }
  }
}

template <Element E>
void Compute(PANTRY_MATMUL_ARGS) {
  const int64_t tile_bytes = (cols + kLanes - 1) / kLanes * kR * kLanes * kBytes<E>;
  for (int64_t t = tile_begin; t < tile_end; ++t) {
    const uint8_t* tile = tiles + t * tile_bytes;
    int64_t r = 0;
    for (; r + 3 <= x.n_rows; r += 3) {
      float* out = y + r * y_stride + t * kR;
      Product<E, 3, 2>(tile, 0, x.f32 + r * cols, cols, out, y_stride, rows - t * kR);
      Product<E, 3, 2>(tile, 2, x.f32 + r * cols, cols, out, y_stride, rows - t * kR);
    }
    for (; r < x.n_rows; ++r) {
      Product<E, 1, 4>(tile, 0, x.f32 + r * cols, cols, y + r * y_stride + t * kR, y_stride, rows - t * kR);
    }
  }
}

}  // namespace

PANTRY_FLOAT_FORMATS(PANTRY_DEFINE_FLOAT_KERNEL, avx2)

}  // namespace pantry::matmul
