// SPDX-License-Identifier: Apache-2.0
#include "cli/sim_input.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/test_paths.h"

namespace pantry {
namespace {

Result<SimInput> InputOf(const std::string& name) {
  PANTRY_ASSIGN_OR_RETURN(const auto file, GgufFile::Open(testing::TestData("models/" + name + ".gguf")));
  EngineOptions engine;
  engine.memory_bytes = int64_t{1} << 30;
  engine.stream = StreamMode::kOn;
  engine.session.n_ctx = 64;
  return SimInputOf(*file, engine, FreeMemory::Now());
}

// A token's steps together cost what the model's table says.
TEST(SimInput, OfAFileHasTheWorkOfItsModel) {
  for (const std::string name : {"tiny-qwen3moe-quantized", "tiny-smallthinker", "tiny-olmoe"}) {
    const auto input = InputOf(name);
    ASSERT_TRUE(input.ok()) << input.status().ToString();
    const SimModel& model = input->model;
    EXPECT_TRUE(model.Validate().ok());
    EXPECT_GT(model.n_experts, model.n_used);
    EXPECT_EQ(model.steps.size(), static_cast<size_t>(model.n_layers()));
    double dense = model.after.bytes;
    for (const SimStep& step : model.steps) {
      dense += step.before.bytes + step.between.bytes;
      EXPECT_EQ(step.between.bytes > 0, name == "tiny-smallthinker") << name;
    }
    EXPECT_GT(dense, 0.5 * static_cast<double>(input->memory.dense_bytes));
    EXPECT_LT(dense, 1.1 * static_cast<double>(input->memory.dense_bytes));
  }
}

TEST(SimInput, MatricesOfADenseLayerAreWantedTogetherAsTheModelDoes) {
  const auto input = InputOf("tiny-llama");
  ASSERT_TRUE(input.ok()) << input.status().ToString();
  const SimModel& model = input->model;
  EXPECT_TRUE(model.Validate().ok());
  EXPECT_TRUE(model.is_rotation());
  ASSERT_EQ(model.steps.size(), 4 * static_cast<size_t>(model.n_layers()));  // q k v; o; gate up; down
  uint32_t next = 0;
  for (const SimStep& step : model.steps) {
    EXPECT_EQ(step.first_block, next);
    next += step.n_blocks;
  }
  EXPECT_EQ(next, model.blocks.size());
}

TEST(SimTrace, OfOptionsIsMadeAndOfWrongOnesRefused) {
  const auto input = InputOf("tiny-olmoe");
  ASSERT_TRUE(input.ok());
  const auto trace = SimTraceOf("zipf:tokens=7,seed=3", *input);
  ASSERT_TRUE(trace.ok()) << trace.status().ToString();
  EXPECT_EQ(trace->trace.n_steps(), 7u);
  for (const std::string wrong : {"zipf:tokens=x", "zipf:token=3", "zipf:tokens=0", "zipf:seed", "zipf:own=nan",
                                  "zipf:affinity=inf", "zipf:stays=2", "zipf:topics=8193"}) {
    EXPECT_EQ(SimTraceOf(wrong, *input).status().code(), StatusCode::kInvalidArgument) << wrong;
  }
  EXPECT_FALSE(SimTraceOf("/no/such/file", *input).ok());
}

TEST(SimInput, OfAShapeFitsItsBudgetOrSaysWhy) {
  const auto shape = FindShape("qwen3-30b-a3b");
  ASSERT_TRUE(shape.ok());
  const auto streamed = SimInputOf(*shape, int64_t{8} << 30, 512);
  ASSERT_TRUE(streamed.ok()) << streamed.status().ToString();
  EXPECT_TRUE(streamed->memory.is_streamed);
  EXPECT_LE(streamed->memory.total_bytes(), int64_t{8} << 30);
  EXPECT_EQ(streamed->layers.size(), 48u);
  const auto resident = SimInputOf(*shape, 0, 512);
  ASSERT_TRUE(resident.ok());
  EXPECT_FALSE(resident->memory.is_streamed);
  EXPECT_EQ(SimInputOf(*shape, 1 << 20, 512).status().code(), StatusCode::kOutOfBudget);
}

}  // namespace
}  // namespace pantry
