// SPDX-License-Identifier: Apache-2.0
// Models whose runs predict which neurons fire.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "base/rng.h"
#include "compute/kernels/matmul/random_weights.h"
#include "models/test_models.h"

namespace pantry {
namespace {

using testing::AllLogits;
using testing::LoadTiny;
using testing::PackedMatrix;
using testing::ReadGolden;

// Predictors of all networks of a model: random ones of `rank`, whose scores begin at `bias`.
class Predictors {
 public:
  Predictors(const Model& model, int64_t rank, float bias, int64_t most_rows) {
    const ModelShape& shape = model.shape();
    const int64_t n_neurons = shape.n_neurons();
    const int64_t n_networks = int64_t{shape.n_layers} * std::max(shape.n_experts, 1);
    const MatMulKernel& kernel = *FindMatMulKernel(TensorType::kF16, model.isa());
    bias_.assign(static_cast<size_t>(n_neurons), bias);
    Rng rng(6);
    matrices_.reserve(static_cast<size_t>(2 * n_networks));
    for (int64_t i = 0; i < n_networks; ++i) {
      NeuronPredictor& predictor = networks_.emplace_back();
      predictor.bias = bias_.data();
      if (rank == 0) continue;
      const auto matrix = [&](int64_t rows, int64_t cols) {
        PackedMatrix& packed =
            matrices_.emplace_back(kernel, testing::RandomRows(TensorType::kF16, rows, cols, rng), rows, cols);
        return WeightMatrix{.kernel = &kernel, .rows = rows, .cols = cols, .tiles = packed.data()};
      };
      predictor.v = matrix(rank, shape.n_embd);
      predictor.u = matrix(n_neurons, rank);
    }
    reduced_.resize(static_cast<size_t>(most_rows * std::max(shape.n_experts_used, 1) * std::max<int64_t>(rank, 1)));
    run.networks = networks_;
    run.n_networks = std::max(shape.n_experts, 1);
    run.most_rank = rank;
    run.reduced = reduced_.data();
  }
  NeuronPredictor& Of(size_t network) { return networks_[network]; }
  PredictorRun run;

 private:
  std::vector<float> bias_, reduced_;
  std::vector<PackedMatrix> matrices_;
  std::vector<NeuronPredictor> networks_;
};

// Dense networks and experts, and gates that lie in rows or, where a format has no such kernels, do not.
class PredictionTest : public ::testing::TestWithParam<std::tuple<const char*, Isa>> {
 protected:
  void SetUp() override {
    if (!IsaSupported(isa_)) GTEST_SKIP() << "this CPU has no " << IsaName(isa_);
    auto exact = LoadTiny(name_, isa_, pool_), predicting = LoadTiny(name_, isa_, pool_, true, true);
    ASSERT_TRUE(exact.ok() && predicting.ok());
    exact_ = std::move(exact).value();
    predicting_ = std::move(predicting).value();
    tokens_ = ReadGolden(name_).tokens;
  }
  std::vector<float> Logits(const Model& model, const std::vector<size_t>& lengths, PredictorRun* prediction) {
    return AllLogits(model, pool_, KvType::kF32, 256, tokens_, lengths, nullptr, prediction);
  }
  std::vector<size_t> OneByOne() const { return std::vector<size_t>(tokens_.size(), 1); }

