// SPDX-License-Identifier: Apache-2.0
// Integer kernels for AVX512-VNNI: 16 rows per vector, four columns per dot-product instruction, unsigned codes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // _mm512_undefined_ps() in GCC 12's own header
#endif
#include <immintrin.h>

#include "compute/kernels/matmul/column_tile.h"
#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/quant_format.h"

namespace pantry::matmul {
namespace {

#include "compute/kernels/matmul/avx512vnni_vectors.inc"

#include "compute/kernels/matmul/integer_kernel.inc"

#include "compute/kernels/matmul/row_kernel.inc"

#include "compute/kernels/matmul/column_kernel.inc"

}  // namespace

PANTRY_INTEGER_FORMATS(PANTRY_DEFINE_INTEGER_KERNEL, avx512vnni)
PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_ROW_KERNEL, avx512vnni_rows)
PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_COLUMN_KERNEL, avx512vnni_columns)

}  // namespace pantry::matmul
