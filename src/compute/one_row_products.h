// SPDX-License-Identifier: Apache-2.0
// OneRowProducts are products of one row with matrices that no cache holds, as decoding a token computes them: for measuring how fast this
// machine goes through weights of a format.
//
// The weights are zero, which takes as long as any others. Threads: Run() from the pool's owner.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "compute/kernels/vector_ops/vector_ops.h"
#include "compute/matmul.h"
#include "sys/aligned_buffer.h"

namespace pantry {

class OneRowProducts {
 public:
  // So many matrices [rows, cols] that they take n_bytes, at least one. kUnsupported: no weight format, or columns that are no whole blocks of
  // it; kOutOfBudget.
  static Result<OneRowProducts> Create(TensorType type, Isa isa, int64_t rows, int64_t cols, int64_t n_bytes);

  // Computes one matrix after the other, some of them together, until n_bytes of weights were read; goes on where the last call ended.
  // Returns the bytes that were read, at least one matrix.
  double Run(ThreadPool& pool, double n_bytes);

  // What lies between two products of a token, on the caller alone: normalises rows and quantises them, again and again, until floats of n_bytes
  // were gone through. Returns how many bytes that were, at least those of one row.
  double RunRows(double n_bytes);

 private:
  OneRowProducts() = default;
  static constexpr int64_t kTogether = 8;  // matrices of one MatMul(), as a layer's experts; at most kMaxMatMulTasks
  const VectorOps* ops_ = nullptr;
  WeightMatrix matrix_;  // the first one
  int64_t matrix_bytes_ = 0;
  int64_t n_matrices_ = 0;
  int64_t next_ = 0;
  AlignedBuffer weights_, scratch_;
  std::vector<float> x_, y_, norm_;
  std::vector<WeightMatrix> together_;
};

}  // namespace pantry