  const char* const name_ = std::get<0>(GetParam());
  const Isa isa_ = std::get<1>(GetParam());
  ThreadPool pool_{2};
  std::unique_ptr<Model> exact_, predicting_;
  std::vector<TokenId> tokens_;
};

TEST_P(PredictionTest, OfEverythingChangesNoBit) {
  const std::vector<float> expected = Logits(*exact_, {tokens_.size()}, nullptr);
  EXPECT_EQ(Logits(*predicting_, {tokens_.size()}, nullptr), expected);
  EXPECT_EQ(Logits(*predicting_, OneByOne(), nullptr), expected);
  for (const int64_t rank : {0, 16}) {
    Predictors all(*predicting_, rank, INFINITY, static_cast<int64_t>(tokens_.size()));
    all.run.all_rows = true;
    EXPECT_EQ(Logits(*predicting_, {tokens_.size()}, &all.run), expected);
    EXPECT_EQ(Logits(*predicting_, OneByOne(), &all.run), expected);
    EXPECT_EQ(all.run.n_predicted, all.run.n_neurons);
    EXPECT_EQ(all.run.n_missed, 0);
    EXPECT_GT(all.run.n_firing, 0);
  }
}

TEST_P(PredictionTest, GivesTheSameBitsOneByOneAndManyRowsAtOnce) {
  Predictors some(*predicting_, 16, 0, static_cast<int64_t>(tokens_.size()));
  some.Of(1).bias = nullptr;  // one network without a predictor
  some.run.all_rows = true;
  const std::vector<float> masked = Logits(*exact_, {tokens_.size()}, &some.run);
  EXPECT_NE(masked, Logits(*exact_, {tokens_.size()}, nullptr));
  const double density = static_cast<double>(some.run.n_predicted) / static_cast<double>(some.run.n_neurons);
  EXPECT_GT(density, 0.2);
  EXPECT_LT(density, 0.8);
  EXPECT_GT(some.run.n_missed, 0);
  EXPECT_EQ(some.run.n_gates, some.run.n_neurons);
  for (const std::vector<size_t>& lengths :
       {OneByOne(), std::vector<size_t>(tokens_.size() / 2, 2), {3, 5, 1, 2, 61}}) {
    EXPECT_EQ(Logits(*predicting_, lengths, &some.run), masked) << lengths.size() << " runs";
    EXPECT_EQ(Logits(*exact_, lengths, &some.run), masked) << lengths.size() << " runs";
  }
}

TEST_P(PredictionTest, LeavesPromptsExactUnlessAllRowsAreWanted) {
  Predictors nothing(*predicting_, 0, -1, 1);
  EXPECT_EQ(Logits(*predicting_, {tokens_.size()}, &nothing.run), Logits(*exact_, {tokens_.size()}, nullptr));
  EXPECT_EQ(nothing.run.n_neurons, 0);
  EXPECT_NE(Logits(*predicting_, OneByOne(), &nothing.run), Logits(*exact_, OneByOne(), nullptr));
  EXPECT_GT(nothing.run.n_neurons, 0);
  EXPECT_EQ(nothing.run.n_predicted, 0);
}

INSTANTIATE_TEST_SUITE_P(All, PredictionTest,
                         ::testing::Combine(::testing::Values("tiny-bamboo-quantized", "tiny-turbosparse-quantized",
                                                              "tiny-smallthinker"),
                                            ::testing::ValuesIn(kBuildIsas)),
                         [](const auto& param) {
                           std::string name = std::string(std::get<0>(param.param)) + "_" +
                                              std::string(IsaName(std::get<1>(param.param)));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Gates as they were told one by one and what was fed are those of all rows at once, in dense networks and experts.
class EveryGate final : public NeuronObserver {
 public:
  void Fed(int32_t layer, int32_t expert, std::span<const float> x, std::span<const float> gate) override {
    Row row = {layer, expert, {x.begin(), x.end()}, {gate.begin(), gate.end()}};
    rows.push_back(std::move(row));
  }
  struct Row {
    int32_t layer, expert;
    std::vector<float> x, gate;
    auto operator<=>(const Row&) const = default;
  };
  std::vector<Row> rows;
};

TEST(NeuronObserver, IsFedTheSameWhateverTheBatch) {
  ThreadPool pool(2);
  for (const char* name : {"tiny-bamboo-quantized", "tiny-turbosparse-quantized"}) {
    const auto model = LoadTiny(name, BestIsa(), pool);
    ASSERT_TRUE(model.ok());
    const ModelShape& shape = (*model)->shape();
    const std::vector<TokenId> tokens = {1, 2, 3, 4, 5};
    std::vector<std::vector<EveryGate::Row>> heard;
    for (const std::vector<size_t>& lengths : {std::vector<size_t>{5}, {1, 1, 1, 1, 1}, {2, 3}}) {
      EveryGate every;
      const testing::KvMemory kv(shape, KvType::kF32, 8);
      auto workspace = (*model)->MakeWorkspace(5);
      ASSERT_TRUE(workspace.ok());
      size_t done = 0;
      for (const size_t length : lengths) {
        ForwardRun run;
        run.tokens = std::span(tokens).subspan(done, length);
        const RunPart part = {
            .n_rows = static_cast<int64_t>(length), .first_position = static_cast<int64_t>(done), .kv = kv.views()};
        run.parts = {&part, 1};
        run.neurons = &every;
        ASSERT_TRUE((*model)->Forward(run, pool, **workspace).ok());
        done += length;
      }
      std::ranges::sort(every.rows);
      const size_t n_of_token = static_cast<size_t>(shape.n_layers * std::max(shape.n_experts_used, 1));
      EXPECT_EQ(every.rows.size(), 5 * n_of_token);
      heard.push_back(std::move(every.rows));
    }
    EXPECT_EQ(heard[1], heard[0]);
    EXPECT_EQ(heard[2], heard[0]);
    const auto& gate = heard[0][0].gate;
    EXPECT_TRUE(std::ranges::any_of(gate, [](float x) { return x > 0; }));
    EXPECT_TRUE(std::ranges::any_of(gate, [](float x) { return x < 0; }));
  }
}

}  // namespace
}  // namespace pantry
