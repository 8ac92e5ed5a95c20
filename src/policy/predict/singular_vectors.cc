// SPDX-License-Identifier: Apache-2.0
#include "policy/predict/singular_vectors.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/rng.h"
#include "base/status.h"
#include "policy/predict/vector_math.h"

namespace pantry {
namespace {

constexpr int64_t kOversampling = 8;  // directions beside those that are wanted
constexpr int kIterations = 2;

// `n` rows of length n_cols.
struct Rows {
  std::vector<float> data;
  int64_t n = 0;
  int64_t n_cols = 0;
  float* At(int64_t i) { return data.data() + i * n_cols; }
  const float* At(int64_t i) const { return data.data() + i * n_cols; }
};

// Makes the rows orthonormal, each against those before; twice, since once loses digits. What is left of a dependent row is zero.
void Orthonormalize(Rows& rows) {
  constexpr float kDependent = 1e-5f;
  for (int64_t i = 0; i < rows.n; ++i) {
    float* const row = rows.At(i);
    const float before = std::sqrt(Dot(row, row, rows.n_cols));
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t j = 0; j < i; ++j) {
        AddScaled(row, -Dot(row, rows.At(j), rows.n_cols), rows.At(j), rows.n_cols);
      }
    }
    const float norm = std::sqrt(Dot(row, row, rows.n_cols));
    const float scale = norm > kDependent * before && norm > 0 ? 1 / norm : 0;
    for (int64_t c = 0; c < rows.n_cols; ++c) row[c] *= scale;
  }
}

// Eigenvalues and vectors [n, n] (rows) of a symmetric matrix: Jacobi's rotations, which are slow for large n and never fail.
struct Eigen {
  std::vector<double> values, vectors;
};
Eigen SymmetricEigen(std::vector<double> a, int64_t n) {
  Eigen eigen;
  std::vector<double>& rows = eigen.vectors;
  rows.assign(static_cast<size_t>(n * n), 0);
  const auto at = [n](auto& m, int64_t i, int64_t j) -> double& { return m[static_cast<size_t>(i * n + j)]; };
  for (int64_t i = 0; i < n; ++i) at(rows, i, i) = 1;
  for (int sweep = 0; sweep < 30; ++sweep) {
    double off = 0, on = 0;
    for (int64_t p = 0; p < n; ++p) {
      on += at(a, p, p) * at(a, p, p);
      for (int64_t q = p + 1; q < n; ++q) off += at(a, p, q) * at(a, p, q);
    }
    if (off <= 1e-18 * on) break;
    for (int64_t p = 0; p < n; ++p) {
      for (int64_t q = p + 1; q < n; ++q) {
        if (at(a, p, q) == 0) continue;
        const double theta = (at(a, q, q) - at(a, p, p)) / (2 * at(a, p, q));
        const double t = (theta < 0 ? -1 : 1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (int64_t k = 0; k < n; ++k) {
          const double kp = at(a, k, p), kq = at(a, k, q);
          at(a, k, p) = c * kp - s * kq;
          at(a, k, q) = s * kp + c * kq;
        }
        for (int64_t k = 0; k < n; ++k) {
          const double pk = at(a, p, k), qk = at(a, q, k);
          at(a, p, k) = c * pk - s * qk;
          at(a, q, k) = s * pk + c * qk;
          const double vp = at(rows, p, k), vq = at(rows, q, k);
          at(rows, p, k) = c * vp - s * vq;
          at(rows, q, k) = s * vp + c * vq;
        }
      }
    }
  }
  for (int64_t i = 0; i < n; ++i) eigen.values.push_back(at(a, i, i));
  return eigen;
}

// Each row r of `basis` becomes a^T (a r). If given, `gram` becomes the inner products of the a r: [basis.n, basis.n].
Rows Iterate(std::span<const float> a, const Rows& basis, std::vector<double>* gram) {
  Rows next = {std::vector<float>(basis.data.size()), basis.n, basis.n_cols};
  const int64_t n = basis.n, n_rows = static_cast<int64_t>(a.size()) / basis.n_cols;
  std::vector<float> products(static_cast<size_t>(n));
  if (gram != nullptr) gram->assign(static_cast<size_t>(n * n), 0);
  for (int64_t row = 0; row < n_rows; ++row) {
    const float* const of_a = a.data() + row * basis.n_cols;
    for (int64_t i = 0; i < n; ++i) products[static_cast<size_t>(i)] = Dot(of_a, basis.At(i), basis.n_cols);
    for (int64_t i = 0; i < n; ++i) {
      const float product = products[static_cast<size_t>(i)];
      if (gram == nullptr) AddScaled(next.At(i), product, of_a, basis.n_cols);
      for (int64_t j = 0; gram != nullptr && j < n; ++j) {
        (*gram)[static_cast<size_t>(i * n + j)] += double{product} * products[static_cast<size_t>(j)];
      }
    }
  }
  return next;
}

}  // namespace

std::vector<float> SingularVectors(std::span<const float> a, int64_t n_cols, int64_t rank) {
  PANTRY_CHECK(n_cols >= 1 && rank >= 0 && static_cast<int64_t>(a.size()) % n_cols == 0);
  const int64_t n_rows = static_cast<int64_t>(a.size()) / n_cols;
  const int64_t n = std::min({rank + kOversampling, n_cols, n_rows});
  Rows basis = {std::vector<float>(static_cast<size_t>(n * n_cols)), n, n_cols};
  Rng rng(1);
  for (float& number : basis.data) number = static_cast<float>(rng.NextDouble() - 0.5);
  Orthonormalize(basis);
  for (int i = 0; i < kIterations; ++i) {
    basis = Iterate(a, basis, nullptr);
    Orthonormalize(basis);
  }
  std::vector<double> gram;
  Iterate(a, basis, &gram);
  const Eigen eigen = SymmetricEigen(std::move(gram), n);
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, [&](int64_t i, int64_t j) {
    return eigen.values[static_cast<size_t>(i)] > eigen.values[static_cast<size_t>(j)];
  });
  std::vector<float> vectors(static_cast<size_t>(rank * n_cols));
  for (int64_t k = 0; k < std::min(rank, n); ++k) {
    const int64_t from = order[static_cast<size_t>(k)];
    for (int64_t i = 0; i < n; ++i) {
      AddScaled(vectors.data() + k * n_cols, static_cast<float>(eigen.vectors[static_cast<size_t>(from * n + i)]),
                basis.At(i), n_cols);
    }
  }
  return vectors;
}

}  // namespace pantry
