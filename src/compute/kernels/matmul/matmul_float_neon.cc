// SPDX-License-Identifier: Apache-2.0
// F32, F16 and BF16 kernels for NEON: the 16 canonical lanes are four vectors; four rows of weights by one activation row, or two by three.
#include <arm_neon.h>

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
PANTRY_INLINE float32x4_t Load4(const uint8_t* p) {
  if constexpr (E == Element::kF32) return vreinterpretq_f32_u8(vld1q_u8(p));
  if constexpr (E == Element::kF16) return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
  return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

// The canonical tree: l with l + 8, l + 4, l + 2, l + 1.
PANTRY_INLINE float SumLanes(const float32x4_t v[4]) {
  const float32x4_t by4 = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
  return vpadds_f32(vadd_f32(vget_low_f32(by4), vget_high_f32(by4)));
}

// N rows of a tile from `first_row` on with M activation rows.
template <Element E, int M, int N>
PANTRY_INLINE void Product(const uint8_t* tile, int first_row, const float* x, int64_t cols, float* out,
                           int64_t y_stride, int64_t n_valid) {
  constexpr int64_t kGroup = kLanes * kBytes<E>;
  float32x4_t acc[M][N][4];
  for (int r = 0; r < M; ++r) {
    for (int n = 0; n < N; ++n) {
      for (int i = 0; i < 4; ++i) acc[r][n][i] = vdupq_n_f32(0.0f);
    }
  }
  const uint8_t* w = tile + first_row * kGroup;
  int64_t k = 0;
  for (; k + kLanes <= cols; k += kLanes, w += kR * kGroup) {
    for (int i = 0; i < 4; ++i) {
      float32x4_t weights[N];
      for (int n = 0; n < N; ++n) weights[n] = Load4<E>(w + n * kGroup + i * 4 * kBytes<E>);
      for (int r = 0; r < M; ++r) {
        const float32x4_t values = vld1q_f32(x + r * cols + k + 4 * i);
        for (int n = 0; n < N; ++n) acc[r][n][i] = vfmaq_f32(acc[r][n][i], weights[n], values);
      }
    }
  }
  if (k < cols) {  // lanes past the last column stay as they are, as in the scalar kernel
    constexpr int32_t kLane[4] = {0, 1, 2, 3};
    for (int i = 0; i < 4; ++i) {
      const int32x4_t lanes = vaddq_s32(vld1q_s32(kLane), vdupq_n_s32(4 * i));
      const uint32x4_t mask = vcltq_s32(lanes, vdupq_n_s32(static_cast<int32_t>(cols - k)));
      for (int r = 0; r < M; ++r) {
        float values[4] = {};
        for (int64_t l = 0; l < 4 && k + 4 * i + l < cols; ++l) values[l] = x[r * cols + k + 4 * i + l];
        for (int n = 0; n < N; ++n) {
          const float32x4_t weights = Load4<E>(w + n * kGroup + i * 4 * kBytes<E>);
          acc[r][n][i] = vbslq_f32(mask, vfmaq_f32(acc[r][n][i], weights, vld1q_f32(values)), acc[r][n][i]);
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

PANTRY_FLOAT_FORMATS(PANTRY_DEFINE_FLOAT_KERNEL, neon)

}  // namespace pantry::matmul
