// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/matmul/matmul_kernel.h"

#include "compute/kernels/matmul/column_layout.h"
#include "compute/kernels/matmul/float_layout.h"
#include "compute/kernels/matmul/interleaved_layout.h"
#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/row_layout.h"

namespace pantry {
namespace {

template <typename Layout>
constexpr MatMulKernel MakeKernel(const char* name, TensorType type, Isa isa, ActivationFormat activation,
                                  decltype(MatMulKernel::compute) compute,
                                  decltype(MatMulKernel::compute_rows_at) compute_rows_at = nullptr,
                                  decltype(MatMulKernel::compute_columns_at) compute_columns_at = nullptr) {
  return {name,
          type,
          isa,
          activation,
          Layout::kOrder,
          Layout::kRowTile,
          Layout::TileBytes,
          Layout::Pack,
          Layout::UnpackRow,
          compute,
          compute_rows_at,
          compute_columns_at};
}

constexpr MatMulKernel kKernels[] = {
#define PANTRY_KERNEL(format, activation, isa, suffix, layout)                                            \
  MakeKernel<matmul::layout<TensorType::k##format>>(#format "_" #suffix, TensorType::k##format, Isa::isa, \
                                                    ActivationFormat::activation, matmul::Compute##format##_##suffix),
#define PANTRY_ROW_KERNEL(format, activation, isa, suffix, layout)                                                    \
  MakeKernel<matmul::layout<TensorType::k##format>>(#format "_" #suffix, TensorType::k##format, Isa::isa,             \
                                                    ActivationFormat::activation, matmul::Compute##format##_##suffix, \
                                                    matmul::ComputeAt##format##_##suffix),
#define PANTRY_COLUMN_KERNEL(format, activation, isa, suffix, layout)                                                 \
  MakeKernel<matmul::layout<TensorType::k##format>>(#format "_" #suffix, TensorType::k##format, Isa::isa,             \
                                                    ActivationFormat::activation, matmul::Compute##format##_##suffix, \
                                                    nullptr, matmul::ComputeAt##format##_##suffix),
#include "compute/kernels/matmul/matmul_kernels.inc"
#undef PANTRY_COLUMN_KERNEL
#undef PANTRY_ROW_KERNEL
#undef PANTRY_KERNEL
};

}  // namespace

std::span<const MatMulKernel> AllMatMulKernels() { return kKernels; }

const MatMulKernel* FindMatMulKernel(TensorType type, Isa isa, WeightOrder order) {
  const MatMulKernel* best = nullptr;
  for (const MatMulKernel& kernel : kKernels) {
    if (kernel.type != type || kernel.order != order || !IsaIncludes(isa, kernel.isa)) continue;
    if (best == nullptr || kernel.isa > best->isa) best = &kernel;
  }
  return best;
}

}  // namespace pantry
