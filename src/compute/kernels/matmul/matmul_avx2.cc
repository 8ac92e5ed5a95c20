// SPDX-License-Identifier: Apache-2.0
// Integer kernels for AVX2: 8 rows per vector, four columns per pair of multiply-add instructions.
#include <immintrin.h>

#include "compute/kernels/matmul/column_tile.h"
#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/quant_format.h"

namespace pantry::matmul {
namespace {

#include "compute/kernels/matmul/avx2_vectors.inc"

constexpr bool kSignedBytes = true;
PANTRY_INLINE Ints MultiplyPairs(Ints codes, Ints values) { return _mm256_maddubs_epi16(codes, values); }
PANTRY_INLINE Ints AbsBytes(Ints v) { return _mm256_abs_epi8(v); }
PANTRY_INLINE Ints SignBytes(Ints values, Ints v) { return _mm256_sign_epi8(values, v); }
PANTRY_INLINE Ints AddPairs(Ints a, Ints b) { return _mm256_add_epi16(a, b); }
PANTRY_INLINE Ints WidenPairs(Ints pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

#include "compute/kernels/matmul/pair_dot.inc"

#include "compute/kernels/matmul/integer_kernel.inc"

#include "compute/kernels/matmul/row_kernel.inc"

#include "compute/kernels/matmul/column_kernel.inc"

}  // namespace

PANTRY_INTEGER_FORMATS(PANTRY_DEFINE_INTEGER_KERNEL, avx2)
PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_ROW_KERNEL, avx2_rows)
PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_COLUMN_KERNEL, avx2_columns)

}  // namespace pantry::matmul
