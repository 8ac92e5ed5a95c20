// SPDX-License-Identifier: Apache-2.0
// The logarithm of a token's probability, from F32 logits, summed in double in a fixed order.
#pragma once

#include <span>

#include "base/status.h"
#include "base/strong_id.h"
#include "engine/engine.h"

namespace pantry {

// What turns logits into log probabilities: log softmax(logits)[i] = Of(logits[i]).
struct LogNormalizer {
  float largest = 0;   // logit
  double log_sum = 0;  // of exp(logit - largest)
  double Of(float logit) const { return static_cast<double>(logit) - largest - log_sum; }
};

// The same bits for any number of threads. REQUIRES: logits not empty.
LogNormalizer NormalizerOf(ThreadPool& pool, std::span<const float> logits);

// log softmax(logits)[token]. The same bits for any number of threads. REQUIRES: 0 <= token < logits.size().
double LogProbability(ThreadPool& pool, std::span<const float> logits, TokenId token);

// kCorruption: logits that are not finite, from which nothing follows.
Status NoProbabilities();

// The index of the largest logit, the lowest among equals. REQUIRES: logits not empty.
TokenId BestToken(std::span<const float> logits);

}  // namespace pantry
