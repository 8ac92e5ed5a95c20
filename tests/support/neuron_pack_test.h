// SPDX-License-Identifier: Apache-2.0
// A tiny model as a pack whose neurons lie one by one, of dense layers or of experts, and what holds of both.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/memory_budget.h"
#include "support/tiny_engine.h"
#include "support/tiny_pack.h"

namespace pantry::testing {

class NeuronPackTest : public ::testing::Test {
 protected:
  static constexpr int64_t kContext = 224;
  static constexpr size_t kTokens = 120;

  explicit NeuronPackTest(const char* model) : model_(model), pack_(model, NeuronPacking::kAlways) {}

  static Status AllLogits(Engine& engine, int32_t n_batch, std::vector<float>& all) {
    return testing::AllLogits(engine, kTokens, n_batch, all);
  }
  // All of it in memory and computed, in tiles.
  std::vector<float> Dense() {
    const auto engine = OpenTinyEngine(TinyModel(model_), nullptr, log_, /*sparse=*/false);
    std::vector<float> all;
    EXPECT_TRUE(AllLogits(*engine, 64, all).ok());
    return all;
  }
  std::unique_ptr<Engine> Open(StreamSetup setup) {
    auto engine = OpenTinyEngine(pack_.path(), &setup, log_);
    PANTRY_CHECK(engine != nullptr);
    return engine;
  }
  WeightPlacer Placed() {
    WeightPlacer placer = WeightPlacer::ByNeuron();
    PANTRY_CHECK(PackedWeightBytes(*file_, BestIsa(), &placer).ok());
    return placer;
  }

  void StopsBetweenTwoLayersAndGoesOnAfterwards() {
    const std::vector<float> expected = Dense();
    const auto engine = Open({.cache_share = 0.3});
    testing::StopsBetweenTwoLayersAndGoesOnAfterwards(*engine, kContext, kTokens, expected);
  }

  // Runs of 1 and of 30 tokens in turns, which leave idle memory to the caches and take it back.
  void LendsBetweenRuns(Engine& engine, const std::vector<float>& expected) {
    WeightStream& stream = *engine.stream();
    const int64_t planned = stream.cache_bytes();
    auto session = engine.NewSession({.n_ctx = kContext, .n_batch = 64});
    ASSERT_TRUE(session.ok());
    const std::vector<TokenId> tokens = RandomTokens(engine, kTokens);
    std::vector<float> all;
    const auto keep = [&](int64_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); };
    int64_t most = 0;
    for (size_t done = 0, n = 1; done < tokens.size(); done += n, n = n == 1 ? 30 : 1) {
      n = std::min(n, tokens.size() - done);
      ASSERT_TRUE((*session)->FeedAll(std::span(tokens).subspan(done, n), keep).ok());
      most = std::max(most, stream.cache_bytes());
    }
    EXPECT_TRUE(all == expected);
    EXPECT_GT(most, planned);
  }

  // Such a pack streams also where everything fits, what a budget leaves is the caches', and they need least_cache_bytes.
  void PlansStreamWithinAnyBudget(int64_t least_cache_bytes) {
    EngineOptions options;
    options.n_threads = 1;
    options.session.n_ctx = kContext;
    options.session.n_batch = 8;
    const FreeMemory memory = {.available_bytes = int64_t{1} << 30, .resident_bytes = 0};
    const auto shape = ParseModelShape(file_->metadata());
    ASSERT_TRUE(shape.ok());
    const auto plan_of = [&](int64_t budget_bytes) {
      options.memory_bytes = budget_bytes;
      return PlanBudget(*file_, *shape, BestIsa(), options, memory);
    };
    const auto roomy = plan_of(0);
    ASSERT_TRUE(roomy.ok() && roomy->has_value()) << roomy.status().ToString();
    EXPECT_TRUE((*roomy)->is_streamed);
    EXPECT_EQ((*roomy)->cache_bytes, (*roomy)->block_bytes);
    const int64_t least = (*roomy)->total_bytes() - (*roomy)->cache_bytes + least_cache_bytes;
    const auto tight = plan_of(least + 10 * 1024);
    ASSERT_TRUE(tight.ok()) << tight.status().ToString();
    EXPECT_LT((*tight)->cache_bytes, (*tight)->block_bytes);
    EXPECT_EQ(plan_of(least - (1 << 20)).status().code(), StatusCode::kOutOfBudget);
    options.stream = StreamMode::kOff;
    EXPECT_EQ(plan_of(0).status().code(), StatusCode::kInvalidArgument);
  }

  void OtherKernelsAndResidentRunsAreRefusedWithARemedy() {
    WeightPlacer placer = WeightPlacer::ByNeuron();
    const Status scalar = PackedWeightBytes(*file_, Isa::kScalar, &placer).status();
    EXPECT_EQ(scalar.code(), StatusCode::kUnsupported);
    EXPECT_THAT(std::string(scalar.message()), ::testing::HasSubstr("pack the GGUF file again"));
    ThreadPool pool(1);
    const Status resident = Model::Load(*file_, BestIsa(), pool, log_, {}).status();
    EXPECT_EQ(resident.code(), StatusCode::kUnsupported);
    EXPECT_THAT(std::string(resident.message()), ::testing::HasSubstr("streamed"));
  }

  NullLogger log_;
  const std::string model_;
  const TinyPack pack_;
  const std::unique_ptr<GgufFile> file_ = OpenGguf(pack_.path());
};

}  // namespace pantry::testing
