// SPDX-License-Identifier: Apache-2.0
// Integer kernels for any aarch64 CPU: four rows per vector, products widened to int16.
#include <arm_neon.h>

#include "compute/kernels/matmul/column_tile.h"
#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/quant_format.h"

namespace pantry::matmul {
namespace {

constexpr int kMaxM = 4;

#include "compute/kernels/matmul/neon_vectors.inc"

// The largest code as the dot product sees it, and how many products of it and +-127 an int16 sum holds.
template <QuantFormat F>
constexpr int kLargestCode = F.offset == 128                ? 128
                             : F.table == CodeTable::kMxfp4 ? 24
                                                            : (1 << F.bits) - 1;
template <QuantFormat F>
constexpr int kSafeSteps = 32767 / (127 * kLargestCode<F>);

// start + the products of N code vectors with the activations of 4 N columns. Products are summed in int16, as many as cannot overflow;
// then columns 2i and 2i+1 of a row are added to one of two int32 lanes, and those to the row's one.
template <QuantFormat F, int N>
PANTRY_INLINE Ints Dot(Ints start, const Ints* w, const int8_t* q) {
  constexpr int kSteps = kSafeSteps<F> >= 8 ? 8 : kSafeSteps<F> >= 4 ? 4 : 2;
  static_assert(kSafeSteps<F> >= kSteps);
  Ints low = Splat32(0), high = low;  // rows 0, 1 and rows 2, 3
#pragma GCC unroll 4
  for (int first = 0; first < N; first += kSteps) {
    int16x8_t low_products = vdupq_n_s16(0), high_products = low_products;
#pragma GCC unroll 8
    for (int g = first; g < first + (kSteps < N ? kSteps : N); ++g) {
      int32_t columns;
      __builtin_memcpy(&columns, q + 4 * g, sizeof(columns));
      const int8x16_t values = SignedBytes(Splat32(columns)), codes = SignedBytes(w[g]);
      const int8x8_t low_values = vget_low_s8(values), low_codes = vget_low_s8(codes);
      low_products = g == first ? vmull_s8(low_codes, low_values) : vmlal_s8(low_products, low_codes, low_values);
      high_products = g == first ? vmull_high_s8(codes, values) : vmlal_high_s8(high_products, codes, values);
    }
    low = vpadalq_s16(low, low_products);
    high = vpadalq_s16(high, high_products);
  }
  return vaddq_s32(start, vpaddq_s32(low, high));
}

#include "compute/kernels/matmul/integer_kernel.inc"

#include "compute/kernels/matmul/row_kernel.inc"

#include "compute/kernels/matmul/column_kernel.inc"

}  // namespace

PANTRY_INTEGER_FORMATS(PANTRY_DEFINE_INTEGER_KERNEL, neon)
PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_ROW_KERNEL, neon_rows)
PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_COLUMN_KERNEL, neon_columns)

}  // namespace pantry::matmul
