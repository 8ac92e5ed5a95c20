// SPDX-License-Identifier: Apache-2.0
#include "engine/run_forecast.h"

#include <gtest/gtest.h>

#include <memory>

#include "base/units.h"
#include "support/test_paths.h"

namespace pantry {
namespace {

using ::pantry::testing::TestData;

struct Opened {
  std::unique_ptr<GgufFile> file;
  ModelShape shape;
  ModelNeeds needs;
};

Opened OpenTable(const std::string& name, Isa isa = Isa::kScalar) {
  Opened opened;
  auto file = GgufFile::Open(TestData("models/" + name + ".gguf"));
  EXPECT_TRUE(file.ok()) << file.status().ToString();
  opened.file = std::move(file).value();
  auto shape = ParseModelShape(opened.file->metadata());
  EXPECT_TRUE(shape.ok());
  opened.shape = *std::move(shape);
  auto needs = NeedsOf(*opened.file, isa);
  EXPECT_TRUE(needs.ok()) << needs.status().ToString();
  opened.needs = *std::move(needs);
  return opened;
}

HardwareProfile Machine() {
  HardwareProfile profile;
  profile.dram_read_bytes_per_s = {{1, 10e9}};
  profile.int8_ops_per_s = {{1, 100e9}};
  profile.f32_flops = {{1, 50e9}};
  profile.disk.emplace();
  profile.disk->random = {{4096, 1, 0.1e9, 0}};
  return profile;
}

constexpr FreeMemory kGigabyte = {kGiB, 10 * kMiB};

TEST(RunForecast, ATokensBytesAreTheDensePartAndItsExperts) {
  const Opened model = OpenTable("tiny-qwen3moe");
  const ModelWork work = WorkOf(model.shape, model.needs.cost, model.needs.blocks, {});
  EXPECT_EQ(work.n_expert_layers, model.shape.n_layers);
  EXPECT_EQ(work.n_experts, model.shape.n_experts);
  const double used = work.n_expert_layers * work.n_experts_used * work.expert_bytes;
  EXPECT_EQ(static_cast<double>(work.dense_bytes) + used,
            static_cast<double>(model.needs.cost.layers.n_bytes + model.needs.cost.output.n_bytes));
  EXPECT_EQ(work.expert_pieces, 3);  // gate, up and down of so small an expert
  EXPECT_GT(work.dense_bytes, 0);
  EXPECT_LE(work.dense_bytes, model.needs.dense_bytes);
}

TEST(RunForecast, ExpertsByNeuronAreComputedInPart) {
  if (BestIsa() == Isa::kScalar) GTEST_SKIP() << "no kernel computes single neurons";
  const Opened all = OpenTable("tiny-qwen3moe"), some = OpenTable("tiny-turbosparse-quantized", BestIsa());
  EXPECT_EQ(WorkOf(all.shape, all.needs.cost, all.needs.blocks, {}).expert_cost.traffic, 1);
  const ModelWork sparse = WorkOf(some.shape, some.needs.cost, some.needs.blocks, {});
  EXPECT_LT(sparse.expert_cost.bytes, sparse.expert_cost.traffic);
  EXPECT_LT(sparse.expert_cost.traffic, 0.7);
  EXPECT_GT(sparse.expert_cost.bytes, 1.0 / 3);
  ModelWork dense = sparse;
  dense.expert_cost = {};
  const MachineRates rates = RatesFor(Machine(), 1, 4096);
  // Of 2 used, so many are distinct. What counts is the rows of an expert, not of the run.
  ASSERT_EQ(sparse.n_experts_used, 2);
  const auto saved = [&](int64_t n_tokens, double n_distinct) {
    const SpeedEstimate of_all = EstimateBatch(rates, dense, n_tokens, 0, n_distinct, {});
    const SpeedEstimate of_some = EstimateBatch(rates, sparse, n_tokens, 0, n_distinct, {});
    EXPECT_LE(of_some.arithmetic_s, of_all.arithmetic_s);
    EXPECT_LE(of_some.memory_s, of_all.memory_s);
    return of_all.memory_s - of_some.memory_s;
  };
  const double one = saved(1, 2);
  EXPECT_GT(one, 0);
  EXPECT_NEAR(saved(2, 4), 2 * one, 1e-9 * one) << "one row each";
  EXPECT_GT(saved(2, 2), 0) << "two rows each";
  EXPECT_LT(saved(2, 2), one);
  EXPECT_EQ(saved(3, 2), 0) << "three rows each: scattered reads take as long as all of it";
  EXPECT_EQ(saved(16, 4), 0) << "eight rows each";
}

TEST(RunForecast, ADenseModelThatFitsHasNothingOnDisk) {
  const Opened model = OpenTable("tiny-llama");
  const Result<MemoryPlan> plan = PlanRun(model.needs, model.shape, {}, kGigabyte);
  ASSERT_TRUE(plan.ok()) << plan.status().ToString();
  EXPECT_FALSE(plan->is_streamed);
  EXPECT_EQ(plan->cache_bytes, model.needs.resident_block_bytes());
  EXPECT_EQ(plan->dense_bytes + plan->block_bytes, model.needs.dense_bytes + model.needs.resident_block_bytes());
  EXPECT_EQ(plan->n_ctx, model.shape.n_ctx_train);
  const RunForecast forecast =
      Forecast(WorkOf(model.shape, model.needs.cost, model.needs.blocks, {}), *plan, Machine(), 1, {});
  EXPECT_GT(forecast.Token(0).low_s, 0);
  EXPECT_EQ(forecast.Token(0).disk_s, 0);
}

TEST(RunForecast, OfLayersInRotationThoseHitThatAreHeld) {
  const Opened model = OpenTable("tiny-llama");
  const ModelWork work = WorkOf(model.shape, model.needs.cost, model.needs.blocks, {});
  EXPECT_EQ(work.n_expert_layers, model.shape.n_layers);
  EXPECT_TRUE(work.reads_ahead);
  MemoryPlan plan;
  plan.is_streamed = true;
  plan.block_bytes = model.needs.block_bytes();
  plan.cache_bytes = plan.block_bytes / 4;
  const RunForecast forecast = Forecast(work, plan, Machine(), 1, {});
  EXPECT_NEAR(forecast.hits.low, 0.25, 1e-4);
  EXPECT_EQ(forecast.hits.low, forecast.hits.high);
  EXPECT_GT(forecast.Token(0).disk_s, 0);
  EXPECT_EQ(forecast.Token(0).binds, Resource::kDisk);
}

TEST(RunForecast, TheMoreMemoryTheFaster) {
  const Opened model = OpenTable("tiny-qwen3moe");
  const ModelWork work = WorkOf(model.shape, model.needs.cost, model.needs.blocks, {});
  EngineOptions options;
  options.session.n_ctx = 64;
  double before = 1e9;
  int n_streamed = 0, n_resident = 0;
  for (int64_t budget = 34 * kMiB; budget < 40 * kMiB; budget += 16 * kKiB) {
    options.memory_bytes = budget;
    const Result<MemoryPlan> plan = PlanRun(model.needs, model.shape, options, kGigabyte);
    if (!plan.ok()) {
      EXPECT_EQ(plan.status().code(), StatusCode::kOutOfBudget);
      EXPECT_EQ(before, 1e9) << "what fitted in less memory does not fit in " << budget;
      continue;
    }
    (plan->is_streamed ? n_streamed : n_resident) += 1;
    const double token_s = Forecast(work, *plan, Machine(), 1, options.session).Token(32).likely_s;
    EXPECT_LE(token_s, before) << budget;
    before = token_s;
  }
  EXPECT_GT(n_streamed + n_resident, 0);
  EXPECT_GT(n_resident, 0);
}

TEST(MemoryBudget, AutoIsAShareOfWhatIsFreeForExpertsAndAllOfItElse) {
  const Opened moe = OpenTable("tiny-qwen3moe"), dense = OpenTable("tiny-llama");
  EXPECT_EQ(PlanRun(moe.needs, moe.shape, {}, kGigabyte)->budget_bytes,
            10 * kMiB + static_cast<int64_t>(kAutoMemoryShare * static_cast<double>(kGiB)));
  EXPECT_EQ(PlanRun(dense.needs, dense.shape, {}, kGigabyte)->budget_bytes, 10 * kMiB + kGiB);
  const Result<MemoryPlan> unknown = PlanRun(dense.needs, dense.shape, {}, {-1, 10 * kMiB});
  EXPECT_EQ(unknown.status().code(), StatusCode::kInvalidArgument);
}

TEST(MemoryBudget, IsTheSameForAPlanAndForARun) {
  const Opened model = OpenTable("tiny-qwen3moe");
  EngineOptions options;
  options.memory_bytes = 100 * kMiB;
  const Result<MemoryPlan> plan = PlanRun(model.needs, model.shape, options, kGigabyte);
  const auto run = PlanBudget(*model.file, model.shape, Isa::kScalar, options, kGigabyte);
  ASSERT_TRUE(plan.ok());
  ASSERT_TRUE(run.ok() && run->has_value());
  EXPECT_EQ(plan->Table(), (*run)->Table());
  // A dense model without a budget has no plan in a run: its context is cut when the session begins.
  const Opened dense = OpenTable("tiny-llama");
  const auto none = PlanBudget(*dense.file, dense.shape, Isa::kScalar, {}, kGigabyte);
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none->has_value());
}

}  // namespace
}  // namespace pantry
