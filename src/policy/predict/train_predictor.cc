// SPDX-License-Identifier: Apache-2.0
#include "policy/predict/train_predictor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include "policy/predict/predictor_fit.h"
#include "policy/predict/singular_vectors.h"
#include "policy/predict/vector_math.h"

namespace pantry {
namespace {

constexpr std::array<int64_t, 7> kRanks = {0, 8, 16, 32, 64, 128, 256};
constexpr double kNearlyBest = 1.02;  // of bytes per token: a smaller rank is preferred to the last percent
constexpr int64_t kLeastFiring = 64;  // in the samples held back: recall of fewer says nothing

// Directions to look for, and what each means to a neuron.
struct Directions {
  std::vector<float> v;  // [rank, n_inputs]
  std::vector<float> u;  // [rank, n_neurons]
};

// The leading singular vectors of the gates, and V = U^T W; as large as their reduced inputs are of deviation 1 or so.
Directions Leading(const FiringSamples& samples, GateRow gate_row, int64_t rank) {
  const int64_t n_inputs = samples.n_inputs, n_neurons = samples.n_neurons;
  Directions leading = {std::vector<float>(static_cast<size_t>(rank * n_inputs)),
                        SingularVectors(samples.gate, n_neurons, rank)};
  std::vector<float> row(static_cast<size_t>(n_inputs));
  for (int64_t neuron = 0; neuron < n_neurons; ++neuron) {
    gate_row(neuron, row.data());
    for (int64_t k = 0; k < rank; ++k) {
      AddScaled(leading.v.data() + k * n_inputs, leading.u[static_cast<size_t>(k * n_neurons + neuron)], row.data(),
                n_inputs);
    }
  }
  for (int64_t k = 0; k < rank; ++k) {
    double squares = 0;
    float* const v = leading.v.data() + k * n_inputs;
    for (int64_t t = 0; t < samples.size(); ++t) {
      const float reduced = Dot(v, samples.X(t), n_inputs);
      squares += double{reduced} * reduced;
    }
    const auto size = static_cast<float>(std::sqrt(squares / static_cast<double>(samples.size())));
    if (!(size > 0)) continue;
    for (int64_t i = 0; i < n_inputs; ++i) v[i] /= size;
    for (int64_t i = 0; i < n_neurons; ++i) leading.u[static_cast<size_t>(k * n_neurons + i)] *= size;
  }
  return leading;
}

int64_t CountFiring(const FiringSamples& samples) {
  return std::ranges::count_if(samples.gate, [](float gate) { return gate > 0; });
}

}  // namespace

Status TrainOptions::Validate() const {
  if (recall >= kLeastRecall && recall < 1) return OkStatus();
  return InvalidArgumentError("--recall {}: expected a share from {} to below 1, such as 0.95", recall, kLeastRecall);
}

PredictorQuality QualityOf(const FiringSamples& samples, const LowRankPredictor& predictor) {
  std::vector<float> scores(static_cast<size_t>(samples.n_neurons));
  int64_t n_predicted = 0, n_firing = 0, n_both = 0;
  for (int64_t t = 0; t < samples.size(); ++t) {
    predictor.Score(samples.X(t), scores.data());
    for (size_t i = 0; i < scores.size(); ++i) {
      const bool fires = samples.Gate(t)[i] > 0, is_predicted = scores[i] >= 0;
      n_predicted += is_predicted ? 1 : 0;
      n_firing += fires ? 1 : 0;
      n_both += fires && is_predicted ? 1 : 0;
    }
  }
  const auto n_all = static_cast<double>(samples.size() * samples.n_neurons);
  return {.recall = n_firing > 0 ? static_cast<double>(n_both) / static_cast<double>(n_firing) : 1,
          .density = static_cast<double>(n_predicted) / n_all,
          .true_share = static_cast<double>(n_firing) / n_all};
}

PredictorQuality SetThreshold(const FiringSamples& samples, double recall, LowRankPredictor* predictor) {
  std::vector<float> scores(static_cast<size_t>(samples.n_neurons)), of_firing;
  for (int64_t t = 0; t < samples.size(); ++t) {
    predictor->Score(samples.X(t), scores.data());
    for (size_t i = 0; i < scores.size(); ++i) {
      if (samples.Gate(t)[i] > 0) of_firing.push_back(scores[i]);
    }
  }
  PANTRY_CHECK(!of_firing.empty());
  const auto n_below = static_cast<size_t>((1 - recall) * static_cast<double>(of_firing.size()));
  const auto at = static_cast<ptrdiff_t>(std::min(n_below, of_firing.size() - 1));
  std::nth_element(of_firing.begin(), of_firing.begin() + at, of_firing.end());
  // A little lower, since other orders of summation, and F16, give scores that differ in their last bits.
  const float threshold = of_firing[static_cast<size_t>(at)];
  for (float& bias : predictor->bias) bias -= threshold - 1e-4f;
  return QualityOf(samples, *predictor);
}

Result<TrainedPredictor> TrainPredictor(const FiringSamples& train, const FiringSamples& held_out, GateRow gate_row,
                                        double gate_row_bytes, const TrainOptions& options,
                                        const std::function<bool()>& keep_going) {
  TrainedPredictor best;
  if (train.size() == 0 || CountFiring(held_out) < kLeastFiring) return best;
  const auto n_neurons = static_cast<double>(train.n_neurons);
  double least_bytes = gate_row_bytes * n_neurons, chosen_bytes = least_bytes;
  const auto bytes_of = [&](int64_t rank, double density) {
    return static_cast<double>(LowRankPredictor::Bytes(rank, train.n_inputs, train.n_neurons)) +
           density * gate_row_bytes * n_neurons;
  };
  const int64_t most_rank = options.kind == PredictorKind::kHot ? 0 : std::min(options.most_rank, train.n_inputs);
  Directions leading;
  best.quality.true_share = static_cast<double>(CountFiring(held_out)) / static_cast<double>(held_out.gate.size());
  const auto can_gain = [&](int64_t rank) {
    return rank <= most_rank && bytes_of(rank, best.quality.true_share) < least_bytes;
  };
  for (const int64_t rank : kRanks) {
    if (keep_going && !keep_going()) return CancelledError("stopped while predictors were trained");
    if (!can_gain(rank)) break;
    if (rank > 0 && leading.v.empty()) {
      leading = Leading(train, gate_row, *std::find_if(kRanks.rbegin(), kRanks.rend(), can_gain));
    }
    LowRankPredictor predictor = FitOdds(train, leading.v, leading.u, rank);
    if (options.kind == PredictorKind::kMlp && rank > 0) {
      PANTRY_RETURN_IF_ERROR(Refine(train, held_out, options.most_epochs, keep_going, &predictor));
    }
    const PredictorQuality quality = SetThreshold(held_out, options.recall, &predictor);
    const double bytes = bytes_of(rank, quality.density);
    best.tried.push_back({rank, quality.density, bytes});
    least_bytes = std::min(least_bytes, bytes);
    if (bytes * kNearlyBest >= chosen_bytes) continue;
    chosen_bytes = bytes;
    best.quality = quality;
    best.predictor = std::move(predictor);
  }
  return best;
}

}  // namespace pantry
