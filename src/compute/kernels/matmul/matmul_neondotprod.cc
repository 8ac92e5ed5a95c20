// SPDX-License-Identifier: Apache-2.0
// Integer kernels for NEON with SDOT: four rows per vector, four columns per instruction.
#include <arm_neon.h>

#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/quant_format.h"

namespace pantry::matmul {
namespace {

constexpr int kMaxM = 8;

#include "compute/kernels/matmul/neon_vectors.inc"

#include "compute/kernels/matmul/neon_dotprod.inc"

#include "compute/kernels/matmul/integer_kernel.inc"

}  // namespace

PANTRY_INTEGER_FORMATS(PANTRY_DEFINE_INTEGER_KERNEL, neondotprod)

}  // namespace pantry::matmul
