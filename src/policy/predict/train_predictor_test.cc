// SPDX-License-Identifier: Apache-2.0
#include "policy/predict/train_predictor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/rng.h"
#include "policy/predict/predictor_fit.h"
#include "policy/predict/vector_math.h"

namespace pantry {
namespace {

float Noise(Rng& rng) {  // about normal
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += rng.NextDouble();
  return static_cast<float>(sum);
}

// A network whose gates follow from kHidden directions of its input, a little noise, and an offset that keeps most of them below zero.
struct Planted {
  static constexpr int64_t kInputs = 48, kNeurons = 96, kHidden = 6;
  std::vector<float> weights = std::vector<float>(kNeurons * kInputs);
  FiringSamples train = {kInputs, kNeurons, {}, {}}, held_out = {kInputs, kNeurons, {}, {}};

  explicit Planted(float noise = 0.02f) {
    Rng rng(9);
    std::vector<float> in(kHidden * kInputs), out(kNeurons * kHidden);
    for (float& x : in) x = Noise(rng);
    for (float& x : out) x = Noise(rng);
    for (int64_t i = 0; i < kNeurons; ++i) {
      for (int64_t c = 0; c < kInputs; ++c) weights[static_cast<size_t>(i * kInputs + c)] = noise * Noise(rng);
      for (int64_t k = 0; k < kHidden; ++k) {
        AddScaled(weights.data() + i * kInputs, out[static_cast<size_t>(i * kHidden + k)] / kHidden,
                  in.data() + k * kInputs, kInputs);
      }
      weights[static_cast<size_t>(i * kInputs)] = -3;  // the first input is always 1
    }
    for (const auto& [samples, n] : {std::pair(&train, 1200), {&held_out, 300}}) {
      for (int t = 0; t < n; ++t) {
        samples->x.push_back(1);
        for (int64_t c = 1; c < kInputs; ++c) samples->x.push_back(Noise(rng));
        const float* const x = samples->X(t);
        for (int64_t i = 0; i < kNeurons; ++i) samples->gate.push_back(Dot(x, weights.data() + i * kInputs, kInputs));
      }
    }
  }
  Result<TrainedPredictor> Train(TrainOptions options, double gate_row_bytes = 4096,
                                 const std::function<bool()>& keep_going = {}) const {
    const auto row = [this](int64_t i, float* out) { std::copy_n(weights.data() + i * kInputs, kInputs, out); };
    return TrainPredictor(train, held_out, GateRow(row), gate_row_bytes, options, keep_going);
  }
};

TEST(LowRankPredictor, ScoresAreWhatTheFormulaSays) {
  Rng rng(2);
  LowRankPredictor predictor = {5, 3, 2, {}, {}, {}};
  for (int i = 0; i < 10; ++i) predictor.v.push_back(Noise(rng));
  for (int i = 0; i < 6; ++i) predictor.u.push_back(Noise(rng));
  for (int i = 0; i < 3; ++i) predictor.bias.push_back(Noise(rng));
  const float x[] = {1, -2, 0.5f, 3, 0.25f};
  float scores[3];
  predictor.Score(x, scores);
  for (size_t i = 0; i < 3; ++i) {
    double expected = predictor.bias[i];
    for (size_t k = 0; k < 2; ++k) {
      for (size_t c = 0; c < 5; ++c) expected += double{predictor.u[k * 3 + i]} * predictor.v[k * 5 + c] * x[c];
    }
    EXPECT_NEAR(scores[i], expected, 1e-5);
  }
}

TEST(TrainPredictor, FindsWhatWasPlantedWithBothKinds) {
  const Planted planted;
  for (const PredictorKind kind : {PredictorKind::kSvd, PredictorKind::kMlp}) {
    const auto trained = planted.Train({.kind = kind, .recall = 0.95f});
    ASSERT_TRUE(trained.ok()) << trained.status().ToString();
    ASSERT_TRUE(trained->predictor.has_value());
    EXPECT_EQ(trained->predictor->rank, 8);  // the smallest above 6
    EXPECT_GE(trained->quality.recall, 0.95);
    EXPECT_LT(trained->quality.true_share, 0.4);
    EXPECT_LT(trained->quality.density, 1.25 * trained->quality.true_share);
    const PredictorQuality again = QualityOf(planted.held_out, *trained->predictor);
    EXPECT_EQ(again.recall, trained->quality.recall);
    EXPECT_EQ(again.density, trained->quality.density);
    ASSERT_GE(trained->tried.size(), 2u);
    EXPECT_EQ(trained->tried[0].rank, 0);
    EXPECT_GT(trained->tried[0].density, 2 * trained->tried[1].density);
  }
}

TEST(TrainPredictor, HigherRecallPredictsMore) {
  const Planted planted(0.5f);
  double before = 0;
  for (const float recall : {0.5f, 0.9f, 0.99f}) {
    const auto trained = planted.Train({.recall = recall});
    ASSERT_TRUE(trained.ok() && trained->predictor);
    EXPECT_GE(trained->quality.recall, recall);
    EXPECT_LT(trained->quality.recall, recall + 0.02);
    EXPECT_GT(trained->quality.density, before);
    before = trained->quality.density;
  }
}

TEST(TrainPredictor, GradientsLowerTheLossOfSamplesHeldBack) {
  const Planted planted(1.0f);
  const auto trained = planted.Train({.kind = PredictorKind::kSvd, .most_rank = 8});
  ASSERT_TRUE(trained.ok() && trained->predictor);
  LowRankPredictor refined = *trained->predictor;
  ASSERT_TRUE(Refine(planted.train, planted.held_out, 20, {}, &refined).ok());
  EXPECT_LT(LogisticLoss(planted.held_out, refined), 0.9 * LogisticLoss(planted.held_out, *trained->predictor));
}

TEST(TrainPredictor, PredictsNothingWhereGateIsCheaperOrNothingFires) {
  const auto cheap = Planted().Train({}, 1);
  ASSERT_TRUE(cheap.ok());
  EXPECT_FALSE(cheap->predictor.has_value());
  EXPECT_EQ(cheap->quality.density, 1);
  EXPECT_EQ(cheap->quality.recall, 1);
  Planted silent;
  for (float& gate : silent.held_out.gate) gate = -1;
  const auto none = silent.Train({});
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none->predictor.has_value());
}

TEST(TrainPredictor, StopsWhenItIsTold) {
  int n_asked = 0;
  const auto stopped = Planted().Train({.kind = PredictorKind::kMlp}, 4096, [&] { return ++n_asked < 5; });
  EXPECT_EQ(stopped.status().code(), StatusCode::kCancelled);
}

TEST(TrainPredictor, RecallIsAShareThatSaysSomething) {
  for (const float recall : {1.0f, 0.0f, 1e-20f, NAN}) EXPECT_FALSE(TrainOptions{.recall = recall}.Validate().ok());
  for (const float recall : {0.01f, 0.999f}) EXPECT_TRUE(TrainOptions{.recall = recall}.Validate().ok());
  const Planted planted;
  LowRankPredictor predictor = FitOdds(planted.train, {}, {}, 0);
  EXPECT_GT(SetThreshold(planted.held_out, 1e-20, &predictor).recall, 0);  // at least what is predicted first
}

TEST(FitOdds, WithoutDirectionsAreHowOftenANeuronFires) {
  FiringSamples samples = {1, 2, {}, {}};
  for (int t = 0; t < 1000; ++t) {
    samples.x.push_back(0);
    samples.gate.push_back(t % 4 == 0 ? 1.0f : -1.0f);
    samples.gate.push_back(-1);
  }
  const LowRankPredictor fit = FitOdds(samples, {}, {}, 0);
  EXPECT_NEAR(fit.bias[0], std::log(0.25 / 0.75), 0.01);
  EXPECT_LT(fit.bias[1], -7);
}

}  // namespace
}  // namespace pantry
