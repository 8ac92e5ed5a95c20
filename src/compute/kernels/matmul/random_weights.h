// SPDX-License-Identifier: Apache-2.0
// Random GGUF rows and activations for tests and benches: every code, sub-scale and sign occurs, scales are of a model's size.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "compute/activations.h"
#include "compute/kernels/matmul/matmul_kernel.h"
#include "weights/quant/half.h"
#include "weights/quant/tensor_type.h"

namespace pantry::testing {

// Where a block of `type` keeps F16 scales; the rest may be any bytes.
inline std::vector<int> F16Offsets(TensorType type) {
  switch (type) {
    case TensorType::kQ4_0:
    case TensorType::kQ5_0:
    case TensorType::kQ8_0:
    case TensorType::kIQ4_NL:
    case TensorType::kIQ4_XS: return {0};
    case TensorType::kQ4_1:
    case TensorType::kQ5_1:
    case TensorType::kQ4_K:
    case TensorType::kQ5_K: return {0, 2};
    case TensorType::kQ2_K: return {80, 82};
    case TensorType::kQ3_K: return {108};
    case TensorType::kQ6_K: return {208};
    default: return {};
  }
}

inline float RandomWeight(Rng& rng) { return static_cast<float>(rng.NextDouble() * 0.2 - 0.1); }

inline std::vector<uint8_t> RandomRows(TensorType type, int64_t n_rows, int64_t cols, Rng& rng) {
  std::vector<uint8_t> bytes(static_cast<size_t>(n_rows * RowBytes(type, cols)));
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(rng.NextU64() >> 56);
  const TensorTypeTraits& traits = TraitsOf(type);
  const std::vector<int> halves = F16Offsets(type);
  for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(traits.block_bytes)) {
    uint8_t* block = bytes.data() + at;
    const float weight = RandomWeight(rng);
    const uint32_t bits = std::bit_cast<uint32_t>(weight);
    const uint16_t half = F32ToF16(weight);
    const auto top = static_cast<uint16_t>(bits >> 16);
    if (type == TensorType::kF32) std::memcpy(block, &bits, 4);
    if (type == TensorType::kF16) std::memcpy(block, &half, 2);
    if (type == TensorType::kBF16) std::memcpy(block, &top, 2);
    if (type == TensorType::kMXFP4)
      *block = static_cast<uint8_t>(rng.NextU64() % 256 == 0 ? rng.NextU64() % 3 : 118 + rng.NextU64() % 12);
    for (const int offset : halves) {
      const uint16_t scale = F32ToF16(RandomWeight(rng) / 16);
      std::memcpy(block + offset, &scale, 2);
    }
  }
  return bytes;
}

inline std::vector<float> RandomActivations(int64_t n_rows, int64_t cols, Rng& rng) {
  std::vector<float> x(static_cast<size_t>(n_rows * cols));
  for (float& value : x) {
    const double u = rng.NextDouble() * 2 - 1;
    value = static_cast<float>(u * u * u * 4);  // a few large values among small ones, as after a norm
  }
  return x;
}

// Activation rows with their own memory, quantised by the contract of activations.h written out.
struct OwnedActivations {
  OwnedActivations(std::vector<float> x, int64_t n_rows, int64_t cols) : f32(std::move(x)) {
    const auto scratch_bytes = static_cast<size_t>(ActivationRows::ScratchBytes(n_rows, cols));
    scratch.resize(scratch_bytes / sizeof(CacheLine) + 1);
    rows = ActivationRows::InScratch(f32.data(), n_rows, cols, scratch[0].bytes);
    for (int64_t row = 0; row < n_rows; ++row) RoundRowToBf16(rows, row);
    if (cols % kActivationBlock != 0) return;
    for (int64_t block = 0; block < n_rows * cols / kActivationBlock; ++block) {
      const float* from = f32.data() + block * kActivationBlock;
      float max = 0.0f;
      for (int i = 0; i < kActivationBlock; ++i) max = std::max(max, std::abs(from[i]));
      const float step = max / 127.0f;
      rows.scales[block] = RoundTo11Bits(step);
      for (int i = 0; i < kActivationBlock; ++i) {
        rows.q[block * kActivationBlock + i] = static_cast<int8_t>(max == 0 ? 0 : std::nearbyint(from[i] / step));
      }
    }
    SumCodes();
  }
  // Makes sums fit codes that a test has changed.
  void SumCodes() {
    for (int64_t i = 0; i < rows.n_rows * rows.n_cols / kActivationSum; ++i) {
      int sum = 0;
      for (int j = 0; j < kActivationSum; ++j) sum += rows.q[i * kActivationSum + j];
      rows.sums[i] = static_cast<int16_t>(sum);
    }
    for (int64_t block = 0; block < rows.n_rows * rows.n_cols / kActivationBlock; ++block) {
      const int sum = rows.sums[2 * block] + rows.sums[2 * block + 1];
      rows.scaled_sums[block] = RoundTo11Bits(rows.scales[block] * static_cast<float>(sum));
    }
  }
  struct alignas(64) CacheLine {
    uint8_t bytes[64];
  };
  std::vector<float> f32;
  std::vector<CacheLine> scratch;
  ActivationRows rows;
};

// A packed matrix with its own memory.
struct PackedMatrix {
  PackedMatrix(const MatMulKernel& k, const std::vector<uint8_t>& gguf, int64_t n_rows, int64_t n_cols, int fill = 0)
      : kernel(&k),
        rows(n_rows),
        cols(n_cols),
        tile_bytes(k.packed_tile_bytes(n_cols)),
        n_tiles((n_rows + k.row_tile - 1) / k.row_tile) {
    lines.resize(static_cast<size_t>(n_tiles * tile_bytes / 64));
    std::memset(data(), fill, lines.size() * 64);
    const int64_t row_bytes = RowBytes(k.type, n_cols);
    for (int64_t t = 0; t < n_tiles; ++t) {
      const int64_t first = t * k.row_tile;
      k.pack_tile(gguf.data() + first * row_bytes, std::min<int64_t>(k.row_tile, rows - first), cols,
                  data() + t * tile_bytes);
    }
  }
  uint8_t* data() { return lines[0].bytes; }
  // y[m * y_stride + n] for all rows and tiles.
  void Compute(const ActivationRows& x, float* y, int64_t y_stride) {
    kernel->compute(data(), rows, cols, 0, n_tiles, x, y, y_stride);
  }
  const MatMulKernel* kernel;
  int64_t rows, cols, tile_bytes, n_tiles;
  std::vector<OwnedActivations::CacheLine> lines;
};

}  // namespace pantry::testing
