// SPDX-License-Identifier: Apache-2.0
#include "compute/matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "compute/kernels/matmul/random_weights.h"
#include "weights/quant/dequantize.h"

namespace pantry {
namespace {

using testing::OwnedActivations;
using testing::PackedMatrix;
using testing::RandomActivations;
using testing::RandomRows;

constexpr int64_t kCols = 512;

// Three matrices of different formats and sizes, as attention's Q, K and V may be.
struct ThreeMatrices {
  explicit ThreeMatrices(Isa isa) {
    Rng rng(11);
    for (const auto& [type, rows] :
         {std::pair(TensorType::kQ4_K, 700), {TensorType::kQ8_0, 37}, {TensorType::kF16, 130}}) {
      packed.emplace_back(*FindMatMulKernel(type, isa), RandomRows(type, rows, kCols, rng), rows, kCols);
    }
    for (PackedMatrix& p : packed)
      views.push_back({.kernel = p.kernel, .rows = p.rows, .cols = p.cols, .tiles = p.data()});
  }
  // The three products side by side: [n_rows, 700 + 37 + 130].
  std::vector<float> Product(ThreadPool& pool, const ActivationRows& x, RowTask prepare = {}) const {
    int64_t stride = 0;
    for (const WeightMatrix& view : views) stride += view.rows;
    std::vector<float> y(static_cast<size_t>(x.n_rows * stride));
    std::vector<MatMulTask> tasks;
    int64_t at = 0;
    for (const WeightMatrix& view : views) {
      tasks.push_back({&view, y.data() + at, stride});
      at += view.rows;
    }
    MatMul(pool, tasks, x, prepare);
    return y;
  }
  std::vector<PackedMatrix> packed;
  std::vector<WeightMatrix> views;
};

TEST(MatMul, EqualsEachKernelAlone) {
  const ThreeMatrices w(BestIsa());
  Rng rng(12);
  constexpr int64_t kRows = 5;
  OwnedActivations x(RandomActivations(kRows, kCols, rng), kRows, kCols);
  ThreadPool pool(2);
  const std::vector<float> y = w.Product(pool, x.rows);
  int64_t at = 0;
  for (const WeightMatrix& view : w.views) {
    std::vector<float> alone(static_cast<size_t>(kRows * view.rows));
    const int64_t n_tiles = (view.rows + view.kernel->row_tile - 1) / view.kernel->row_tile;
    view.kernel->compute(view.tiles, view.rows, view.cols, 0, n_tiles, x.rows, alone.data(), view.rows);
    for (int64_t m = 0; m < kRows; ++m) {
      for (int64_t n = 0; n < view.rows; ++n) {
        ASSERT_EQ(y[static_cast<size_t>(m * 867 + at + n)], alone[static_cast<size_t>(m * view.rows + n)])
            << view.kernel->name;
      }
    }
    at += view.rows;
  }
}

TEST(MatMul, ResultsDoNotDependOnThreads) {
  const ThreeMatrices w(BestIsa());
  Rng rng(13);
  for (const int64_t n_rows : {1, 2, 40}) {
    OwnedActivations x(RandomActivations(n_rows, kCols, rng), n_rows, kCols);
    ThreadPool one(1);
    const std::vector<float> expected = w.Product(one, x.rows);
    for (const int n_threads : {2, 3, 8}) {
      ThreadPool pool(n_threads);
      EXPECT_EQ(w.Product(pool, x.rows), expected) << n_threads << " threads, " << n_rows << " rows";
    }
  }
}

// 1300 rows are several passes over the weights (512 KiB of activations each).
TEST(MatMul, LongPromptEqualsOneRowAtATime) {
  const ThreeMatrices w(BestIsa());
  Rng rng(14);
  constexpr int64_t kRows = 1300;
  const std::vector<float> values = RandomActivations(kRows, kCols, rng);
  OwnedActivations x(values, kRows, kCols);
  ThreadPool pool(2);
  const std::vector<float> together = w.Product(pool, x.rows);
  for (int64_t m = 0; m < kRows; m += 63) {
    OwnedActivations row({values.begin() + m * kCols, values.begin() + (m + 1) * kCols}, 1, kCols);
    const std::vector<float> alone = w.Product(pool, row.rows);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + m * 867)) << "row " << m;
  }
}

