// SPDX-License-Identifier: Apache-2.0
// F32, F16 and BF16 kernels for x86-64-v2: the 16 canonical lanes are four vectors; two accumulators of them at a time, two rows of weights
// by one activation row or one by two. The product is rounded before it is added (no fused multiply-add).
#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/vector_ops/lanes_x86v2.h"

namespace pantry::matmul {
namespace {

constexpr int kR = 4;
constexpr int64_t kLanes = 16;
enum class Element { kF32, kF16, kBF16 };

template <Element E>
constexpr int64_t kBytes = E == Element::kF32 ? 4 : 2;

template <Element E>
inline __m128 Load4(const uint8_t* p) {
  if constexpr (E == Element::kF32) return _mm_loadu_ps(reinterpret_cast<const float*>(p));
  const __m128i halves = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  if constexpr (E == Element::kF16) return HalvesToFloats(halves);
  return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), halves));
}

// N rows of a tile from `first_row` on with M activation rows, M N <= 2.
template <Element E, int M, int N>
inline void Product(const uint8_t* tile, int first_row, const float* x, int64_t cols, float* out, int64_t y_stride,
                    int64_t n_valid) {
  constexpr int64_t kGroup = kLanes * kBytes<E>;
  F32x16 acc[M][N];
  for (int r = 0; r < M; ++r) {
    for (int n = 0; n < N; ++n) acc[r][n] = Broadcast(0);
  }
  const uint8_t* w = tile + first_row * kGroup;
  int64_t k = 0;
  for (; k + kLanes <= cols; k += kLanes, w += kR * kGroup) {
    for (int i = 0; i < 4; ++i) {
      __m128 weights[N];
      for (int n = 0; n < N; ++n) weights[n] = Load4<E>(w + n * kGroup + i * 4 * kBytes<E>);
      for (int r = 0; r < M; ++r) {
        const __m128 values = _mm_loadu_ps(x + r * cols + k + 4 * i);
        for (int n = 0; n < N; ++n) acc[r][n].v[i] = _mm_add_ps(acc[r][n].v[i], _mm_mul_ps(weights[n], values));
      }
    }
  }
  if (k < cols) {  // beyond the last column both factors are zero
    for (int r = 0; r < M; ++r) {
      const F32x16 values = Load(x + r * cols + k, Part(cols - k));
      for (int n = 0; n < N; ++n) {
        for (int i = 0; i < 4; ++i) {
          const __m128 weights = Load4<E>(w + n * kGroup + i * 4 * kBytes<E>);
          acc[r][n].v[i] = _mm_add_ps(acc[r][n].v[i], _mm_mul_ps(weights, values.v[i]));
        }
      }
    }
  }
  for (int r = 0; r < M; ++r) {
    for (int n = 0; n < N; ++n) {
      if (first_row + n < n_valid) out[r * y_stride + first_row + n] = ReduceAdd(acc[r][n]);
    }
  }
}

template <Element E>
void Compute(PANTRY_MATMUL_ARGS) {
  const int64_t tile_bytes = (cols + kLanes - 1) / kLanes * kR * kLanes * kBytes<E>;
  for (int64_t t = tile_begin; t < tile_end; ++t) {
    const uint8_t* tile = tiles + t * tile_bytes;
    const int64_t n_valid = rows - t * kR;
    int64_t r = 0;
    for (; r + 2 <= x.n_rows; r += 2) {
      float* out = y + r * y_stride + t * kR;
      for (int n = 0; n < kR; ++n) Product<E, 2, 1>(tile, n, x.f32 + r * cols, cols, out, y_stride, n_valid);
    }
    if (r < x.n_rows) {
      float* out = y + r * y_stride + t * kR;
      for (int n = 0; n < kR; n += 2) Product<E, 1, 2>(tile, n, x.f32 + r * cols, cols, out, y_stride, n_valid);
    }
  }
}

}  // namespace

PANTRY_FLOAT_FORMATS(PANTRY_DEFINE_FLOAT_KERNEL, x86v2)

}  // namespace pantry::matmul
