// SPDX-License-Identifier: Apache-2.0
// The two ways in which a LowRankPredictor's numbers come about; what they are for says train_predictor.h.
// Threads: pure.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/status.h"
#include "policy/predict/firing_samples.h"
#include "policy/predict/low_rank_predictor.h"

namespace pantry {

// A predictor whose scores are the logarithm of odds, of directions `v` [rank, n_inputs] and what each means to a neuron, `u` [rank, n_neurons].
LowRankPredictor FitOdds(const FiringSamples& samples, const std::vector<float>& v, const std::vector<float>& u,
                         int64_t rank);

// Trains all of `predictor` on the logistic loss, and leaves it as it was best on `held_out`. kCancelled.
Status Refine(const FiringSamples& samples, const FiringSamples& held_out, int32_t most_epochs,
              const std::function<bool()>& keep_going, LowRankPredictor* predictor);

// Mean logistic loss over all neurons and samples.
double LogisticLoss(const FiringSamples& samples, const LowRankPredictor& predictor);

}  // namespace pantry
