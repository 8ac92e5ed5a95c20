// SPDX-License-Identifier: Apache-2.0
#include "policy/neurons/neuron_prior.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/rng.h"

namespace pantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A layer of one token: gates of all neurons, those that fire, and which of these are near.
struct Token {
  std::vector<float> gate;
  std::vector<int32_t> firing;
  std::vector<uint8_t> is_near;
};

Token RandomToken(Rng& rng, int32_t n_neurons) {
  Token token;
  for (int32_t i = 0; i < n_neurons; ++i) {
    const float gate = static_cast<float>(rng.NextU64() % 2001) / 1000 - 1;
    token.gate.push_back(gate);
    if (!(gate > 0)) continue;
    token.firing.push_back(i);
    token.is_near.push_back(static_cast<uint8_t>(rng.NextU64() % 2));
  }
  return token;
}

// What runs of a run of one token and layer, told in `n_parts`.
std::vector<int32_t> Running(NeuronPrior& prior, int32_t layer, const Token& token, size_t n_parts = 1) {
  std::vector<int32_t> running, firing = token.firing;
  prior.BeginRun();
  prior.Begin(layer);
  for (size_t part = 0; part < n_parts; ++part) {
    const size_t begin = firing.size() * part / n_parts, n = firing.size() * (part + 1) / n_parts - begin;
    const std::span<int32_t> of_part = std::span(firing).subspan(begin, n);
    const size_t n_kept = prior.Choose(token.gate.data(), std::span(token.is_near).subspan(begin, n), of_part);
    running.insert(running.end(), of_part.begin(), of_part.begin() + static_cast<std::ptrdiff_t>(n_kept));
  }
  prior.End();
  prior.EndRun();
  return running;
}

TEST(NeuronPrior, NoStrengthLeavesNothingOut) {
  NeuronPrior prior(0, 1);
  Rng rng(1);
  for (int i = 0; i < 20; ++i) {
    const Token token = RandomToken(rng, 300);
    EXPECT_EQ(Running(prior, 0, token), token.firing);
  }
  EXPECT_EQ(prior.counts().n_left_out, 0);
  EXPECT_GT(prior.counts().n_firing, 0);
  EXPECT_EQ(prior.counts().gate_sum_kept(), 1);
}

TEST(NeuronPrior, RunsWhatIsNearAndOfTheRestWhatReachesTheShareOfTheMeanLargestGate) {
  NeuronPrior prior(0.5, 2);
  const Token first = {{4, 0, 1, 2}, {0, 2, 3}, {0, 0, 0}};
  EXPECT_THAT(Running(prior, 0, first), ElementsAre(0, 2, 3));  // no scale yet
  const Token second = {{8, -1, 1, 2}, {0, 2, 3}, {0, 0, 0}};
  EXPECT_THAT(Running(prior, 0, second), ElementsAre(0, 3));  // 0.5 * 4
  const Token third = {{2.9F, 3, 1, 2}, {0, 1, 2, 3}, {0, 0, 1, 0}};
  EXPECT_THAT(Running(prior, 1, third), ElementsAre(0, 1, 2, 3));  // each layer has its own
  EXPECT_THAT(Running(prior, 0, third), ElementsAre(1, 2));        // 0.5 * 6; 2 is near
  EXPECT_EQ(prior.counts().n_firing, 3 + 3 + 4 + 4);
  EXPECT_EQ(prior.counts().n_left_out, 1 + 2);
  EXPECT_NEAR(prior.counts().gate_sum_kept(), 1 - (1 + 2.9 + 2) / (7 + 11 + 8.9 + 8.9), 1e-6);
}

TEST(NeuronPrior, MoreStrengthLeavesOutMoreAndNeverWhatIsNear) {
  Rng rng(2);
  std::vector<Token> tokens;
  for (int i = 0; i < 30; ++i) tokens.push_back(RandomToken(rng, 200));
  std::vector<std::vector<int32_t>> before;
  for (const double strength : {0.0, 0.1, 0.3, 0.7, 1.0}) {
    NeuronPrior prior(strength, 1);
    std::vector<std::vector<int32_t>> all;
    for (const Token& token : tokens) {
      all.push_back(Running(prior, 0, token));
      for (size_t i = 0; i < token.firing.size(); ++i) {
        if (token.is_near[i] == 0) continue;
        EXPECT_TRUE(std::ranges::binary_search(all.back(), token.firing[i]));
      }
      EXPECT_TRUE(std::ranges::includes(token.firing, all.back()));
    }
    for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(std::ranges::includes(before[i], all[i]));
    EXPECT_EQ(prior.counts().n_left_out > 0, strength > 0);
    before = all;
  }
}

