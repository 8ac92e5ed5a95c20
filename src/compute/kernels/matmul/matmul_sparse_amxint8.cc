// SPDX-License-Identifier: Apache-2.0
// Kernels of rows and of columns for AMX-INT8: what is interleaved for many activation rows is multiplied in groups (amx_groups.inc), the
// rest goes the way of AVX512-VNNI.
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

#include "compute/kernels/matmul/amx_groups.inc"

#define PANTRY_ROWS_IN_GROUPS
#include "compute/kernels/matmul/row_kernel.inc"

#include "compute/kernels/matmul/column_kernel.inc"

}  // namespace

PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_ROW_KERNEL, amxint8_rows)
PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_COLUMN_KERNEL, amxint8_columns)

}  // namespace pantry::matmul
