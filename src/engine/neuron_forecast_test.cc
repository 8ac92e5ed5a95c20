// SPDX-License-Identifier: Apache-2.0
#include "engine/neuron_forecast.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "engine/memory_budget.h"
#include "engine/weight_stream.h"
#include "support/made_up_profile.h"
#include "support/tiny_pack.h"

namespace pantry {
namespace {

// A tiny pack of single neurons, as a plan sees it.
struct Opened {
  explicit Opened(const char* name)
      : pack(name, NeuronPacking::kAlways),
        file(testing::OpenGguf(pack.path())),
        shape(ParseModelShape(file->metadata()).value()),
        needs(NeedsOf(*file, BestIsa()).value()) {}
  testing::TinyPack pack;
  std::unique_ptr<GgufFile> file;
  ModelShape shape;
  ModelNeeds needs;
};

TEST(NeuronForecast, WhatASessionDoesNotUseYetHoldsNeurons) {
  MemoryPlan plan;
  plan.cache_bytes = 300;
  plan.block_bytes = 1000;
  plan.scratch_bytes = 100;
  plan.kv_bytes = 200;
  plan.n_ctx = 1000;
  EXPECT_DOUBLE_EQ(NeuronsHeld(plan, 0), 0.6);
  EXPECT_DOUBLE_EQ(NeuronsHeld(plan, 500), 0.5);
  EXPECT_DOUBLE_EQ(NeuronsHeld(plan, 5000), 0.4);
  plan.cache_bytes = 1000;
  EXPECT_DOUBLE_EQ(NeuronsHeld(plan, 500), 1);
}

TEST(NeuronForecast, UpAndDownComeByNeuronAndTheirScalesDoNot) {
  const Opened model("tiny-bamboo-quantized");
  const ModelShape& shape = model.shape;
  const ModelNeeds& needs = model.needs;
  const FiringCurve firing = FiringCurve::Guess();
  const ModelWork work = NeuronWorkOf(shape, needs.cost, needs.blocks, {}, firing);
  EXPECT_EQ(work.n_expert_layers, shape.n_layers);
  EXPECT_EQ(work.n_experts, shape.n_ff);
  EXPECT_NEAR(work.n_experts_used, 0.16 * static_cast<double>(shape.n_ff), 0.01 * static_cast<double>(shape.n_ff));
  EXPECT_EQ(work.expert_file_bytes, 4096) << "small bundles lie in one block of the disk";
  const int64_t all_bytes = needs.cost.layers.n_bytes + needs.cost.output.n_bytes;
  EXPECT_LT(work.dense_bytes, all_bytes - WeightStream::AllBlocksBytes(needs.blocks) / 2);
  const int64_t gate_bytes = work.overlapped_bytes * 4 / 3,
                scale_bytes = shape.n_layers * needs.blocks.neurons()->scales_bytes;
  EXPECT_GT(work.dense_bytes, gate_bytes + scale_bytes);
  EXPECT_LT(work.int8_macs, needs.cost.layers.int8_macs);
  EXPECT_EQ(work.neighbour_bytes, needs.blocks.neurons()->bundle_bytes);
  EXPECT_EQ(work.rows_share, 1) << "a neuron that one row wants runs for all";
  // All of up and down, as many as without neurons that rest.
  EXPECT_NEAR(static_cast<double>(work.int8_macs) +
                  shape.n_layers * work.expert_int8_macs * (work.n_experts - work.n_experts_used),
              static_cast<double>(needs.cost.layers.int8_macs), 1);
  EXPECT_GT(work.overlapped_bytes, 0);
  EXPECT_LT(work.overlapped_bytes, work.dense_bytes);
}

TEST(NeuronForecast, AWarmStartLeavesAPromptLessToRead) {
  const Opened model("tiny-bamboo-quantized");
  const ModelShape& shape = model.shape;
  const ModelNeeds& needs = model.needs;
  const FiringCurve firing = FiringCurve::Guess();
  ModelWork work = NeuronWorkOf(shape, needs.cost, needs.blocks, {}, firing);
  work.neighbour_bytes = 0;  // neighbours so small cost hardly more than one
  HardwareProfile machine;
  machine.disk.emplace();
  machine.disk->random = {{4096, 1, 0.1e9, 0}, {1 << 20, 1, 1e9, 0}};
  MemoryPlan plan;
  plan.is_streamed = true;
  plan.n_ctx = 64;
  plan.block_bytes = WeightStream::AllBlocksBytes(needs.blocks);
  plan.cache_bytes = plan.block_bytes / 4;
  const auto disk_s = [&](int64_t n_tokens, bool is_warm) {
    return NeuronForecast(work, firing, plan, machine, 1, {}, n_tokens, is_warm).Prompt(n_tokens).disk_s;
  };
  for (const int64_t n : {4, 16, 64}) {
    EXPECT_LT(disk_s(n, true), 0.9 * disk_s(n, false)) << n;
    EXPECT_GT(disk_s(n, true), 0.3 * disk_s(n, false)) << n;
  }
  EXPECT_LT(disk_s(16, true), disk_s(64, true));
}

// Two experts of four, of whose neurons each fires for a tenth of all tokens: a fifth of those that use it.
TEST(NeuronForecast, GatesAndTheirNeuronsAddUpToTheModel) {
  if (BestIsa() == Isa::kScalar) GTEST_SKIP() << "no kernel computes single neurons";
  const Opened model("tiny-turbosparse-quantized");
  const ModelShape& shape = model.shape;
  const ModelNeeds& needs = model.needs;
  ASSERT_TRUE(needs.blocks.neurons() != nullptr && needs.blocks.has_experts());
  const NeuronProfile profile = testing::MadeUpProfile(*model.file, 500, [](int64_t) { return 6554; });
  const NeuronLayout& layout = *needs.blocks.neurons();
  HardwareProfile machine;
  machine.dram_read_bytes_per_s = {{1, 10e9}};
  machine.int8_ops_per_s = {{1, 100e9}};
  machine.f32_flops = {{1, 50e9}};
  machine.disk.emplace();
  machine.disk->random = {{4096, 1, 0.1e9, 0}, {1 << 20, 1, 1e9, 0}};
  const auto at = [&](int64_t cache_bytes) {
    MemoryPlan plan;
    plan.is_streamed = true;
    plan.n_ctx = 64;
    plan.cache_bytes = cache_bytes;
    plan.block_bytes = WeightStream::AllBlocksBytes(needs.blocks);
    return ForecastExperts(shape, needs, profile, plan, machine, 1, {}, 8);
  };
  const ExpertNeuronForecast all = at(int64_t{1} << 30);
  EXPECT_EQ(all.gates.hits.likely, 1);
  EXPECT_EQ(all.neurons.hits.likely, 1);
  EXPECT_EQ(all.Token(8).disk_s, 0);
  const double n_used = shape.n_layers * shape.n_experts_used;
  EXPECT_NEAR(all.neurons.work.n_experts_used, 0.1 * static_cast<double>(shape.n_experts * layout.n_neurons()), 1);
  const auto of_neurons = static_cast<double>(
      WeightMatrix::PackedBytes(*layout.up.kernel, layout.up.rows, layout.up.cols) +
      WeightMatrix::PackedBytes(*layout.down.kernel, layout.down.rows, layout.down.cols) - layout.scales_bytes);
  EXPECT_NEAR(static_cast<double>(all.gates.work.dense_bytes) + n_used * (all.gates.work.expert_bytes + of_neurons),
              static_cast<double>(needs.cost.layers.n_bytes + needs.cost.output.n_bytes), n_used * 4096)
      << "a pack fills up its pages";
  EXPECT_LT(all.gates.work.int8_macs + all.neurons.work.int8_macs, needs.cost.layers.int8_macs);
  EXPECT_DOUBLE_EQ(all.neurons.work.rows_share, 0.5) << "half of the rows use an expert";
  EXPECT_EQ(2 * all.gates.work.expert_int8_macs,
            static_cast<double>(layout.n_neurons()) * all.neurons.work.expert_int8_macs);

  double least_s = INFINITY;
  for (int64_t bytes = 0; bytes < 2 * WeightStream::AllBlocksBytes(needs.blocks); bytes += 16 << 10) {
    const ExpertNeuronForecast some = at(bytes);
    EXPECT_LE(some.Token(8).low_s, some.Token(8).likely_s);
    EXPECT_LE(some.Token(8).likely_s, some.Token(8).high_s);
    EXPECT_GT(some.Prompt(8, 8).likely_s, some.Token(8).likely_s);
    EXPECT_EQ(some.Prompt(8, 8).binds, BindingOf(some.Prompt(8, 8)));
    least_s = std::min(least_s, some.Token(8).likely_s);
  }
  EXPECT_NEAR(least_s, all.Token(8).likely_s, 1e-9);
  EXPECT_GT(at(0).Token(8).likely_s, 1.5 * least_s);
}

}  // namespace
}  // namespace pantry
