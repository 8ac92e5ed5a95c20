// SPDX-License-Identifier: Apache-2.0
#include "compute/neuron_predictor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "base/rng.h"
#include "compute/kernels/matmul/random_weights.h"

namespace pantry {
namespace {

using testing::PackedMatrix;
using testing::RandomRows;

constexpr int64_t kInputs = 96, kNeurons = 160;

// A predictor of random numbers, and their scores computed in the plainest way.
struct Random {
  explicit Random(int64_t rank, Isa isa = Isa::kScalar) {
    Rng rng(5);
    const MatMulKernel& kernel = *FindMatMulKernel(TensorType::kF16, isa);
    const std::vector<uint8_t> of_v = RandomRows(TensorType::kF16, rank, kInputs, rng),
                               of_u = RandomRows(TensorType::kF16, kNeurons, rank, rng);
    for (int64_t i = 0; i < kInputs; ++i) x.push_back(static_cast<float>(rng.NextDouble() - 0.5));
    for (int64_t i = 0; i < kNeurons; ++i) bias.push_back(static_cast<float>(rng.NextDouble() - 0.5) / 50);
    if (rank > 0) {
      v = std::make_unique<PackedMatrix>(kernel, of_v, rank, kInputs);
      u = std::make_unique<PackedMatrix>(kernel, of_u, kNeurons, rank);
      predictor.v = {.kernel = &kernel, .rows = rank, .cols = kInputs, .tiles = v->data()};
      predictor.u = {.kernel = &kernel, .rows = kNeurons, .cols = rank, .tiles = u->data()};
    }
    predictor.bias = bias.data();
    const auto at = [](const std::vector<uint8_t>& halves, int64_t i) {
      uint16_t half;
      std::memcpy(&half, halves.data() + 2 * i, sizeof half);
      return double{F16ToF32(half)};
    };
    for (int64_t i = 0; i < kNeurons; ++i) {
      double score = bias[static_cast<size_t>(i)];
      for (int64_t k = 0; k < rank; ++k) {
        for (int64_t c = 0; c < kInputs; ++c)
          score += at(of_u, i * rank + k) * at(of_v, k * kInputs + c) * x[static_cast<size_t>(c)];
      }
      expected.push_back(score);
    }
  }
  std::vector<float> Scores(int64_t strip) const {
    std::vector<float> reduced(static_cast<size_t>(std::max<int64_t>(predictor.rank(), 1))), scores(kNeurons);
    predictor.Reduce({.n_rows = 1, .n_cols = kInputs, .f32 = x.data()}, reduced.data());
    for (int64_t begin = 0; begin < kNeurons; begin += strip) {
      predictor.Score(reduced.data(), begin, std::min(strip, kNeurons - begin), scores.data() + begin);
    }
    return scores;
  }

  std::vector<float> x, bias;
  std::unique_ptr<PackedMatrix> v, u;
  NeuronPredictor predictor;
  std::vector<double> expected;
};

TEST(NeuronPredictor, ScoresAreWhatTheFormulaSaysWhateverTheStrips) {
  for (const int64_t rank : {0, 8, 16, 40}) {
    for (const Isa isa : kBuildIsas) {
      if (!IsaSupported(isa)) continue;
      const Random random(rank, isa);
      const std::vector<float> scores = random.Scores(kNeurons);
      for (size_t i = 0; i < scores.size(); ++i) EXPECT_NEAR(scores[i], random.expected[i], 1e-4) << rank << " " << i;
      EXPECT_EQ(random.Scores(32), scores) << rank;
    }
  }
}

TEST(NeuronPredictor, MaskLetsRestWhatIsNotPredictedAndCounts) {
  const Random random(16);
  std::vector<float> reduced(16), gate(kNeurons);
  for (size_t i = 0; i < gate.size(); ++i) gate[i] = i % 3 == 0 ? 1.5f : -1.5f;
  random.predictor.Reduce({.n_rows = 1, .n_cols = kInputs, .f32 = random.x.data()}, reduced.data());
  const std::vector<float> before = gate, scores = random.Scores(kNeurons);
  const NeuronPredictor::Counts counts = random.predictor.Mask(reduced.data(), 0, kNeurons, gate.data());
  int64_t n_predicted = 0, n_missed = 0;
  for (size_t i = 0; i < gate.size(); ++i) {
    EXPECT_EQ(gate[i], scores[i] >= 0 ? before[i] : 0);
    n_predicted += scores[i] >= 0 ? 1 : 0;
    n_missed += scores[i] < 0 && before[i] > 0 ? 1 : 0;
  }
  EXPECT_EQ(counts.n_gates, kNeurons);
  EXPECT_EQ(counts.n_predicted, n_predicted);
  EXPECT_EQ(counts.n_firing, (kNeurons + 2) / 3);
  EXPECT_EQ(counts.n_missed, n_missed);
  EXPECT_GT(n_missed, 0);
  EXPECT_GT(n_predicted, 0);
}

TEST(NeuronPredictor, ScoresThatAreNonsensePredict) {
  const float bias[] = {NAN, -1, 1, -2};
  const NeuronPredictor predictor = {{}, {}, bias};
  float gate[] = {3, 3, 3, 3};
  predictor.Mask(nullptr, 0, 4, gate);
  EXPECT_EQ(gate[0], 3);
  EXPECT_EQ(gate[1], 0);
}

}  // namespace
}  // namespace pantry
