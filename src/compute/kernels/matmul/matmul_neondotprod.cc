// SPDX-License-Identifier: Apache-2.0
// Integer kernels for NEON with SDOT: four rows per vector, four columns per instruction.
#include <arm_neon.h>

#include "compute/kernels/matmul/column_tile.h"
#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/quant_format.h"

namespace pantry::matmul {
namespace {

constexpr int kMaxM = 8;

#include "compute/kernels/matmul/neon_vectors.inc"

#include "compute/kernels/matmul/neon_dotprod.inc"

#include "compute/kernels/matmul/integer_kernel.inc"

#include "compute/kernels/matmul/row_kernel.inc"

#include "compute/kernels/matmul/column_kernel.inc"

}  // namespace

PANTRY_INTEGER_FORMATS(PANTRY_DEFINE_INTEGER_KERNEL, neondotprod)
PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_ROW_KERNEL, neondotprod_rows)
PANTRY_SPARSE_FORMATS(PANTRY_DEFINE_COLUMN_KERNEL, neondotprod_columns)

}  // namespace pantry::matmul
