// SPDX-License-Identifier: Apache-2.0
#include "policy/predict/predictor_fit.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>
#include <utility>

#include "base/rng.h"
#include "policy/predict/vector_math.h"

namespace pantry {
namespace {

constexpr int64_t kFitSamples = 2048;  // of a neuron's slope and offset, two numbers

float Sigmoid(float x) { return 1 / (1 + std::exp(-x)); }
bool Fires(float gate) { return gate > 0; }

// The slope and offset with which sigmoid(slope * z + offset) predicts best whether it fires.
struct Odds {
  double slope = 0;
  double offset = 0;
};

// `z` of mean 0 and deviation 1. Newton's method, with Platt's targets instead of 0 and 1, so that odds stay finite.
Odds FitNeuron(std::span<const float> z, std::span<const uint8_t> fires) {
  constexpr double kRidge = 1, kMostStep = 2;
  const auto n = static_cast<double>(fires.size());
  const auto n_firing = static_cast<double>(std::ranges::count(fires, uint8_t{1}));
  const double yes = (n_firing + 1) / (n_firing + 2), no = 1 / (n - n_firing + 2);
  const double share = (n_firing + 0.5) / (n + 1);
  Odds odds = {0, std::log(share / (1 - share))};
  if (z.empty() || n_firing == 0) return odds;
  for (int i = 0; i < 8; ++i) {
    double g_slope = kRidge * odds.slope, g_offset = 0, h_ss = kRidge, h_so = 0, h_oo = 1e-3;
    for (size_t t = 0; t < z.size(); ++t) {
      const double p = Sigmoid(static_cast<float>(odds.slope * z[t] + odds.offset));
      const double error = p - (fires[t] != 0 ? yes : no), weight = p * (1 - p);
      g_slope += error * z[t];
      g_offset += error;
      h_ss += weight * z[t] * z[t];
      h_so += weight * z[t];
      h_oo += weight;
    }
    const double determinant = h_ss * h_oo - h_so * h_so;
    const double slope_step = (h_oo * g_slope - h_so * g_offset) / determinant;
    const double offset_step = (h_ss * g_offset - h_so * g_slope) / determinant;
    odds.slope -= std::clamp(slope_step, -kMostStep, kMostStep);
    odds.offset -= std::clamp(offset_step, -kMostStep, kMostStep);
    if (std::abs(slope_step) + std::abs(offset_step) < 1e-3) break;
  }
  return odds;
}

// Numbers that are trained, with Adam's two moments of their gradient.
class Trained {
 public:
  explicit Trained(std::vector<float>* values) : values_(values) {
    gradient.assign(values->size(), 0);
    mean_.assign(values->size(), 0);
    square_.assign(values->size(), 0);
    const auto n = static_cast<int64_t>(values->size());
    size_ = n == 0 ? 0 : std::sqrt(Dot(values->data(), values->data(), n) / static_cast<float>(n));
  }
  std::vector<float> gradient;

  // A step of `rate` times the values' usual size; the gradient becomes zero. `step`: 1, 2, ...
  void Step(float rate, int64_t step) {
    constexpr float kBeta1 = 0.9f, kBeta2 = 0.999f, kEpsilon = 1e-10f;
    const float unbias1 = 1 / (1 - std::pow(kBeta1, static_cast<float>(step)));
    const float unbias2 = 1 / (1 - std::pow(kBeta2, static_cast<float>(step)));
    const float scale = rate * size_ * unbias1;
    for (size_t i = 0; i < gradient.size(); ++i) {
      const float g = gradient[i];
      mean_[i] += (1 - kBeta1) * (g - mean_[i]);
      square_[i] += (1 - kBeta2) * (g * g - square_[i]);
      (*values_)[i] -= scale * mean_[i] / (std::sqrt(square_[i] * unbias2) + kEpsilon);
      gradient[i] = 0;
    }
  }

 private:
  std::vector<float>* values_;
  std::vector<float> mean_, square_;
  float size_;  // root mean square of the values at first
};

}  // namespace

LowRankPredictor FitOdds(const FiringSamples& samples, const std::vector<float>& v, const std::vector<float>& u,
                         int64_t rank) {
  const int64_t n_inputs = samples.n_inputs, n_neurons = samples.n_neurons;
  LowRankPredictor fit = {n_inputs, n_neurons, rank, {}, {}, {}};
  fit.v.assign(v.begin(), v.begin() + rank * n_inputs);
  fit.u.assign(u.begin(), u.begin() + rank * n_neurons);
  fit.bias.assign(static_cast<size_t>(n_neurons), 0);
  const int64_t n = std::min(samples.size(), kFitSamples);
  const auto sample_of = [&](int64_t i) { return samples.size() * i / n; };
  std::vector<float> reduced(static_cast<size_t>(n * rank)), z(rank > 0 ? static_cast<size_t>(n) : 0);
  std::vector<uint8_t> fires(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < rank; ++k)
      reduced[static_cast<size_t>(i * rank + k)] = Dot(v.data() + k * n_inputs, samples.X(sample_of(i)), n_inputs);
  }
  std::vector<float> row(static_cast<size_t>(rank));
  for (int64_t neuron = 0; neuron < n_neurons; ++neuron) {
    for (int64_t k = 0; k < rank; ++k) row[static_cast<size_t>(k)] = u[static_cast<size_t>(k * n_neurons + neuron)];
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; ++i) {
      fires[static_cast<size_t>(i)] = Fires(samples.Gate(sample_of(i))[neuron]) ? 1 : 0;
      if (rank == 0) continue;
      const float score = Dot(row.data(), reduced.data() + i * rank, rank);
      z[static_cast<size_t>(i)] = score;
      sum += score;
      squares += double{score} * score;
    }
    const double mean = sum / static_cast<double>(n);
    const double deviation = std::sqrt(std::max(squares / static_cast<double>(n) - mean * mean, 1e-20));
    for (float& score : z) score = static_cast<float>((score - mean) / deviation);
    const Odds odds = FitNeuron(z, fires);
    for (int64_t k = 0; k < rank; ++k)
      fit.u[static_cast<size_t>(k * n_neurons + neuron)] *= static_cast<float>(odds.slope / deviation);
    fit.bias[static_cast<size_t>(neuron)] = static_cast<float>(odds.offset - odds.slope * mean / deviation);
  }
  return fit;
}

