// SPDX-License-Identifier: Apache-2.0
#include "models/expert_routing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace pantry {
namespace {

std::vector<float> Mix(const ExpertMixing& mixing, const std::vector<float>& logits,
                       const std::vector<int32_t>& chosen) {
  std::vector<float> scratch(logits.size()), weights(chosen.size());
  MixExperts(mixing, logits, chosen, scratch, weights);
  return weights;
}

void ExpectNear(const std::vector<float>& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-6) << i;
}

TEST(MixExperts, SoftmaxIsOverAllExperts) {
  const std::vector<float> logits = {1, 0, 2, -1};
  const double sum = std::exp(1) + 1 + std::exp(2) + std::exp(-1);
  ExpectNear(Mix({}, logits, {2, 0}), {std::exp(2) / sum, std::exp(1) / sum});
}

TEST(MixExperts, NormalizedWeightsSumToOneTimesTheScale) {
  const std::vector<float> logits = {1, 0, 2, -1};
  const double sum = std::exp(1) + std::exp(2);
  ExpectNear(Mix({.normalized = true, .scale = 3}, logits, {2, 0}), {3 * std::exp(2) / sum, 3 * std::exp(1) / sum});
  const ExpertMixing sigmoid = {.gating = ExpertGating::kSigmoid, .normalized = true};
  ExpectNear(Mix(sigmoid, {0, 0, 5}, {0, 1}), {0.5, 0.5});
  ExpectNear(Mix(sigmoid, {-100, -100, -100}, {0, 1}), {0, 0});  // nothing to divide by
}

TEST(MixExperts, SigmoidIsOfEachExpertAlone) {
  ExpectNear(Mix({.gating = ExpertGating::kSigmoid}, {2, 0, -1}, {0, 2}),
             {1 / (1 + std::exp(-2)), 1 / (1 + std::exp(1))});
}

TEST(MixExperts, SoftmaxOfChosenIgnoresTheOthers) {
  ExpectNear(Mix({.gating = ExpertGating::kSoftmaxOfChosen}, {1, 50, 2}, {2, 0}),
             {1 / (1 + std::exp(-1)), 1 / (1 + std::exp(1))});
}

// As the model's authors write it: an expert's weight is its share among those whose logit is within 2 % of the largest that is left.
TEST(MixExperts, SparsemixerLooksAtNearRivalsOnly) {
  const ExpertMixing mixing = {.gating = ExpertGating::kSparsemixer};
  ExpectNear(Mix(mixing, {4, 2, 1}, {0, 1}), {1, 1});
  const double near = std::exp(-0.05);  // 3.95 is within 2 % of 4
  ExpectNear(Mix(mixing, {4, 3.95f, 1}, {0, 1}), {1 / (1 + near), 1});
  ExpectNear(Mix(mixing, {0, 0, -1}, {0, 1}), {0.5, 1});
  ExpectNear(Mix(mixing, {-2, -2.01f, -9}, {0, 1}), {1 / (1 + std::exp(-0.01)), 1});
}

// Weights of whatever a policy chose instead come from the token's own logits.
TEST(MixExperts, AnyChoiceGetsItsOwnWeight) {
  const std::vector<float> logits = {1, 0, 2, -1};
  const double sum = std::exp(1) + 1 + std::exp(2) + std::exp(-1);
  ExpectNear(Mix({}, logits, {3, 1}), {std::exp(-1) / sum, 1 / sum});
}

}  // namespace
}  // namespace pantry
