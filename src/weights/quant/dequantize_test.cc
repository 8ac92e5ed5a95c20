// SPDX-License-Identifier: Apache-2.0
#include "weights/quant/dequantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "support/test_paths.h"
#include "weights/quant/tensor_type.h"

namespace pantry {
namespace {

class DequantizeGolden : public ::testing::TestWithParam<TensorTypeTraits> {};

TEST_P(DequantizeGolden, EqualsReferenceBitForBit) {
  const TensorTypeTraits& traits = GetParam();
  const std::string stem = "quant/" + std::string(traits.name);
  const std::string blocks = testing::ReadFile(testing::TestData(stem + ".blocks"));
  const std::string golden = testing::ReadFile(testing::TestData(stem + ".f32"));
  ASSERT_GT(blocks.size(), 0u);
  ASSERT_EQ(blocks.size() % traits.block_bytes, 0u);
  const int64_t n = static_cast<int64_t>(blocks.size()) / traits.block_bytes * traits.block_elements;
  ASSERT_EQ(golden.size(), n * sizeof(float));
  std::vector<float> out(n);
  DequantizeRow(traits.type, reinterpret_cast<const uint8_t*>(blocks.data()), n, out.data());
  for (int64_t i = 0; i < n; ++i) {
    uint32_t expected, found;
    std::memcpy(&expected, golden.data() + i * 4, 4);
    std::memcpy(&found, &out[i], 4);
    ASSERT_EQ(found, expected) << "weight " << i << ": " << out[i] << ", expected " << std::bit_cast<float>(expected);
  }
}

std::vector<TensorTypeTraits> WeightTypes() {
  std::vector<TensorTypeTraits> types;
  for (const TensorTypeTraits& traits : AllTensorTypes()) {
    if (traits.is_weight) types.push_back(traits);
  }
  return types;
}

INSTANTIATE_TEST_SUITE_P(AllWeightTypes, DequantizeGolden, ::testing::ValuesIn(WeightTypes()),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(Dequantize, ReadsNoByteBehindTheBlocks) {
  // The buffer is exactly as large as the blocks: the address sanitizer sees any byte too many.
  for (const TensorTypeTraits& traits : WeightTypes()) {
    std::vector<uint8_t> blocks(static_cast<size_t>(traits.block_bytes) * 3, 0x5A);
    std::vector<float> out(static_cast<size_t>(traits.block_elements) * 3 + 1, -7.0f);
    DequantizeRow(traits.type, blocks.data(), traits.block_elements * 3, out.data());
    EXPECT_EQ(out.back(), -7.0f) << traits.name;
    // Equal blocks decode to equal weights: no state runs from one block into the next.
    EXPECT_EQ(std::memcmp(out.data(), out.data() + traits.block_elements, traits.block_elements * sizeof(float)), 0)
        << traits.name;
  }
}

TEST(DequantizeDeathTest, IntegerTensorsAreNotWeights) {
  float out = 0;
  const uint8_t byte = 1;
  EXPECT_DEATH(DequantizeRow(TensorType::kI8, &byte, 1, &out), "");
}

TEST(TensorTypes, AreFoundByNumberAndOrdered) {
  uint32_t last = 0;
  for (const TensorTypeTraits& traits : AllTensorTypes()) {
    const uint32_t number = static_cast<uint32_t>(traits.type);
    EXPECT_TRUE(number == 0 || number > last) << traits.name;
    last = number;
    ASSERT_NE(FindTensorType(number), nullptr) << traits.name;
    EXPECT_EQ(FindTensorType(number)->name, traits.name);
    EXPECT_EQ(&TraitsOf(traits.type), FindTensorType(number));
    EXPECT_GT(traits.block_elements, 0);
    EXPECT_GT(traits.block_bytes, 0);
  }
  for (const uint32_t unknown : {4u, 5u, 9u, 15u, 16u, 38u, 40u, 41u, 1000u, 0xFFFFFFFFu})
    EXPECT_EQ(FindTensorType(unknown), nullptr);
}

TEST(TensorTypes, RowBytesCountWholeBlocks) {
  EXPECT_EQ(RowBytes(TensorType::kQ4_1, 576), 576 / 32 * 20);
  EXPECT_EQ(RowBytes(TensorType::kQ6_K, 2048), 2048 / 256 * 210);
  EXPECT_EQ(RowBytes(TensorType::kMXFP4, 2880), 2880 / 32 * 17);
  EXPECT_EQ(RowBytes(TensorType::kF16, 3), 6);
  EXPECT_EQ(RowBytes(TensorType::kF32, int64_t{1} << 40), int64_t{1} << 42);
}

}  // namespace
}  // namespace pantry