TEST(MatMul, PreparesEachRowOnceBeforeItIsMultiplied) {
  const ThreeMatrices w(BestIsa());
  Rng rng(16);
  ThreadPool pool(2);
  for (const int64_t n_rows : {1, 3, 40}) {
    const std::vector<float> values = RandomActivations(n_rows, kCols, rng);
    OwnedActivations x(values, n_rows, kCols);
    const std::vector<float> expected = w.Product(pool, x.rows);
    OwnedActivations late(std::vector<float>(values.size(), 0.0f), n_rows, kCols);
    const auto add_values = [&](int64_t row) {
      for (int64_t i = row * kCols; i < (row + 1) * kCols; ++i) {
        late.f32[static_cast<size_t>(i)] += values[static_cast<size_t>(i)];
      }
    };
    EXPECT_EQ(w.Product(pool, late.rows, RowTask(add_values)), expected) << n_rows << " rows";
  }
}

TEST(MatMul, QuantizesTheActivationsItself) {
  const ThreeMatrices w(BestIsa());
  Rng rng(15);
  OwnedActivations x(RandomActivations(3, kCols, rng), 3, kCols);
  ThreadPool pool(1);
  const std::vector<float> expected = w.Product(pool, x.rows);
  std::fill_n(x.rows.q, 3 * kCols, int8_t{99});
  std::fill_n(x.rows.scales, 3 * kCols / kActivationBlock, 99.0f);
  std::fill_n(x.rows.sums, 3 * kCols / kActivationSum, int16_t{99});
  EXPECT_EQ(w.Product(pool, x.rows), expected);
}

TEST(MatMul, EveryInstructionSetWithFusedMultiplyAddGivesTheSameBits) {
  ThreadPool pool(1);
  Rng rng(16);
  OwnedActivations x(RandomActivations(9, kCols, rng), 9, kCols);
  const std::vector<float> scalar = ThreeMatrices(Isa::kScalar).Product(pool, x.rows);
  for (const Isa isa : kBuildIsas) {
    if (!IsaSupported(isa) || !HasFusedMultiplyAdd(isa)) continue;
    EXPECT_EQ(ThreeMatrices(isa).Product(pool, x.rows), scalar) << IsaName(isa);
  }
}

TEST(WeightMatrix, UnpackRowFindsTheRowInItsTile) {
  Rng rng(17);
  const std::vector<uint8_t> gguf = RandomRows(TensorType::kQ6_K, 50, kCols, rng);
  PackedMatrix packed(*FindMatMulKernel(TensorType::kQ6_K, BestIsa()), gguf, 50, kCols);
  const WeightMatrix view = {.kernel = packed.kernel, .rows = 50, .cols = kCols, .tiles = packed.data()};
  EXPECT_EQ(WeightMatrix::PackedBytes(*packed.kernel, 50, kCols), static_cast<int64_t>(packed.lines.size()) * 64);
  std::vector<float> expected(kCols), actual(kCols);
  for (int64_t row = 0; row < 50; ++row) {
    DequantizeRow(TensorType::kQ6_K, gguf.data() + row * RowBytes(TensorType::kQ6_K, kCols), kCols, expected.data());
    view.UnpackRow(row, actual.data());
    ASSERT_EQ(actual, expected) << "row " << row;
  }
}

TEST(ActivationRows, ScratchPartsAreAlignedAndInside) {
  alignas(64) static uint8_t scratch[8192];
  const ActivationRows x = ActivationRows::InScratch(nullptr, 3, 96, scratch);
  const auto offset = [&](const void* p) { return static_cast<const uint8_t*>(p) - scratch; };
  EXPECT_EQ(offset(x.scales) % 64, 0);
  EXPECT_EQ(offset(x.sums) % 64, 0);
  EXPECT_GE(offset(x.scales) - offset(x.q), 3 * 96);
  EXPECT_GE(offset(x.scaled_sums) - offset(x.scales), 3 * 3 * 4);
  EXPECT_GE(offset(x.sums) - offset(x.scaled_sums), 3 * 3 * 4);
  EXPECT_LE(offset(x.sums) + 3 * 6 * 2, ActivationRows::ScratchBytes(3, 96));
}

}  // namespace
}  // namespace pantry
