// SPDX-License-Identifier: Apache-2.0
#include "compute/activations.h"

#include <bit>

#include "base/status.h"
#include "base/units.h"

namespace pantry {
namespace {

constexpr int64_t kAlignment = 64;  // bytes

int64_t CodeBytes(int64_t n_rows, int64_t n_cols) { return AlignUp(n_rows * n_cols, kAlignment); }
int64_t ScaleBytes(int64_t n_rows, int64_t n_cols) {
  return AlignUp(n_rows * (n_cols / kActivationBlock) * 4, kAlignment);
}
int64_t SumBytes(int64_t n_rows, int64_t n_cols) { return AlignUp(n_rows * (n_cols / kActivationSum) * 2, kAlignment); }
int64_t Bf16Bytes(int64_t n_rows, int64_t n_cols) { return AlignUp(n_rows * n_cols * 2, kAlignment); }

}  // namespace

int64_t ActivationRows::ScratchBytes(int64_t n_rows, int64_t n_cols) {
  return CodeBytes(n_rows, n_cols) + 2 * ScaleBytes(n_rows, n_cols) + SumBytes(n_rows, n_cols) +
         Bf16Bytes(n_rows, n_cols);
}

ActivationRows ActivationRows::InScratch(const float* f32, int64_t n_rows, int64_t n_cols, uint8_t* scratch) {
  uint8_t* const scales = scratch + CodeBytes(n_rows, n_cols);
  uint8_t* const scaled_sums = scales + ScaleBytes(n_rows, n_cols);
  uint8_t* const sums = scaled_sums + ScaleBytes(n_rows, n_cols);
  uint8_t* const bf16 = sums + SumBytes(n_rows, n_cols);
  return {.n_rows = n_rows,
          .n_cols = n_cols,
          .f32 = f32,
          .q = reinterpret_cast<int8_t*>(scratch),
          .scales = reinterpret_cast<float*>(scales),
          .scaled_sums = reinterpret_cast<float*>(scaled_sums),
          .sums = reinterpret_cast<int16_t*>(sums),
          .bf16 = reinterpret_cast<uint16_t*>(bf16)};
}

ActivationRows ActivationRows::From(int64_t row, int64_t col) const {
  const int64_t at = row * n_cols + col;
  ActivationRows part = *this;
  if (f32) part.f32 = f32 + at;
  if (bf16) part.bf16 = bf16 + at;
  if (q) {
    part.q = q + at;
    part.scales = scales + at / kActivationBlock;
    part.scaled_sums = scaled_sums + at / kActivationBlock;
    part.sums = sums + at / kActivationSum;
  }
  return part;
}

ActivationRows ActivationRows::Rows(int64_t first, int64_t n) const {
  ActivationRows part = From(first, 0);
  part.n_rows = n;
  return part;
}

ActivationRows ActivationRows::Piece(int64_t row, int64_t first, int64_t n) const {
  PANTRY_CHECK(q == nullptr || first % kActivationBlock == 0);
  ActivationRows part = From(row, first);
  part.n_rows = 1;
  part.n_cols = n;
  return part;
}

void RoundRowToBf16(const ActivationRows& rows, int64_t row) {
  const float* from = rows.f32 + row * rows.n_cols;
  uint16_t* to = rows.bf16 + row * rows.n_cols;
  for (int64_t i = 0; i < rows.n_cols; ++i) {
    const auto bits = std::bit_cast<uint32_t>(from[i]);
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    uint32_t rounded = bits + 0x7FFFu + ((bits >> 16) & 1u);
    rounded = magnitude > 0x7F800000u ? bits | 0x400000u : rounded;
    to[i] = static_cast<uint16_t>(magnitude < 0x00800000u ? 0u : rounded >> 16);
  }
}

}  // namespace pantry
