// SPDX-License-Identifier: Apache-2.0
// The scalar kernels: the truth that every other kernel must match. A tile is one GGUF row.
#include <bit>
#include <cmath>
#include <cstdint>

#include "compute/kernels/matmul/gguf_block.h"
#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/row_layout.h"
#include "compute/kernels/matmul/weight_block.h"
#include "weights/quant/half.h"
#include "weights/quant/tensor_type.h"

namespace pantry::matmul {
namespace {

// One block of one weight row with one activation row: the canonical step.
template <TensorType T>
float AccumulateBlock(const WeightBlock& w, const int8_t* q, float x_scale, float x_scaled_sum, const int16_t* sums,
                      float acc) {
  constexpr QuantFormat kF = kFormatOf<T>;
  constexpr int kSubs = kBlockCols / kF.sub_cols;
  for (int sub = 0; sub < kSubs; ++sub) {
    int32_t isum = 0;
    for (int i = sub * kF.sub_cols; i < (sub + 1) * kF.sub_cols; ++i) isum += CodeValue<T>(w.codes[i]) * q[i];
    const int32_t xsum = kSubs == 2 ? sums[sub] : sums[0] + sums[1];
    acc = std::fma(static_cast<float>(isum), WeightScale<T>(w, sub) * x_scale, acc);
    if constexpr (kF.has_min) {
      const float factor = kF.sub == SubScales::kNone ? x_scaled_sum : x_scale * static_cast<float>(xsum);
      acc = std::fma(WeightMin<T>(w, sub), factor, acc);
    }
  }
  return acc;
}

// y itself carries the accumulators, so that a block is taken apart once for all activation rows.
template <TensorType T>
void ComputeInteger(PANTRY_MATMUL_ARGS) {
  constexpr int kSpanBlocks = kFormatOf<T>.span_blocks;
  const int64_t n_blocks = cols / kBlockCols;
  const int64_t tile_bytes = RowLayout<T>::TileBytes(cols);
  const int64_t end = tile_end < rows ? tile_end : rows;
  for (int64_t n = tile_begin; n < end; ++n) {
    for (int64_t m = 0; m < x.n_rows; ++m) y[m * y_stride + n] = 0.0f;
    for (int64_t block = 0; block < n_blocks; ++block) {
      WeightBlock w;
      ReadBlock<T>(tiles + n * tile_bytes + block / kSpanBlocks * GgufSpanBytes<T>(), block % kSpanBlocks, &w);
      for (int64_t m = 0; m < x.n_rows; ++m) {
        const int64_t x_block = m * n_blocks + block;
        float& acc = y[m * y_stride + n];
        acc = AccumulateBlock<T>(w, x.q + x_block * kBlockCols, x.scales[x_block], x.scaled_sums[x_block],
                                 x.sums + x_block * 2, acc);
      }
    }
  }
}

template <TensorType T>
float LoadFloat(const uint8_t* row, int64_t k) {
  if constexpr (T == TensorType::kF16) return F16ToF32(LoadU16(row + 2 * k));
  if constexpr (T == TensorType::kBF16) return Bf16ToF32(LoadU16(row + 2 * k));
  return std::bit_cast<float>(LoadU32(row + 4 * k));
}

template <TensorType T>
void ComputeFloat(PANTRY_MATMUL_ARGS) {
  const int64_t tile_bytes = RowLayout<T>::TileBytes(cols);
  const int64_t end = tile_end < rows ? tile_end : rows;
  for (int64_t n = tile_begin; n < end; ++n) {
    const uint8_t* row = tiles + n * tile_bytes;
    for (int64_t m = 0; m < x.n_rows; ++m) {
      float lanes[16] = {};
      for (int64_t k = 0; k < cols; ++k) {
        lanes[k % 16] = std::fma(LoadFloat<T>(row, k), x.f32[m * cols + k], lanes[k % 16]);
      }
      for (int width = 8; width >= 1; width /= 2) {
        for (int l = 0; l < width; ++l) lanes[l] += lanes[l + width];
      }
      y[m * y_stride + n] = lanes[0];
    }
  }
}

template <TensorType T>
void Compute(PANTRY_MATMUL_ARGS) {
  if constexpr (T == TensorType::kF32 || T == TensorType::kF16 || T == TensorType::kBF16) {
    ComputeFloat<T>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride);
  } else {
    ComputeInteger<T>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride);
  }
}

}  // namespace

#define PANTRY_DEFINE_SCALAR_KERNEL(format, suffix)                                          \
  void Compute##format##_##suffix(PANTRY_MATMUL_ARGS) {                                      \
    Compute<TensorType::k##format>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride); \
  }
PANTRY_FLOAT_FORMATS(PANTRY_DEFINE_SCALAR_KERNEL, scalar)
PANTRY_INTEGER_FORMATS(PANTRY_DEFINE_SCALAR_KERNEL, scalar)

}  // namespace pantry::matmul
