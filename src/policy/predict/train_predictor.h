// SPDX-License-Identifier: Apache-2.0
// TrainPredictor() makes a LowRankPredictor of a feed-forward network from samples of it, as small as is worth its bytes.
//
// What is trained is the probability that a neuron fires; whoever runs it compares with a threshold, which is part of the bias then.
//   kHot  nothing but how often each neuron fires: the same neurons for every token.
//   kSvd  V and U are the leading singular vectors of the gates themselves (not of the gate's weights: inputs are far from round, and what
//         matters is what the gate makes of those that occur), V = U^T W. Each neuron then gets a slope and an offset, so that its score is
//         the logarithm of the odds that it fires (Platt's fit). No gradient is followed.
//   kMlp  begins there and follows the gradient of the logistic loss with Adam, until samples that were held back are not predicted better.
// The threshold is the highest with which enough of what fires in the samples that were held back is predicted.
// A rank is worth its bytes where a token reads fewer: those of the predictor, and the rows of gate that it does not rule out.
// Threads: pure. `keep_going` may be asked from the thread that trains.
// Source: PowerInfer (arXiv 2312.12456) for the size by layer; Platt 1999; Kingma and Ba 2014 (Adam).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "base/function_ref.h"
#include "base/status.h"
#include "policy/predict/firing_samples.h"
#include "policy/predict/low_rank_predictor.h"

namespace pantry {

enum class PredictorKind : uint8_t { kHot, kSvd, kMlp };

struct TrainOptions {
  static constexpr float kLeastRecall = 0.01f;

  PredictorKind kind = PredictorKind::kSvd;
  float recall = 0.95f;      // of what fires in the samples held back, the share that is to be predicted
  int64_t most_rank = 128;   // none above that is tried
  int32_t most_epochs = 20;  // of kMlp
  Status Validate() const;
};

// What a rank came to.
struct RankTried {
  int64_t rank = 0;
  double density = 1;
  double bytes_per_token = 0;  // of predictor and gate
};

struct TrainedPredictor {
  std::optional<LowRankPredictor> predictor;  // none: computing every gate reads no more
  PredictorQuality quality;                   // on the samples held back
  std::vector<RankTried> tried;
};

// Decodes row `neuron` of the gate's weights to out [n_inputs].
using GateRow = FunctionRef<void(int64_t neuron, float* out)>;

// `held_out` decides on threshold, rank and when training ends. `gate_row_bytes`: of a row of gate where it is computed.
// Where hardly anything fires in `held_out`, so that nothing can be said of recall, there is no predictor. kCancelled.
// REQUIRES: samples of one network; valid options.
Result<TrainedPredictor> TrainPredictor(const FiringSamples& train, const FiringSamples& held_out, GateRow gate_row,
                                        double gate_row_bytes, const TrainOptions& options,
                                        const std::function<bool()>& keep_going = {});

// Sets the threshold (adds it to the bias) so that the share `recall` of what fires in `samples` is predicted, and says what that costs.
PredictorQuality SetThreshold(const FiringSamples& samples, double recall, LowRankPredictor* predictor);
PredictorQuality QualityOf(const FiringSamples& samples, const LowRankPredictor& predictor);

}  // namespace pantry
