// SPDX-License-Identifier: Apache-2.0
#include "policy/planner/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/units.h"
#include "policy/planner/context_plan.h"

namespace pantry {
namespace {

using ::testing::HasSubstr;

// A mixture of experts: 1 GiB that every token reads, 15 GiB of experts, 100 kB of keys and values a position.
MemoryRequest Mixture(int64_t budget) {
  MemoryRequest request;
  request.budget_bytes = budget;
  request.process_bytes = 50 * kMiB;
  request.dense_bytes = kGiB;
  request.block_bytes = 15 * kGiB;
  request.least_block_bytes = 20 * kMiB;
  request.reading_bytes = 16 * kMiB;
  request.scratch_bytes = 100 * kMiB;
  request.kv_bytes_per_position = 100'000;
  request.n_ctx_train = 32768;
  return request;
}

TEST(MemoryPlan, WhatFitsIsResident) {
  const Result<MemoryPlan> plan = PlanMemory(Mixture(24 * kGiB));
  ASSERT_TRUE(plan.ok()) << plan.status().ToString();
  EXPECT_FALSE(plan->is_streamed);
  EXPECT_EQ(plan->n_ctx, 32768);
  EXPECT_EQ(plan->cache_bytes, 15 * kGiB);
  EXPECT_EQ(plan->reading_bytes, 0);
}

// The context gives way before the weights do, down to the least that is useful.
TEST(MemoryPlan, AShorterContextComesBeforeStreaming) {
  const MemoryRequest request = Mixture(17 * kGiB);
  const Result<MemoryPlan> plan = PlanMemory(request);
  ASSERT_TRUE(plan.ok());
  EXPECT_FALSE(plan->is_streamed);
  EXPECT_LT(plan->n_ctx, 32768);
  EXPECT_GE(plan->n_ctx, kMinDefaultContext);
  EXPECT_LE(plan->total_bytes(), request.budget_bytes);
}

TEST(MemoryPlan, AStreamedRunTakesExactlyItsBudget) {
  for (const int64_t budget : {2 * kGiB, 4 * kGiB, 8 * kGiB, 12 * kGiB}) {
    const Result<MemoryPlan> plan = PlanMemory(Mixture(budget));
    ASSERT_TRUE(plan.ok()) << plan.status().ToString();
    EXPECT_TRUE(plan->is_streamed);
    EXPECT_EQ(plan->total_bytes(), budget);
    EXPECT_LE(plan->n_ctx, kStreamedContext);
    EXPECT_GE(plan->cache_bytes, 20 * kMiB);
  }
}

TEST(MemoryPlan, WhatMapsTheMemoryIsPartOfIt) {
  for (const int64_t budget : {2 * kGiB, 8 * kGiB, 24 * kGiB}) {
    const MemoryRequest request = Mixture(budget);
    const MemoryPlan plan = PlanMemory(request).value();
    const int64_t tables = plan.process_bytes - request.process_bytes;
    EXPECT_EQ(tables, PageTableBytes(plan.total_bytes() - tables));
    EXPECT_GE(kBytesPerPageTableByte * tables, plan.total_bytes() - tables);
  }
}

TEST(MemoryPlan, MoreMemoryNeverMeansASmallerCache) {
  int64_t before = 0;
  for (int64_t budget = 5 * kGiB / 4; budget < 24 * kGiB; budget += 64 * kMiB) {
    const Result<MemoryPlan> plan = PlanMemory(Mixture(budget));
    ASSERT_TRUE(plan.ok()) << budget << ": " << plan.status().ToString();
    EXPECT_LE(plan->total_bytes(), budget);
    EXPECT_GE(plan->cache_bytes, before) << budget;
    before = plan->cache_bytes;
  }
  EXPECT_EQ(before, 15 * kGiB);
}

TEST(MemoryPlan, BelowTheFloorTheSumIsToldWithARemedyThatWorks) {
  MemoryRequest request = Mixture(kGiB);
  const Status status = PlanMemory(request).status();
  EXPECT_EQ(status.code(), StatusCode::kOutOfBudget);
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr("needs at least 1.3 GB"));
  EXPECT_THAT(message, HasSubstr("weights that stay 1.1 GB"));
  EXPECT_THAT(message, HasSubstr("the budget is 1.1 GB"));
  const size_t at = message.find("--memory ");
  ASSERT_NE(at, std::string::npos);
  const Result<int64_t> advised = ParseMemoryBudget(message.substr(at + 9, message.find(',', at) - at - 9), -1);
  ASSERT_TRUE(advised.ok());
  request.budget_bytes = *advised;
  EXPECT_TRUE(PlanMemory(request).ok());
  request.budget_bytes = *advised - kMiB;
  EXPECT_FALSE(PlanMemory(request).ok());
}

TEST(MemoryPlan, AContextThatIsAskedForIsGivenOrRefused) {
  MemoryRequest request = Mixture(4 * kGiB);
  request.n_ctx = 16384;
  const Result<MemoryPlan> plan = PlanMemory(request);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->n_ctx, 16384);
  request.n_ctx = 32768;
  EXPECT_EQ(PlanMemory(request).status().code(), StatusCode::kOutOfBudget);
  request.n_ctx = INT64_MAX;
  EXPECT_EQ(PlanMemory(request).status().code(), StatusCode::kOutOfBudget);
}

TEST(MemoryPlan, StreamingMayBeForcedOrForbidden) {
  MemoryRequest request = Mixture(24 * kGiB);
  request.must_stream = true;
  const Result<MemoryPlan> streamed = PlanMemory(request);
  ASSERT_TRUE(streamed.ok());
  EXPECT_TRUE(streamed->is_streamed);
  EXPECT_EQ(streamed->cache_bytes, 15 * kGiB);
  request = Mixture(8 * kGiB);
  request.may_stream = false;
  const Status status = PlanMemory(request).status();
  EXPECT_EQ(status.code(), StatusCode::kOutOfBudget);
  EXPECT_THAT(std::string(status.message()), HasSubstr("--stream auto"));
}

TEST(MemoryPlan, ADenseModelHasNothingToStream) {
  MemoryRequest request = Mixture(2 * kGiB);
  request.dense_bytes = 4 * kGiB;
  request.block_bytes = request.least_block_bytes = 0;
  EXPECT_EQ(PlanMemory(request).status().code(), StatusCode::kOutOfBudget);
}

TEST(MemoryBudget, IsASizeAShareOrAuto) {
  EXPECT_EQ(*ParseMemoryBudget("6G", -1), 6 * kGiB);
  EXPECT_EQ(*ParseMemoryBudget("50%", 10 * kGiB), 5 * kGiB);
  EXPECT_EQ(*ParseMemoryBudget("auto", 10 * kGiB), 7 * kGiB);
  EXPECT_EQ(*ParseMemoryBudget("", 10 * kGiB), 7 * kGiB);
  EXPECT_EQ(*ParseMemoryBudget("auto", -1), 0);
  for (const char* bad : {"0", "-1G", "G", "0%", "101%", "nan%", "5%%", "%", "much"}) {
    const Result<int64_t> budget = ParseMemoryBudget(bad, kGiB);
    EXPECT_EQ(budget.status().code(), StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_FALSE(ParseMemoryBudget("50%", -1).ok());
}

}  // namespace
}  // namespace pantry
