// SPDX-License-Identifier: Apache-2.0
#include "compute/activations.h"

namespace pantry {
namespace {

int64_t Align64(int64_t n_bytes) { return (n_bytes + 63) / 64 * 64; }
int64_t CodeBytes(int64_t n_rows, int64_t n_cols) { return Align64(n_rows * n_cols); }
int64_t ScaleBytes(int64_t n_rows, int64_t n_cols) { return Align64(n_rows * (n_cols / kActivationBlock) * 4); }
int64_t SumBytes(int64_t n_rows, int64_t n_cols) { return Align64(n_rows * (n_cols / kActivationSum) * 2); }

}  // namespace

int64_t ActivationRows::ScratchBytes(int64_t n_rows, int64_t n_cols) {
  return CodeBytes(n_rows, n_cols) + 2 * ScaleBytes(n_rows, n_cols) + SumBytes(n_rows, n_cols);
}

ActivationRows ActivationRows::InScratch(const float* f32, int64_t n_rows, int64_t n_cols, uint8_t* scratch) {
  uint8_t* const scales = scratch + CodeBytes(n_rows, n_cols);
  uint8_t* const scaled_sums = scales + ScaleBytes(n_rows, n_cols);
  uint8_t* const sums = scaled_sums + ScaleBytes(n_rows, n_cols);
  return {.n_rows = n_rows,
          .n_cols = n_cols,
          .f32 = f32,
          .q = reinterpret_cast<int8_t*>(scratch),
          .scales = reinterpret_cast<float*>(scales),
          .scaled_sums = reinterpret_cast<float*>(scaled_sums),
          .sums = reinterpret_cast<int16_t*>(sums)};
}

}  // namespace pantry
