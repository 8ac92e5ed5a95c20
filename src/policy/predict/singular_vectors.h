// SPDX-License-Identifier: Apache-2.0
// SingularVectors(): the leading right singular vectors of a matrix, which span what its rows have most in common.
// Threads: pure.
// Source: Halko, Martinsson, Tropp 2011, arXiv 0909.4061: a random subspace, iterated, and a small eigenproblem within it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace pantry {

// [rank, n_cols]: orthonormal rows, by falling singular value of `a` [n_rows, n_cols]. Where the matrix has fewer singular values above zero,
// the rows behind them are zero. Cost: 5 times n_rows * n_cols * (rank + 8) multiply-adds. The same input gives the same numbers.
std::vector<float> SingularVectors(std::span<const float> a, int64_t n_cols, int64_t rank);

}  // namespace pantry
