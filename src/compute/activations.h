// SPDX-License-Identifier: Apache-2.0
// ActivationRows are the right-hand side of a matrix product: rows of F32 numbers, and the same rows quantised once for all kernels.
// Kernels that multiply in BF16 read them rounded to that.
//
// Quantised form (Q8): 32 columns share one step, max|x| / 127; q = round_to_nearest_even(x / step), so |q| <= 127. Scales keep 11 bits of
// mantissa, as ggml's Q8 blocks with their F16 scales do, so that near ties fall as they do in llama.cpp: with unrounded F32 scales the most
// probable token was the same on 97.1 % of 1258 positions, with rounded ones on 98.2 % (tests/real_model_test.cc). F16's range is not taken over.
// `sums` are exact integer sums of q over 16 columns; kernels use them to take a weight's offset or minimum out of the inner loop.
// Every weight format reads the same quantised rows, so a row is quantised once whatever it is multiplied with.
// Threads: VectorOps::quantize_row and RoundRowToBf16 write the row they are given only; distinct rows may run in parallel.
#pragma once

#include <cstdint>

namespace pantry {

inline constexpr int kActivationBlock = 32;  // columns that share a scale
inline constexpr int kActivationSum = 16;    // columns that share a sum (the smallest sub-block of any weight format)

// F32 with the mantissa of F16 (11 bits with the hidden one), to nearest even. Internal linkage: kernels of every instruction set include this.
static inline float RoundTo11Bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  bits = (bits + 0xFFFu + ((bits >> 13) & 1u)) & ~0x1FFFu;
  __builtin_memcpy(&value, &bits, sizeof(bits));
  return value;
}

struct ActivationRows {
  int64_t n_rows = 0;
  int64_t n_cols = 0;          // row length; a multiple of 32 where q is used
  const float* f32 = nullptr;  // [n_rows, n_cols]
  int8_t* q = nullptr;         // [n_rows, n_cols], 64-byte aligned rows not required
  float* scales = nullptr;     // [n_rows, n_cols / 32] RoundTo11Bits(step)
  float* scaled_sums =
      nullptr;  // [n_rows, n_cols / 32] RoundTo11Bits(step * sum of the 32 q), for formats with a minimum per block
  int16_t* sums = nullptr;   // [n_rows, n_cols / 16]
  uint16_t* bf16 = nullptr;  // [n_rows, n_cols]

  // Bytes that all forms but f32 need together for n_rows x n_cols (64-byte aligned parts).
  static int64_t ScratchBytes(int64_t n_rows, int64_t n_cols);
  // Lays them out in `scratch` (64-byte aligned, ScratchBytes long).
  static ActivationRows InScratch(const float* f32, int64_t n_rows, int64_t n_cols, uint8_t* scratch);

  // Rows [first, first + n), in every form that is there.
  ActivationRows Rows(int64_t first, int64_t n) const;
  // Columns [first, first + n) of one row, as a row. REQUIRES: first is a multiple of kActivationBlock where q is used.
  ActivationRows Piece(int64_t row, int64_t first, int64_t n) const;

 private:
  ActivationRows From(int64_t row, int64_t col) const;
};

// rows.bf16 of one row from rows.f32, to nearest even; subnormal results become zero, as BF16 products take them, and NaN stays NaN.
void RoundRowToBf16(const ActivationRows& rows, int64_t row);

}  // namespace pantry
