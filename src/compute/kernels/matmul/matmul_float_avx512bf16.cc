// SPDX-License-Identifier: Apache-2.0
// The BF16 kernel for AVX512-BF16: activations rounded to BF16, 32 columns per instruction, four rows of weights by up to six of activations.
//
// Twice the multiply-adds of an F32 instruction, and no conversion of weights. Lane l takes columns 32 i + 2 l and 32 i + 2 l + 1.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // _mm512_undefined_ps() in GCC 12's own header
#endif
#include <immintrin.h>

#include "compute/kernels/matmul/matmul_compute.h"

namespace pantry::matmul {
namespace {

#define PANTRY_INLINE inline __attribute__((always_inline))

constexpr int kR = 4;
constexpr int64_t kGroupCols = 32;
constexpr int64_t kGroupBytes = 64;

#include "compute/kernels/matmul/read_ahead.inc"

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

PANTRY_INLINE __m512bh LoadGroup(const void* p) { return (__m512bh)_mm512_loadu_si512(p); }

template <int M, int64_t kAhead = 0>
PANTRY_INLINE void TileRows(const uint8_t* tile, const ActivationRows& x, int64_t first, float* y, int64_t y_stride,
                            int64_t n_valid) {
  const int64_t cols = x.n_cols;
  const uint16_t* bf16 = x.bf16 + first * cols;
  __m512 acc[M][kR];
  for (int r = 0; r < M; ++r) {
    for (int n = 0; n < kR; ++n) acc[r][n] = _mm512_setzero_ps();
  }
  int64_t k = 0;
  for (; k + kGroupCols <= cols; k += kGroupCols, tile += kR * kGroupBytes) {
    ReadAhead<kAhead>(tile, kR * kGroupBytes);
    __m512bh w[kR];
    for (int n = 0; n < kR; ++n) w[n] = LoadGroup(tile + n * kGroupBytes);
    for (int r = 0; r < M; ++r) {
      const __m512bh values = LoadGroup(bf16 + r * cols + k);
      for (int n = 0; n < kR; ++n) acc[r][n] = _mm512_dpbf16_ps(acc[r][n], w[n], values);
    }
  }
  if (k < cols) {  // the padding is zero in the tile, and must not meet the next row's numbers
    const __mmask32 mask = (1u << (cols - k)) - 1;
    for (int r = 0; r < M; ++r) {
      const __m512bh values = (__m512bh)_mm512_maskz_loadu_epi16(mask, bf16 + r * cols + k);
      for (int n = 0; n < kR; ++n) {
        acc[r][n] = _mm512_dpbf16_ps(acc[r][n], LoadGroup(tile + n * kGroupBytes), values);
      }
    }
  }
  const auto valid = static_cast<__mmask8>(n_valid >= kR ? 0xF : (1u << n_valid) - 1);
  for (int r = 0; r < M; ++r) _mm_mask_storeu_ps(y + (first + r) * y_stride, valid, SumLanes(acc[r]));
}

template <int64_t kAhead>
void Compute(PANTRY_MATMUL_ARGS) {
  const int64_t tile_bytes = (cols + kGroupCols - 1) / kGroupCols * kR * kGroupBytes;
  for (int64_t t = tile_begin; t < tile_end; ++t) {
    const uint8_t* tile = tiles + t * tile_bytes;
    const int64_t n_valid = rows - t * kR;
    float* out = y + t * kR;
    int64_t r = 0;
    for (; r + 6 <= x.n_rows; r += 6) TileRows<6>(tile, x, r, out, y_stride, n_valid);
    for (; r + 2 <= x.n_rows; r += 2) TileRows<2>(tile, x, r, out, y_stride, n_valid);
    if (r < x.n_rows) TileRows<1, kAhead>(tile, x, r, out, y_stride, n_valid);
  }
}

}  // namespace

void ComputeBF16_avx512bf16(PANTRY_MATMUL_ARGS) { Compute<0>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride); }

void ComputeBF16_amxint8(PANTRY_MATMUL_ARGS) {
  Compute<kAmxReadAheadBytes>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride);
}

}  // namespace pantry::matmul
