// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/matmul/matmul_kernel.h"

#include "compute/kernels/matmul/float_layout.h"
#include "compute/kernels/matmul/interleaved_layout.h"
#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/row_layout.h"

namespace pantry {
namespace {

using matmul::RowLayout;

template <typename Layout>
constexpr MatMulKernel MakeKernel(const char* name, TensorType type, Isa isa, ActivationFormat activation,
                                  decltype(MatMulKernel::compute) compute) {
  return {name, type, isa, activation, Layout::kRowTile, Layout::TileBytes, Layout::Pack, Layout::UnpackRow, compute};
}

constexpr MatMulKernel kKernels[] = {
#define PANTRY_SCALAR_KERNEL(format, activation)                                                       \
  MakeKernel<RowLayout<TensorType::k##format>>(#format "_scalar", TensorType::k##format, Isa::kScalar, \
                                               ActivationFormat::activation, matmul::Compute##format##_scalar),
#define PANTRY_X86_KERNEL(format, activation, isa, suffix, layout)                                               \
  MakeKernel<matmul::layout>(#format "_" #suffix, TensorType::k##format, Isa::isa, ActivationFormat::activation, \
                             matmul::Compute##format##_##suffix),
#include "compute/kernels/matmul/matmul_kernels.inc"
#undef PANTRY_SCALAR_KERNEL
#undef PANTRY_X86_KERNEL
};

}  // namespace

std::span<const MatMulKernel> AllMatMulKernels() { return kKernels; }

const MatMulKernel* FindMatMulKernel(TensorType type, Isa isa) {
  const MatMulKernel* best = nullptr;
  for (const MatMulKernel& kernel : kKernels) {
    if (kernel.type == type && kernel.isa <= isa && (!best || kernel.isa > best->isa)) best = &kernel;
  }
  return best;
}

}  // namespace pantry
