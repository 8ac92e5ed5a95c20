// SPDX-License-Identifier: Apache-2.0
// Integer kernels for AVX2 with AVX-VNNI: 8 rows per vector, four columns per dot-product instruction, unsigned codes.
#include <immintrin.h>

#include "compute/kernels/matmul/column_tile.h"
#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/quant_format.h"

namespace pantry::matmul {
namespace {

#include "compute/kernels/matmul/avx2_vectors.inc"

constexpr bool kSignedBytes = false;
PANTRY_INLINE Ints AddDotBytes(Ints sum, Ints codes, Ints values) {
  return _mm256_dpbusd_avx_epi32(sum, codes, values);
}

#include "compute/kernels/matmul/vnni_dot.inc"

#include "compute/kernels/matmul/integer_kernel.inc"

#include "compute/kernels/matmul/row_kernel.inc"

#include "compute/kernels/matmul/column_kernel.inc"

}  // namespace

PANTRY_INTEGER_FORMATS(PANTRY_DEFINE_INTEGER_KERNEL, avx2vnni)
PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_ROW_KERNEL, avx2vnni_rows)
PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_COLUMN_KERNEL, avx2vnni_columns)

}  // namespace pantry::matmul
