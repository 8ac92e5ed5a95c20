// SPDX-License-Identifier: Apache-2.0
#include "policy/planner/context_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace pantry {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMB = 1'000'000;

// A model of 1.7 GB with 0.1 MB per position and 200 MB of scratch.
ContextRequest SmallMachine(int64_t free_bytes) {
  ContextRequest request;
  request.n_ctx_train = 8192;
  request.weight_bytes = 1700 * kMB;
  request.scratch_bytes = 200 * kMB;
  request.kv_bytes_per_position = kMB / 10;
  request.kv_bytes_per_position_q8 = kMB / 20;
  request.free_bytes = free_bytes;
  return request;
}

TEST(ContextPlan, DefaultIsTheModelsOwnWhereMemoryIsPlenty) {
  const auto plan = PlanContext(SmallMachine(10'000 * kMB));
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->n_ctx, 8192);
  EXPECT_FALSE(plan->is_cut);
  EXPECT_EQ(plan->kv_bytes, 8192 * kMB / 10);
  EXPECT_EQ(plan->total_bytes(), plan->weight_bytes + plan->kv_bytes + plan->scratch_bytes);
}

TEST(ContextPlan, ModelsOwnNeedNotBeAMultipleOfTheStep) {
  ContextRequest request = SmallMachine(10'000 * kMB);
  request.n_ctx_train = 100;
  const auto plan = PlanContext(request);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->n_ctx, 100);
}

TEST(ContextPlan, CutDefaultStaysWithinItsShareInWholeSteps) {
  for (int64_t free_mb = 500; free_mb < 2000; free_mb += 7) {
    const auto plan = PlanContext(SmallMachine(free_mb * kMB));
    ASSERT_TRUE(plan.ok());
    if (!plan->is_cut) continue;
    EXPECT_EQ(plan->n_ctx % kContextStep, 0);
    EXPECT_GE(plan->n_ctx, kMinDefaultContext);
    if (plan->n_ctx == kMinDefaultContext) continue;
    const double budget = static_cast<double>(free_mb * kMB) * kDefaultContextShare;
    EXPECT_LE(static_cast<double>(plan->kv_bytes + plan->scratch_bytes), budget);
    EXPECT_GT(static_cast<double>(plan->kv_bytes + plan->scratch_bytes) + kContextStep * kMB / 10.0, budget);
    EXPECT_THAT(plan->reason, HasSubstr("of the model's 8192 positions"));
  }
}

TEST(ContextPlan, SmallestDefaultMayTakeMoreThanItsShare) {
  // 200 MB + 512 * 0.1 MB = 251.2 MB: more than 70 % of 300 MB, less than all of it.
  const auto plan = PlanContext(SmallMachine(300 * kMB));
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->n_ctx, kMinDefaultContext);
  EXPECT_TRUE(plan->is_cut);
}

TEST(ContextPlan, DefaultThatCannotFitIsRefusedWithTheSums) {
  const auto plan = PlanContext(SmallMachine(240 * kMB));
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.status().code(), StatusCode::kOutOfBudget);
  EXPECT_THAT(std::string(plan.status().message()),
              HasSubstr("needs at least 2.0 GB (weights 1.7 GB + KV 51.2 MB + scratch 200.0 MB), available is 1.9 GB"));
}

TEST(ContextPlan, RequestThatDoesNotFitNamesWhatWouldFit) {
  ContextRequest request = SmallMachine(600 * kMB);
  request.n_ctx = 8000;
  const auto plan = PlanContext(request);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.status().code(), StatusCode::kOutOfBudget);
  const std::string message(plan.status().message());
  EXPECT_THAT(message, HasSubstr("needs at least 2.7 GB (weights 1.7 GB + KV 800.0 MB + scratch 200.0 MB)"));
  EXPECT_THAT(message, HasSubstr("available is 2.3 GB"));
  EXPECT_THAT(message, HasSubstr("--ctx-size 3840 (saves 416.0 MB)"));
  EXPECT_THAT(message, HasSubstr("q8_0 (saves 400.0 MB)"));
  request.n_ctx = 3840;
  EXPECT_TRUE(PlanContext(request).ok());
}

TEST(ContextPlan, ScratchAloneTooLargeAdvisesASmallerBatch) {
  ContextRequest request = SmallMachine(100 * kMB);
  request.n_ctx = 512;
  const auto plan = PlanContext(request);
  ASSERT_FALSE(plan.ok());
  EXPECT_THAT(std::string(plan.status().message()), HasSubstr("--batch-size"));
}

TEST(ContextPlan, RequestMayTakeAllFreeMemory) {
  ContextRequest request = SmallMachine(1000 * kMB);
  request.n_ctx = 8000;
  const auto plan = PlanContext(request);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->n_ctx, 8000);
}

TEST(ContextPlan, RequestBeyondTrainingIsGrantedAndSaid) {
  ContextRequest request = SmallMachine(10'000 * kMB);
  request.n_ctx = 10'000;
  const auto plan = PlanContext(request);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->n_ctx, 10'000);
  EXPECT_THAT(plan->reason, HasSubstr("trained on 8192"));
}

TEST(ContextPlan, AbsurdRequestIsRefusedNotOverflowed) {
  ContextRequest request = SmallMachine(1000 * kMB);
  request.n_ctx = std::numeric_limits<int64_t>::max();
  request.kv_bytes_per_position = 1 << 20;
  const auto plan = PlanContext(request);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.status().code(), StatusCode::kOutOfBudget);
  request.free_bytes = -1;
  EXPECT_FALSE(PlanContext(request).ok());
  request.n_ctx = -1;
  EXPECT_EQ(PlanContext(request).status().code(), StatusCode::kInvalidArgument);
}

TEST(ContextPlan, UnknownMemoryCapsTheDefaultOnly) {
  ContextRequest request = SmallMachine(-1);
  request.n_ctx_train = 131'072;
  auto plan = PlanContext(request);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->n_ctx, kUnknownMemoryContext);
  EXPECT_TRUE(plan->is_cut);
  request.n_ctx = 100'000;
  plan = PlanContext(request);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->n_ctx, 100'000);
}

TEST(ContextPlan, TableHasEveryPart) {
  const auto plan = PlanContext(SmallMachine(10'000 * kMB));
  ASSERT_TRUE(plan.ok());
  const std::string table = plan->Table();
  for (const char* part :
       {"weights", "1.7 GB", "KV cache", "819.2 MB", "8192 positions", "scratch", "200.0 MB", "2.7 GB"}) {
    EXPECT_THAT(table, HasSubstr(part));
  }
}

TEST(ContextPlan, KvBytesCountEveryLayerAndHead) {
  ModelShape shape;
  shape.n_layers = 30;
  shape.n_kv_heads = 3;
  EXPECT_EQ(KvBytesPerPosition(shape, 128, 68), 30 * 3 * (128 + 68));
}

TEST(ContextPlan, AdviceForALongPromptSaysTheCost) {
  EXPECT_EQ(AdviseLargerContext(9120, 8192, 131'072, 50'000), "use --ctx-size 16384 (costs +409.6 MB) or shorten");
  EXPECT_EQ(AdviseLargerContext(9120, 8192, 10'000, 50'000), "use --ctx-size 10000 (costs +90.4 MB) or shorten");
  EXPECT_THAT(AdviseLargerContext(9120, 8192, 8192, 50'000), HasSubstr("trained on 8192 positions"));
}

}  // namespace
}  // namespace pantry
