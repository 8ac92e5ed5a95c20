// SPDX-License-Identifier: Apache-2.0
#include "models/expert_routing.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace pantry {
namespace {

// A sum of weights below this counts as this: the smallest normal number of F16, as in llama.cpp.
constexpr float kMinWeightSum = 0x1p-14f;
// Sparsemixer leaves out logits that are farther from the largest one than this share of it: twice the 0.01 that the models were trained with.
constexpr float kSparsemixerReach = 0.02f;
constexpr float kLowest = -std::numeric_limits<float>::infinity();

float Largest(std::span<const float> x) {
  float largest = kLowest;
  for (const float value : x) largest = std::max(largest, value);
  return largest;
}

// weights[rank] = exp(logits[chosen[rank]]) / sum over `all` of exp, each less the largest of `all`.
void SoftmaxShares(std::span<const float> all, std::span<const float> logits, std::span<const int32_t> chosen,
                   std::span<float> weights) {
  const float largest = Largest(all);
  float sum = 0;
  for (const float logit : all) sum += std::exp(logit - largest);
  for (size_t rank = 0; rank < chosen.size(); ++rank) {
    weights[rank] = std::exp(logits[static_cast<size_t>(chosen[rank])] - largest) / sum;
  }
}

// A choice takes itself out of what the next one sees.
void Sparsemix(std::span<const float> logits, std::span<const int32_t> chosen, std::span<float> left,
               std::span<float> weights) {
  std::copy(logits.begin(), logits.end(), left.begin());
  for (size_t rank = 0; rank < chosen.size(); ++rank) {
    const float largest = Largest(left);
    float sum = 0;
    for (size_t i = 0; i < left.size(); ++i) {
      if (left[i] == kLowest) continue;
      const float scale = std::max(std::abs(logits[i]), largest);
      if ((largest - logits[i]) / scale > kSparsemixerReach) continue;  // 0 / 0 is near
      sum += std::exp(logits[i] - largest);
    }
    const auto expert = static_cast<size_t>(chosen[rank]);
    weights[rank] = sum > 0 ? std::exp(logits[expert] - largest) / sum : 0;
    left[expert] = kLowest;
  }
}

}  // namespace

void MixExperts(const ExpertMixing& mixing, std::span<const float> logits, std::span<const int32_t> chosen,
                std::span<float> scratch, std::span<float> weights) {
  switch (mixing.gating) {
    case ExpertGating::kSoftmax: SoftmaxShares(logits, logits, chosen, weights); break;
    case ExpertGating::kSigmoid:
      for (size_t rank = 0; rank < chosen.size(); ++rank) {
        weights[rank] = 1.0f / (1.0f + std::exp(-logits[static_cast<size_t>(chosen[rank])]));
      }
      break;
    case ExpertGating::kSoftmaxOfChosen: {
      const auto of_chosen = scratch.first(chosen.size());
      for (size_t rank = 0; rank < chosen.size(); ++rank) of_chosen[rank] = logits[static_cast<size_t>(chosen[rank])];
      SoftmaxShares(of_chosen, logits, chosen, weights);
      break;
    }
    case ExpertGating::kSparsemixer: Sparsemix(logits, chosen, scratch, weights); break;
  }
  float factor = mixing.scale;
  if (mixing.normalized) {
    float sum = 0;
    for (const float weight : weights) sum += weight;
    factor /= std::max(sum, kMinWeightSum);
  }
  if (factor == 1.0f) return;
  for (float& weight : weights) weight *= factor;
}

}  // namespace pantry
