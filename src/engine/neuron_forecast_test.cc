// SPDX-License-Identifier: Apache-2.0
#include "engine/neuron_forecast.h"

#include <gtest/gtest.h>

#include "engine/memory_budget.h"
#include "support/tiny_pack.h"

namespace pantry {
namespace {

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
  const testing::TinyPack pack("tiny-bamboo-quantized", NeuronPacking::kAlways);
  const auto file = testing::OpenGguf(pack.path());
  const ModelShape shape = ParseModelShape(file->metadata()).value();
  const Result<ModelNeeds> needs = NeedsOf(*file, BestIsa());
  ASSERT_TRUE(needs.ok());
  const FiringCurve firing = FiringCurve::Guess();
  const ModelWork work = NeuronWorkOf(shape, needs->cost, needs->blocks, {}, firing);
  EXPECT_EQ(work.n_expert_layers, shape.n_layers);
  EXPECT_EQ(work.n_experts, shape.n_ff);
  EXPECT_NEAR(work.n_experts_used, 0.16 * static_cast<double>(shape.n_ff), 0.01 * static_cast<double>(shape.n_ff));
  EXPECT_EQ(work.expert_file_bytes, 4096) << "small bundles lie in one block of the disk";
  const int64_t all_bytes = needs->cost.layers.n_bytes + needs->cost.output.n_bytes;
  EXPECT_LT(work.dense_bytes, all_bytes - WeightStream::AllBlocksBytes(needs->blocks) / 2);
  const int64_t gate_bytes = work.overlapped_bytes * 4 / 3,
                scale_bytes = shape.n_layers * needs->blocks.neurons()->scales_bytes;
  EXPECT_GT(work.dense_bytes, gate_bytes + scale_bytes);
  EXPECT_LT(work.int8_macs, needs->cost.layers.int8_macs);
  EXPECT_GT(work.overlapped_bytes, 0);
  EXPECT_LT(work.overlapped_bytes, work.dense_bytes);
}

}  // namespace
}  // namespace pantry
