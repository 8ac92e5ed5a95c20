// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/matmul/matmul_kernel.h"

#include "compute/kernels/matmul/float_layout.h"
#include "compute/kernels/matmul/interleaved_layout.h"
#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/row_layout.h"

namespace pantry {
namespace {

template <typename Layout>
constexpr MatMulKernel MakeKernel(const char* name, TensorType type, Isa isa, ActivationFormat activation,
                                  decltype(MatMulKernel::compute) compute) {
  return {name, type, isa, activation, Layout::kRowTile, Layout::TileBytes, Layout::Pack, Layout::UnpackRow, compute};
}

constexpr MatMulKernel kKernels[] = {
#define PANTRY_KERNEL(format, activation, isa, suffix, layout)                                            \
  MakeKernel<matmul::layout<TensorType::k##format>>(#format "_" #suffix, TensorType::k##format, Isa::isa, \
                                                    ActivationFormat::activation, matmul::Compute##format##_##suffix),
#include "compute/kernels/matmul/matmul_kernels.inc"
#undef PANTRY_KERNEL
};

}  // namespace

std::span<const MatMulKernel> AllMatMulKernels() { return kKernels; }

const MatMulKernel* FindMatMulKernel(TensorType type, Isa isa) {
  const MatMulKernel* best = nullptr;
  for (const MatMulKernel& kernel : kKernels) {
    if (kernel.type == type && IsaIncludes(isa, kernel.isa) && (!best || kernel.isa > best->isa)) best = &kernel;
  }
  return best;
}

}  // namespace pantry
