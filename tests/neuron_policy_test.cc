// SPDX-License-Identifier: Apache-2.0
// Whole models whose neurons run by what is in memory: what is left out is absent to the last bit, and nothing else changes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "engine/kv_cache.h"
#include "support/tiny_engine.h"
#include "support/tiny_pack.h"

namespace pantry {
namespace {

using testing::RandomTokens;
using testing::StreamSetup;

constexpr size_t kTokens = 60;
constexpr char kModel[] = "tiny-bamboo-quantized";

// A stream, less what it was not asked for: which neurons ran, of each token and layer.
class RecordingSource final : public NeuronSource {
 public:
  RecordingSource(WeightStream& stream, const ModelShape& shape) : stream_(stream), shape_(shape) {}
  Status BeginNeurons(int32_t layer, int64_t n_tokens) override {
    biases_.emplace_back(static_cast<size_t>(shape_.n_ff), -1.0F);
    return stream_.BeginNeurons(layer, n_tokens);
  }
  void Look(std::span<const int32_t> neurons, std::span<uint8_t> is_near) const override {
    stream_.Look(neurons, is_near);
  }
  void Want(int32_t network, std::span<const int32_t> neurons, std::span<const uint16_t> n_uses) override {
    for (const int32_t neuron : neurons) biases_.back()[static_cast<size_t>(neuron)] = 1;
    stream_.Want(network, neurons, n_uses);
  }
  void Peek(size_t skip, std::span<const uint8_t*> bundles) const override { stream_.Peek(skip, bundles); }
  void FetchOn() override { stream_.FetchOn(); }
  Status Await(std::span<const uint8_t*> bundles) override { return stream_.Await(bundles); }
  void ReleaseNeurons() override { stream_.ReleaseNeurons(); }
  void EndNeurons() override { stream_.EndNeurons(); }

  // Predictors without a matrix that let rest exactly what did not run for a token.
  std::vector<NeuronPredictor> PredictorsOf(size_t token) const {
    std::vector<NeuronPredictor> networks(static_cast<size_t>(shape_.n_layers));
    for (size_t layer = 0; layer < networks.size(); ++layer) {
      networks[layer].bias = biases_[token * networks.size() + layer].data();
    }
    return networks;
  }

 private:
  WeightStream& stream_;
  const ModelShape& shape_;
  std::vector<std::vector<float>> biases_;  // [tokens * n_layers][n_ff]
};

class NeuronPolicyTest : public ::testing::Test {
 protected:
  std::unique_ptr<Engine> Streamed(double cache_share, double strength) {
    StreamSetup setup = {.cache_share = cache_share, .neuron_prior_strength = strength};
    return testing::OpenTinyEngine(pack_.path(), &setup, log_);
  }
  // Everything computed, in tiles.
  std::unique_ptr<Engine> Dense() {
    return testing::OpenTinyEngine(testing::TinyModel(kModel), nullptr, log_, /*sparse=*/false);
  }
  std::vector<float> Logits(Engine& engine, int32_t n_batch) {
    std::vector<float> all;
    EXPECT_TRUE(testing::AllLogits(engine, kTokens, n_batch, all).ok());
    return all;
  }
  // One token after another, with what `prepare` puts into each run.
  template <typename Prepare>
  std::vector<float> OneByOne(Engine& engine, const Prepare& prepare) {
    const Model& model = engine.model();
    const std::vector<TokenId> tokens = RandomTokens(engine, kTokens);
    auto kv = KvCache::Allocate(model.shape(), KvType::kF16, KvType::kF16, kTokens);
    auto workspace = model.MakeWorkspace(1);
    EXPECT_TRUE(kv.ok() && workspace.ok());
    const auto n_vocab = static_cast<size_t>(model.shape().n_vocab);
    std::vector<float> all(kTokens * n_vocab);
    const int32_t row = 0;
    for (size_t i = 0; i < kTokens; ++i) {
      ForwardRun run;
      run.tokens = std::span(tokens).subspan(i, 1);
      const RunPart part = {.n_rows = 1, .first_position = static_cast<int64_t>(i), .kv = kv->layers()};
      run.parts = {&part, 1};
      run.logit_rows = {&row, 1};
      run.logits = std::span(all).subspan(i * n_vocab, n_vocab);
      prepare(i, run);
      const Status status = model.Forward(run, engine.pool(), **workspace);
      EXPECT_TRUE(status.ok()) << status.ToString();
      if (run.neuron_prior != nullptr) run.neuron_prior->EndRun();
    }
    return all;
  }

