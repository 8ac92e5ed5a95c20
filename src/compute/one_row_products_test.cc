// SPDX-License-Identifier: Apache-2.0
#include "compute/one_row_products.h"

#include <gtest/gtest.h>

namespace pantry {
namespace {

constexpr int64_t kRows = 96, kCols = 512;

TEST(OneRowProducts, ReadsAsMuchAsIsAskedAndSaysHowMuch) {
  ThreadPool pool(2);
  for (const TensorType type : {TensorType::kQ4_0, TensorType::kQ6_K, TensorType::kF16}) {
    const MatMulKernel* const kernel = FindMatMulKernel(type, BestIsa());
    const auto matrix_bytes = static_cast<double>(WeightMatrix::PackedBytes(*kernel, kRows, kCols));
    Result<OneRowProducts> products = OneRowProducts::Create(type, BestIsa(), kRows, kCols, 1 << 20);
    ASSERT_TRUE(products.ok()) << products.status().ToString();
    EXPECT_EQ(products->Run(pool, 1), matrix_bytes);  // never none
    EXPECT_EQ(products->Run(pool, 20.5 * matrix_bytes), 20 * matrix_bytes);
    EXPECT_EQ(products->RunRows(1), 2 * sizeof(float) * kCols);
    EXPECT_EQ(products->RunRows(2.5 * 2 * sizeof(float) * kCols), 3 * 2 * sizeof(float) * kCols);
    EXPECT_EQ(products->Run(pool, 3e6), static_cast<int64_t>(3e6 / matrix_bytes) * matrix_bytes);  // round and round
  }
}

TEST(OneRowProducts, RefusesWhatNoKernelComputes) {
  EXPECT_EQ(OneRowProducts::Create(TensorType::kF64, BestIsa(), kRows, kCols, 1 << 20).status().code(),
            StatusCode::kUnsupported);
  EXPECT_EQ(OneRowProducts::Create(TensorType::kQ4_K, BestIsa(), kRows, 128, 1 << 20).status().code(),
            StatusCode::kUnsupported);  // half a block
  EXPECT_EQ(OneRowProducts::Create(TensorType::kQ4_0, BestIsa(), 0, kCols, 1 << 20).status().code(),
            StatusCode::kUnsupported);
}

}  // namespace
}  // namespace pantry