double LogisticLoss(const FiringSamples& samples, const LowRankPredictor& predictor) {
  std::vector<float> scores(static_cast<size_t>(samples.n_neurons));
  double loss = 0;
  for (int64_t t = 0; t < samples.size(); ++t) {
    predictor.Score(samples.X(t), scores.data());
    const float* const gate = samples.Gate(t);
    for (size_t i = 0; i < scores.size(); ++i) {
      const float margin = Fires(gate[i]) ? scores[i] : -scores[i];
      loss += margin > 0 ? std::log1p(std::exp(-margin)) : std::log1p(std::exp(margin)) - margin;
    }
  }
  return loss / static_cast<double>(samples.size() * samples.n_neurons);
}

Status Refine(const FiringSamples& samples, const FiringSamples& held_out, int32_t most_epochs,
              const std::function<bool()>& keep_going, LowRankPredictor* predictor) {
  constexpr int64_t kBatch = 32;
  constexpr float kRate = 0.02f;    // of a number's size, a step
  constexpr int32_t kPatience = 2;  // epochs without gain
  const int64_t n_inputs = samples.n_inputs, n_neurons = samples.n_neurons, rank = predictor->rank;
  LowRankPredictor best = *predictor;
  double best_loss = LogisticLoss(held_out, best);
  Trained v(&predictor->v), u(&predictor->u), bias(&predictor->bias);
  std::vector<float> reduced(static_cast<size_t>(rank)), error(static_cast<size_t>(n_neurons));
  std::vector<int64_t> order(static_cast<size_t>(samples.size()));
  std::iota(order.begin(), order.end(), 0);
  Rng rng(2);
  int64_t n_steps = 0;
  int32_t n_without_gain = 0;
  for (int32_t epoch = 0; epoch < most_epochs && n_without_gain < kPatience; ++epoch) {
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.NextU64() % i]);
    for (int64_t begin = 0; begin < samples.size(); begin += kBatch) {
      if (keep_going && !keep_going()) return CancelledError("stopped while predictors were trained");
      const int64_t end = std::min(begin + kBatch, samples.size());
      for (int64_t i = begin; i < end; ++i) {
        const int64_t t = order[static_cast<size_t>(i)];
        const float* const x = samples.X(t);
        const float* const gate = samples.Gate(t);
        std::ranges::copy(predictor->bias, error.begin());
        for (int64_t k = 0; k < rank; ++k) {
          reduced[static_cast<size_t>(k)] = Dot(predictor->v.data() + k * n_inputs, x, n_inputs);
          AddScaled(error.data(), reduced[static_cast<size_t>(k)], predictor->u.data() + k * n_neurons, n_neurons);
        }
        for (size_t j = 0; j < error.size(); ++j) error[j] = Sigmoid(error[j]) - (Fires(gate[j]) ? 1.0f : 0.0f);
        AddScaled(bias.gradient.data(), 1, error.data(), n_neurons);
        for (int64_t k = 0; k < rank; ++k) {
          const float of_reduced = Dot(predictor->u.data() + k * n_neurons, error.data(), n_neurons);
          AddScaled(u.gradient.data() + k * n_neurons, reduced[static_cast<size_t>(k)], error.data(), n_neurons);
          AddScaled(v.gradient.data() + k * n_inputs, of_reduced, x, n_inputs);
        }
      }
      const float rate = kRate * (1 - static_cast<float>(epoch) / static_cast<float>(most_epochs));
      ++n_steps;
      v.Step(rate, n_steps);
      u.Step(rate, n_steps);
      bias.Step(rate, n_steps);
    }
    const double loss = LogisticLoss(held_out, *predictor);
    ++n_without_gain;
    if (!(loss < best_loss)) continue;
    best_loss = loss;
    best = *predictor;
    n_without_gain = 0;
  }
  *predictor = std::move(best);
  return OkStatus();
}

}  // namespace pantry
