// SPDX-License-Identifier: Apache-2.0
// Declares the compute function of every kernel of matmul_kernels.inc; the contract is MatMulKernel::compute.
//
// Plain declarations only: files compiled for an instruction set include this.
#pragma once

#include <cstdint>

#include "compute/activations.h"

#define PANTRY_MATMUL_ARGS                                                                                         \
  const uint8_t *tiles, int64_t rows, int64_t cols, int64_t tile_begin, int64_t tile_end, const ActivationRows &x, \
      float *y, int64_t y_stride

namespace pantry::matmul {

#define PANTRY_SCALAR_KERNEL(format, activation) void Compute##format##_scalar(PANTRY_MATMUL_ARGS);
#define PANTRY_X86_KERNEL(format, activation, isa, suffix, layout) void Compute##format##_##suffix(PANTRY_MATMUL_ARGS);
#include "compute/kernels/matmul/matmul_kernels.inc"
#undef PANTRY_SCALAR_KERNEL
#undef PANTRY_X86_KERNEL

}  // namespace pantry::matmul