  NullLogger log_;
  const testing::TinyPack pack_{kModel, NeuronPacking::kAlways};
};

TEST_F(NeuronPolicyTest, WhatIsLeftOutIsAbsentToTheLastBit) {
  const auto dense = Dense();
  for (const double share : {0.0, 0.2, 0.5}) {
    for (const double strength : {0.05, 0.3, 1.0}) {
      SCOPED_TRACE(fmt::format("share {} strength {}", share, strength));
      const auto engine = Streamed(share, 0);
      ASSERT_NE(engine, nullptr);
      RecordingSource source(*engine->stream(), engine->shape());
      NeuronPrior prior(strength, engine->shape().n_layers);
      const std::vector<float> found = OneByOne(*engine, [&](size_t, ForwardRun& run) {
        engine->stream()->BeginRun(engine->pool(), 1);
        run.neuron_source = &source;
        run.neuron_prior = &prior;
        run.embedding = engine->stream()->embedding();
      });
      ASSERT_GT(prior.counts().n_left_out, 0);
      ASSERT_LT(prior.counts().n_left_out, prior.counts().n_firing);
      const CacheStats cache = engine->stream()->stats().cache;
      EXPECT_EQ(cache.n_demanded, prior.counts().n_firing - prior.counts().n_left_out);
      EXPECT_EQ(engine->stream()->stats().reader.n_reads, cache.n_misses);

      std::vector<NeuronPredictor> networks;
      PredictorRun prediction;
      float reduced = 0;
      prediction.reduced = &reduced;
      const std::vector<float> expected = OneByOne(*dense, [&](size_t token, ForwardRun& run) {
        networks = source.PredictorsOf(token);
        prediction.networks = networks;
        run.prediction = &prediction;
      });
      EXPECT_EQ(prediction.n_missed, prior.counts().n_left_out);  // they would have fired
      EXPECT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0);
      EXPECT_FALSE(found == Logits(*dense, 64));
    }
  }
}

TEST_F(NeuronPolicyTest, NoStrengthOrEverythingInMemoryGivesTheExactBits) {
  const std::vector<float> exact = Logits(*Dense(), 64);
  for (const double share : {0.0, 0.3, 1.0}) {
    const auto engine = Streamed(share, 0);
    ASSERT_NE(engine, nullptr);
    NeuronPrior none(0, engine->shape().n_layers);
    EXPECT_TRUE(exact == OneByOne(*engine, [&](size_t, ForwardRun& run) {
                  engine->stream()->BeginRun(engine->pool(), 1);
                  run.neuron_source = engine->stream();
                  run.neuron_prior = &none;
                  run.embedding = engine->stream()->embedding();
                }));
    EXPECT_EQ(none.counts().n_left_out, 0);
  }
  const auto engine = Streamed(1, 1);
  ASSERT_NE(engine, nullptr);
  const std::vector<uint16_t> frequency(static_cast<size_t>(engine->shape().n_ff), 1000);
  const std::vector<LayerUse> by_layer(static_cast<size_t>(engine->shape().n_layers), {{}, frequency});
  ASSERT_TRUE(engine->stream()->WarmUp(engine->pool(), by_layer, {}).ok());
  EXPECT_TRUE(Logits(*engine, 1) == exact);
  EXPECT_GT(engine->neuron_prior()->counts().n_firing, 0);
  EXPECT_EQ(engine->neuron_prior()->counts().n_left_out, 0);
}

TEST_F(NeuronPolicyTest, RunsOfSeveralTokensAreExactAndARemainderOfOneIsNot) {
  const std::vector<float> exact = Logits(*Dense(), 64);
  for (const int32_t n_batch : {2, 3, 30, 59, 1}) {
    SCOPED_TRACE(n_batch);
    const auto engine = Streamed(0.2, 1);
    ASSERT_NE(engine, nullptr);
    const std::vector<float> found = Logits(*engine, n_batch);
    const NeuronPriorCounts& counts = engine->neuron_prior()->counts();
    const bool has_singles = kTokens % static_cast<size_t>(n_batch) == 1 || n_batch == 1;
    EXPECT_EQ(found == exact, !has_singles);
    EXPECT_EQ(counts.n_firing > 0, has_singles);
    EXPECT_EQ(counts.n_left_out > 0, has_singles);
    if (n_batch != 59) continue;
    const size_t n_before = exact.size() / kTokens * 59;
    EXPECT_TRUE(std::equal(exact.begin(), exact.begin() + static_cast<std::ptrdiff_t>(n_before), found.begin()));
  }
}

TEST_F(NeuronPolicyTest, EveryTokenCountsInTheScaleHoweverTheyAreBatched) {
  const auto single = Streamed(1, 0);
  ASSERT_NE(single, nullptr);
  NeuronPrior expected(0, single->shape().n_layers);
  OneByOne(*single, [&](size_t, ForwardRun& run) {
    single->stream()->BeginRun(single->pool(), 1);
    run.neuron_source = single->stream();
    run.neuron_prior = &expected;
    run.embedding = single->stream()->embedding();
  });
  for (const int32_t n_batch : {2, 5, 60}) {
    const auto engine = Streamed(0.2, 1);
    ASSERT_NE(engine, nullptr);
    Logits(*engine, n_batch);
    for (int32_t layer = 0; layer < engine->shape().n_layers; ++layer) {
      const double scale = expected.usual_largest_gate(layer);
      EXPECT_GT(scale, 0);
      EXPECT_NEAR(engine->neuron_prior()->usual_largest_gate(layer), scale, 1e-9 * scale) << n_batch;
    }
  }
}

TEST_F(NeuronPolicyTest, ACancelledRunCountsInNothing) {
  const auto engine = Streamed(0.2, 1);
  ASSERT_NE(engine, nullptr);
  const NeuronPrior& prior = *engine->neuron_prior();
  const auto session = engine->NewSession({.n_ctx = 64});
  ASSERT_TRUE(session.ok());
  const std::vector<TokenId> tokens = RandomTokens(*engine, 12);
  const auto feed = [&](size_t begin, size_t n, int n_layers) {
    return (*session)->Feed(std::span(tokens).subspan(begin, n), [&](int64_t, int64_t) { return n_layers-- > 0; });
  };
  ASSERT_TRUE(feed(0, 8, 100).ok());
  ASSERT_TRUE(feed(8, 1, 100).ok());
  const NeuronPriorCounts counts = prior.counts();
  const double scale = prior.usual_largest_gate(0);
  ASSERT_GT(counts.n_firing, 0);
  for (const size_t n : {1, 3}) {
    EXPECT_EQ(feed(9, n, 1).code(), StatusCode::kCancelled);  // in the second layer
    EXPECT_EQ((*session)->tokens().size(), 9u);
    EXPECT_EQ(prior.counts().n_firing, counts.n_firing);
    EXPECT_EQ(prior.counts().n_left_out, counts.n_left_out);
    EXPECT_EQ(prior.usual_largest_gate(0), scale);
  }
  ASSERT_TRUE(feed(9, 1, 100).ok());
  EXPECT_GT(prior.counts().n_firing, counts.n_firing);
  EXPECT_NE(prior.usual_largest_gate(0), scale);
}

// Reads are what this is for.
TEST_F(NeuronPolicyTest, MoreStrengthReadsLess) {
  int64_t before = INT64_MAX;
  for (const double strength : {0.0, 0.1, 0.4, 1.0}) {
    const auto engine = Streamed(0, strength);
    ASSERT_NE(engine, nullptr);
    Logits(*engine, 1);
    const int64_t n_reads = engine->stream()->stats().reader.n_reads;
    EXPECT_LT(n_reads, before) << strength;
    before = n_reads;
  }
}

}  // namespace
}  // namespace pantry
