// SPDX-License-Identifier: Apache-2.0
#include "compute/one_row_products.h"

#include <algorithm>
#include <array>

#include "weights/quant/tensor_type.h"

namespace pantry {

Result<OneRowProducts> OneRowProducts::Create(TensorType type, Isa isa, int64_t rows, int64_t cols, int64_t n_bytes) {
  const MatMulKernel* const kernel = FindMatMulKernel(type, isa);
  if (kernel == nullptr || rows < 1 || cols < kActivationBlock || cols % TraitsOf(type).block_elements != 0 ||
      cols % kActivationBlock != 0) {
    return UnsupportedError("no products of {} with matrices of {} rows of {}", TensorTypeName(type), rows, cols);
  }
  OneRowProducts products;
  products.matrix_ = {.kernel = kernel, .rows = rows, .cols = cols};
  products.matrix_bytes_ = WeightMatrix::PackedBytes(*kernel, rows, cols);
  products.n_matrices_ = std::max<int64_t>(n_bytes / products.matrix_bytes_, 1);
  const auto n_weight_bytes = static_cast<size_t>(products.n_matrices_ * products.matrix_bytes_);
  PANTRY_ASSIGN_OR_RETURN(products.weights_, AlignedBuffer::Allocate(n_weight_bytes));
  AlignedBuffer::Touch(products.weights_.As<uint8_t>());
  PANTRY_ASSIGN_OR_RETURN(products.scratch_,
                          AlignedBuffer::Allocate(static_cast<size_t>(ActivationRows::ScratchBytes(1, cols))));
  products.ops_ = &VectorOpsFor(isa);
  products.x_.assign(static_cast<size_t>(cols), 1.0f);
  products.norm_ = products.x_;
  products.y_.resize(static_cast<size_t>(kTogether * rows));
  products.together_.resize(kTogether);
  return products;
}

double OneRowProducts::Run(ThreadPool& pool, double n_bytes) {
  const ActivationRows x = ActivationRows::InScratch(x_.data(), 1, matrix_.cols, scratch_.data());
  std::array<MatMulTask, kTogether> tasks;
  int64_t n_done = 0;
  const auto n_wanted = std::max<int64_t>(static_cast<int64_t>(n_bytes / static_cast<double>(matrix_bytes_)), 1);
  while (n_done < n_wanted) {
    const auto n = static_cast<size_t>(std::min(kTogether, n_wanted - n_done));
    for (size_t i = 0; i < n; ++i) {
      together_[i] = matrix_;
      together_[i].tiles = weights_.data() + next_ * matrix_bytes_;
      tasks[i] = {&together_[i], y_.data() + static_cast<int64_t>(i) * matrix_.rows, matrix_.rows};
      next_ = (next_ + 1) % n_matrices_;
    }
    MatMul(pool, std::span(tasks).first(n), x);
    n_done += static_cast<int64_t>(n);
  }
  return static_cast<double>(n_done * matrix_bytes_);
}

double OneRowProducts::RunRows(double n_bytes) {
  constexpr int kPasses = 2;  // over a row: its norm, and its quantising
  const ActivationRows row = ActivationRows::InScratch(x_.data(), 1, matrix_.cols, scratch_.data());
  const double bytes_at_once = static_cast<double>(kPasses) * sizeof(float) * static_cast<double>(matrix_.cols);
  double n_done = 0;
  do {
    ops_->rms_norm(x_.data(), norm_.data(), matrix_.cols, 1e-6f, x_.data());
    ops_->quantize_row(row, 0);
    n_done += bytes_at_once;
  } while (n_done < n_bytes);
  return n_done;
}

}  // namespace pantry