TEST(NeuronPrior, ALayerInPartsIsTheSame) {
  Rng rng(3);
  NeuronPrior whole(0.4, 1), parts(0.4, 1);
  for (int i = 0; i < 20; ++i) {
    const Token token = RandomToken(rng, 150);
    EXPECT_EQ(Running(parts, 0, token, 4), Running(whole, 0, token));
  }
  EXPECT_EQ(parts.counts().n_left_out, whole.counts().n_left_out);
  EXPECT_NEAR(parts.counts().gates_kept, whole.counts().gates_kept, 1e-6);
}

TEST(NeuronPrior, LearnsFromSeveralTokensWhatItWouldFromSingleOnes) {
  Rng rng(4);
  NeuronPrior several(0.4, 2), single(0.4, 2);
  several.BeginRun();
  for (int32_t n_neurons = 1; n_neurons < 70; ++n_neurons) {
    const Token token = RandomToken(rng, n_neurons);
    several.Learn(1, token.gate);
    Running(single, 1, token);
  }
  EXPECT_EQ(several.usual_largest_gate(1), 0);
  several.EndRun();
  EXPECT_DOUBLE_EQ(several.usual_largest_gate(1), single.usual_largest_gate(1));
  EXPECT_GT(several.usual_largest_gate(1), 0.5);
  EXPECT_EQ(several.usual_largest_gate(0), 0);
  EXPECT_EQ(several.counts().n_firing, 0);
  const Token next = RandomToken(rng, 100);
  EXPECT_EQ(Running(several, 1, next), Running(single, 1, next));
  EXPECT_GT(several.counts().n_left_out, 0);  // the first single token has a scale
}

TEST(NeuronPrior, ARunThatFailsCountsInNothing) {
  Rng rng(5);
  NeuronPrior prior(0.4, 1);
  for (int i = 0; i < 3; ++i) Running(prior, 0, RandomToken(rng, 80));
  const NeuronPriorCounts counts = prior.counts();
  const double scale = prior.usual_largest_gate(0);
  Token token = RandomToken(rng, 80);
  prior.BeginRun();
  prior.Begin(0);
  prior.Choose(token.gate.data(), token.is_near, token.firing);
  prior.End();
  prior.BeginRun();  // the next one
  prior.Learn(0, token.gate);
  prior.BeginRun();
  prior.EndRun();
  EXPECT_EQ(prior.counts().n_firing, counts.n_firing);
  EXPECT_EQ(prior.counts().n_left_out, counts.n_left_out);
  EXPECT_EQ(prior.counts().gates, counts.gates);
  EXPECT_EQ(prior.usual_largest_gate(0), scale);
}

TEST(NeuronPrior, NonsenseRunsAndIsForgotten) {
  NeuronPrior prior(1, 1);
  const Token sane = {{2, 1}, {0, 1}, {0, 0}};
  EXPECT_THAT(Running(prior, 0, sane), ElementsAre(0, 1));
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    EXPECT_THAT(Running(prior, 0, {{bad, 1}, {0, 1}, {0, 0}}), ElementsAre(0));
    for (const size_t at : {0, 17}) {
      std::vector<float> gates(18, 5);
      gates[at] = bad;
      prior.Learn(0, gates);
    }
    prior.EndRun();
    EXPECT_EQ(prior.usual_largest_gate(0), 2);
  }
  EXPECT_THAT(Running(prior, 0, sane), ElementsAre(0));
  EXPECT_EQ(prior.counts().n_firing, 4);
  EXPECT_DOUBLE_EQ(prior.counts().gate_sum_kept(), 5.0 / 6);
}

TEST(NeuronPrior, WithoutATokenNothingWasLeftOut) {
  const NeuronPriorCounts none;
  EXPECT_EQ(none.left_out_share(), 0);
  EXPECT_EQ(none.gate_sum_kept(), 1);
}

TEST(ParseNeuronPolicy, ReadsAStrengthAndRefusesTheRest) {
  EXPECT_EQ(ParseNeuronPolicy("exact").value(), 0);
  EXPECT_EQ(ParseNeuronPolicy("cache-prior:0").value(), 0);
  EXPECT_EQ(ParseNeuronPolicy("cache-prior:0.25").value(), 0.25);
  for (const char* const text : {"exact", "cache-prior:0.25", "cache-prior:1"}) {
    EXPECT_EQ(NeuronPolicyText(ParseNeuronPolicy(text).value()), text);
  }
  for (const char* const bad : {"cache-prior", "cache-prior:", "cache-prior:1.1", "cache-prior:-0.1", "cache-prior:nan",
                                "cache-prior:x", "exact:1", "", "drop:0.1", "max-rank:4", "auto:1%"}) {
    EXPECT_EQ(ParseNeuronPolicy(bad).status().code(), StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_THAT(std::string(ParseNeuronPolicy("drop:0.1").status().message()),
              HasSubstr("unknown neuron policy 'drop:0.1'. Expected one of: exact, cache-prior:L"));
  EXPECT_THAT(std::string(ParseNeuronPolicy("cache-prior:2").status().message()),
              HasSubstr("expected a strength of 0 to 1, found '2'"));
}

}  // namespace
}  // namespace pantry
