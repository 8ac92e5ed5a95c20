// SPDX-License-Identifier: Apache-2.0
// Integer kernels for AVX512 without VNNI: 16 rows per vector, four columns per pair of multiply-add instructions.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // _mm512_undefined_ps() in GCC 12's own header
#endif
#include <immintrin.h>

#include "compute/kernels/matmul/column_tile.h"
#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/quant_format.h"

namespace pantry::matmul {
namespace {

#include "compute/kernels/matmul/avx512_vectors.inc"

constexpr bool kSignedBytes = true;
PANTRY_INLINE Ints MultiplyPairs(Ints codes, Ints values) { return _mm512_maddubs_epi16(codes, values); }
PANTRY_INLINE Ints AbsBytes(Ints v) { return _mm512_abs_epi8(v); }
PANTRY_INLINE Ints SignBytes(Ints values, Ints v) {
  return _mm512_mask_sub_epi8(values, _mm512_movepi8_mask(v), _mm512_setzero_si512(), values);
}
PANTRY_INLINE Ints AddPairs(Ints a, Ints b) { return _mm512_add_epi16(a, b); }
PANTRY_INLINE Ints WidenPairs(Ints pairs) { return _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)); }

#include "compute/kernels/matmul/pair_dot.inc"

#include "compute/kernels/matmul/integer_kernel.inc"

#include "compute/kernels/matmul/row_kernel.inc"

#include "compute/kernels/matmul/column_kernel.inc"

}  // namespace

PANTRY_INTEGER_FORMATS(PANTRY_DEFINE_INTEGER_KERNEL, avx512)
PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_ROW_KERNEL, avx512_rows)
PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_COLUMN_KERNEL, avx512_columns)

}  // namespace pantry::matmul
