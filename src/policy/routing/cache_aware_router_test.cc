// SPDX-License-Identifier: Apache-2.0
#include "policy/routing/cache_aware_router.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/rng.h"
#include "policy/routing/prior_controller.h"
#include "support/count_allocations.h"

namespace pantry {
namespace {

// Says what the test says; counts how often it is asked.
class ScriptedNear final : public NearExperts {
 public:
  ScriptedNear(int32_t n_layers, size_t n_experts) : near_(static_cast<size_t>(n_layers) * n_experts), n_(n_experts) {}
  void Look(int32_t layer, std::span<uint8_t> is_near) const override {
    ++n_looks;
    std::ranges::copy(std::span(near_).subspan(static_cast<size_t>(layer) * n_, n_), is_near.begin());
  }
  void Draw(Rng& rng, double share) {
    for (uint8_t& near : near_) near = rng.NextDouble() < share ? 1 : 0;
  }
  std::span<const uint8_t> of(int32_t layer) const {
    return std::span(near_).subspan(static_cast<size_t>(layer) * n_, n_);
  }
  mutable int n_looks = 0;

 private:
  std::vector<uint8_t> near_;
  size_t n_;
};

constexpr int32_t kFirst = 1, kLayers = 3, kExperts = 16, kUsed = 4;

CacheAwareRouterOptions Options(const std::string& policy) {
  return {.policy = ParseExpertPolicy(policy).value(),
          .first_layer = kFirst,
          .n_layers = kLayers,
          .n_experts = kExperts,
          .n_used = kUsed};
}

std::vector<float> RandomLogits(Rng& rng, size_t n_tokens) {
  std::vector<float> logits(n_tokens * kExperts);
  for (float& logit : logits) logit = static_cast<float>(8 * rng.NextDouble() - 4);
  return logits;
}

std::vector<int32_t> Choose(CacheAwareRouter& router, int32_t layer, const std::vector<float>& logits) {
  std::vector<int32_t> chosen(logits.size() / kExperts * kUsed);
  router.Choose(layer, static_cast<int64_t>(logits.size() / kExperts), logits, chosen);
  return chosen;
}

std::vector<int32_t> ByPolicy(const std::string& text, std::span<const float> logits, std::span<const uint8_t> is_near,
                              float mean_range) {
  std::vector<int32_t> chosen(kUsed);
  MakeExpertPolicy(ParseExpertPolicy(text).value(), kExperts, kUsed)
      .value()
      ->Choose({logits, is_near, mean_range}, chosen);
  return chosen;
}

double RangeOf(std::span<const float> logits) {
  const auto [least, most] = std::ranges::minmax(logits);
  return static_cast<double>(most) - least;
}

// The mean over the tokens of each layer, prompts included, up to and with the token at hand.
TEST(CacheAwareRouter, KeepsEachLayersRunningMeanOfTheRange) {
  Rng rng(1);
  ScriptedNear near(kFirst + kLayers, kExperts);
  const auto router = CacheAwareRouter::Create(Options("cache-prior:0.2"), near).value();
  std::vector<double> sums(kLayers);
  std::vector<int> n_seen(kLayers);
  for (int round = 0; round < 50; ++round) {
    const size_t n_tokens = round % 3 == 0 ? 5 : 1;
    near.Draw(rng, 0.5);
    for (int32_t index = 0; index < kLayers; ++index) {
      const auto layer = static_cast<size_t>(index);
      auto logits = RandomLogits(rng, n_tokens);
      for (float& logit : logits) logit *= static_cast<float>(1 + index);
      const auto chosen = Choose(*router, kFirst + index, logits);
      for (size_t t = 0; t < n_tokens; ++t) {
        sums[layer] += RangeOf(std::span(logits).subspan(t * kExperts, kExperts));
        ++n_seen[layer];
      }
      if (n_tokens > 1) continue;
      ASSERT_EQ(chosen, ByPolicy("cache-prior:0.2", logits, near.of(kFirst + index),
                                 static_cast<float>(sums[layer] / n_seen[layer])));
    }
  }
}

TEST(CacheAwareRouter, NonsenseDoesNotEnterTheMean) {
  Rng rng(2);
  ScriptedNear near(kFirst + kLayers, kExperts);
  near.Draw(rng, 0.5);
  const auto router = CacheAwareRouter::Create(Options("cache-prior:0.2"), near).value();
  for (const float odd : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    for (const size_t at : {0, 7}) {
      auto nonsense = RandomLogits(rng, 1);
      nonsense[at] = odd;
      Choose(*router, kFirst, nonsense);
    }
  }
  const auto logits = RandomLogits(rng, 1);
  EXPECT_EQ(Choose(*router, kFirst, logits),
            ByPolicy("cache-prior:0.2", logits, near.of(kFirst), static_cast<float>(RangeOf(logits))));
  EXPECT_GE(router->counts().gate_mass(), 0);
  EXPECT_LE(router->counts().gate_mass(), 1);
  EXPECT_GE(router->counts().mean_excess_kl(), 0);
  EXPECT_TRUE(std::isfinite(router->counts().mean_excess_kl()));
}

TEST(CacheAwareRouter, LeavesPromptsAndSparedLayersAloneUnlessTold) {
  Rng rng(3);
  ScriptedNear near(kFirst + kLayers, kExperts);
  near.Draw(rng, 0.5);
  auto options = Options("max-rank:16");
  options.n_spared_layers = 2;
  const auto router = CacheAwareRouter::Create(options, near).value();
  const auto logits = RandomLogits(rng, 40);
  const std::vector<float> one(logits.begin(), logits.begin() + kExperts);
  for (int32_t layer = kFirst; layer < kFirst + kLayers; ++layer) {
    const auto of_prompt = Choose(*router, layer, logits);
    for (size_t t = 0; t < 40; ++t) {
      const auto exact = ByPolicy("exact", std::span(logits).subspan(t * kExperts, kExperts), near.of(layer), 0);
      ASSERT_TRUE(std::ranges::equal(std::span(of_prompt).subspan(t * kUsed, kUsed), exact));
    }
    EXPECT_EQ(Choose(*router, layer, one),
              ByPolicy(layer < kFirst + 2 ? "exact" : "max-rank:16", one, near.of(layer), 0));
  }
  EXPECT_EQ(near.n_looks, 1);  // for the one choice that could change
  EXPECT_EQ(router->counts().n_choices, 1);

  options.in_prompts = true;
  const auto in_prompts = CacheAwareRouter::Create(options, near).value();
  const auto chosen = Choose(*in_prompts, kFirst + 2, logits);
  for (size_t t = 0; t < 40; ++t) {
    const auto one_of_them = std::span(logits).subspan(t * kExperts, kExperts);
    ASSERT_TRUE(std::ranges::equal(std::span(chosen).subspan(t * kUsed, kUsed),
                                   ByPolicy("max-rank:16", one_of_them, near.of(kFirst + 2), 0)));
  }
  EXPECT_EQ(in_prompts->counts().n_choices, 40);
}

// The mean range of spared layers goes on: what is spared may change from run to run, what is known of the model does not.
TEST(CacheAwareRouter, AGuessIsTheNextChoiceAndCountsNothing) {
  Rng rng(4);
  ScriptedNear near(kFirst + kLayers, kExperts);
  for (const std::string policy : {"cache-prior:0.3", "max-rank:10", "margin:0.2", "drop:0.3", "exact"}) {
    auto options = Options(policy);
    options.n_spared_layers = 1;
    const auto router = CacheAwareRouter::Create(options, near).value();
    const auto logits = RandomLogits(rng, 1);
    near.Draw(rng, 0.5);
    for (int32_t layer = kFirst; layer < kFirst + kLayers; ++layer) {
      Choose(*router, layer, logits);  // the mean is that of this token now
      const int64_t n_choices = router->counts().n_choices;
      std::vector<int32_t> guess(kUsed);
      router->Guess(layer, logits, guess);
      EXPECT_EQ(router->counts().n_choices, n_choices);
      EXPECT_EQ(guess, Choose(*router, layer, logits)) << policy;
    }
  }
}

TEST(CacheAwareRouter, CountsAgreementGateMassAndDivergenceAsASlowCountDoes) {
  Rng rng(5);
  ScriptedNear near(kFirst + kLayers, kExperts);
  for (const std::string policy : {"cache-prior:0.4", "drop:0.4", "exact", "factor:4", "margin:0.4"}) {
    const auto router = CacheAwareRouter::Create(Options(policy), near).value();
    int64_t n_agreed = 0;
    double mass = 0, divergence = 0, divergence_of_exact = 0;
    for (int round = 0; round < 200; ++round) {
      near.Draw(rng, 0.4);
      const auto logits = RandomLogits(rng, 1);
      const auto chosen = Choose(*router, kFirst + round % kLayers, logits);
      const auto exact = ByPolicy("exact", logits, near.of(kFirst), 0);
      const auto share = [&](const std::vector<int32_t>& experts) {
        double sum = 0;
        for (const int32_t expert : experts) {
          if (expert >= 0) sum += std::exp(static_cast<double>(logits[static_cast<size_t>(expert)]));
        }
        return sum;
      };
      n_agreed += std::ranges::count_if(chosen, [&](int32_t e) { return std::ranges::count(exact, e) > 0; });
      mass += share(chosen) / share(exact);
      double all = 0;
      for (const float logit : logits) all += std::exp(static_cast<double>(logit));
      const auto kl = [&](const std::vector<int32_t>& experts) {  // of their gates from the softmax over all
        double sum = 0;
        for (const int32_t expert : experts) {
          const double p = expert < 0 ? 0 : std::exp(static_cast<double>(logits[static_cast<size_t>(expert)])) / all;
          const double gate = p * all / share(experts);
          if (gate > 0) sum += gate * std::log(gate / p);
        }
        return sum;
      };
      divergence += kl(chosen);
      divergence_of_exact += kl(exact);
    }
    const RoutingCounts& counts = router->counts();
    EXPECT_EQ(counts.n_choices, 200);
    EXPECT_EQ(counts.n_picks, 200 * kUsed);
    EXPECT_EQ(counts.n_agreed, n_agreed) << policy;
    EXPECT_NEAR(counts.gate_mass(), mass / 200, 1e-9) << policy;
    EXPECT_NEAR(counts.mean_excess_kl(), (divergence - divergence_of_exact) / 200, 1e-9) << policy;
    EXPECT_GE(counts.mean_excess_kl(), -std::log(counts.gate_mass())) << policy;
    EXPECT_EQ(counts.agreement() < 1, policy != "exact");
  }
}

TEST(CacheAwareRouter, StrengthCanBeSetWhereThereIsOne) {
  Rng rng(6);
  ScriptedNear near(kFirst + kLayers, kExperts);
  near.Draw(rng, 0.5);
  const auto logits = RandomLogits(rng, 1);
  const auto by_auto = CacheAwareRouter::Create(Options("auto:1%"), near).value();
  EXPECT_EQ(Choose(*by_auto, kFirst, logits), ByPolicy("exact", logits, near.of(kFirst), 0));
  for (const double strength : {0.3, 1.0, 0.0}) {
    by_auto->SetStrength(strength);
    EXPECT_EQ(by_auto->strength(), strength);
    EXPECT_EQ(Choose(*by_auto, kFirst, logits), ByPolicy(fmt::format("cache-prior:{}", strength), logits,
                                                         near.of(kFirst), static_cast<float>(RangeOf(logits))));
  }
  by_auto->SetStrength(7);
  EXPECT_EQ(by_auto->strength(), 1);
  by_auto->SetStrength(std::nan(""));
  EXPECT_EQ(by_auto->strength(), 0);
  const auto max_rank = CacheAwareRouter::Create(Options("max-rank:8"), near).value();
  max_rank->SetStrength(0.5);
  EXPECT_EQ(max_rank->strength(), 0);
  EXPECT_EQ(CacheAwareRouter::Create(Options("cache-prior:0.3"), near).value()->strength(), 0.3);
}

TEST(CacheAwareRouter, AllocatesNothingAfterItIsMade) {
  Rng rng(7);
  ScriptedNear near(kFirst + kLayers, kExperts);
  near.Draw(rng, 0.5);
  for (const std::string policy :
       {"exact", "max-rank:9", "cumulative:0.8", "margin:0.2", "cache-prior:0.3", "factor:2", "drop:0.2"}) {
    const auto router = CacheAwareRouter::Create(Options(policy), near).value();
    const auto logits = RandomLogits(rng, 8);
    std::vector<int32_t> chosen(8 * kUsed);
    const int64_t before = testing::n_allocations;
    for (int32_t layer = kFirst; layer < kFirst + kLayers; ++layer) {
      router->Choose(layer, 8, logits, chosen);
      router->Choose(layer, 1, std::span(logits).first(kExperts), std::span(chosen).first(kUsed));
      router->Guess(layer, std::span(logits).first(kExperts), std::span(chosen).first(kUsed));
    }
    EXPECT_EQ(testing::n_allocations - before, 0) << policy;
  }
}

TEST(CacheAwareRouter, RefusesWhatDoesNotSuitTheModel) {
  const ScriptedNear near(kFirst + kLayers, kExperts);
  EXPECT_FALSE(CacheAwareRouter::Create(Options("max-rank:17"), near).ok());
  auto options = Options("exact");
  options.n_layers = 0;
  EXPECT_EQ(CacheAwareRouter::Create(options, near).status().code(), StatusCode::kInvalidArgument);
}

// Only runs of a single token say how long an answer waits.
TEST(CacheAwareRouter, AutoIsSteeredByWhatTokensWaited) {
  Rng rng(9);
  ScriptedNear near(kFirst + kLayers, kExperts);
  const auto router = CacheAwareRouter::Create(Options("auto:20%"), near).value();
  const auto run = [&](int64_t n_tokens, double wait_share) {
    near.Draw(rng, 0.5);
    for (int32_t layer = kFirst; layer < kFirst + kLayers; ++layer) {
      Choose(*router, layer, RandomLogits(rng, static_cast<size_t>(n_tokens)));
    }
    router->EndRun(n_tokens, wait_share);
  };
  for (int i = 0; i < 20; ++i) run(8, 0.9);
  EXPECT_EQ(router->strength(), 0);
  for (int i = 0; i < 60; ++i) run(1, 0.5);
  EXPECT_GT(router->strength(), 0);
  EXPECT_LT(router->counts().n_agreed, router->counts().n_picks);
  for (int i = 0; i < 200; ++i) run(1, 0);
  EXPECT_EQ(router->strength(), 0);

  // Where a policy chooses in prompts, too, the controller is told of these what they lost.
  auto options = Options("auto:20%");
  options.in_prompts = true;
  const auto in_prompts = CacheAwareRouter::Create(options, near).value();
  PriorController controller({.max_cost = 0.2});
  double strength = 0;
  for (int i = 0; i < 60; ++i) {
    const int64_t n_tokens = i % 5 == 4 ? 8 : 1;
    near.Draw(rng, 0.5);
    for (int32_t layer = kFirst; layer < kFirst + kLayers; ++layer) {
      Choose(*in_prompts, layer, RandomLogits(rng, static_cast<size_t>(n_tokens)));
    }
    in_prompts->EndRun(n_tokens, 0.5);
    if (n_tokens == 1) strength = controller.Next(0.5, in_prompts->counts());
    else controller.Note(in_prompts->counts());
    EXPECT_EQ(in_prompts->strength(), strength) << i;
  }
  EXPECT_GT(strength, 0);

  const auto fixed = CacheAwareRouter::Create(Options("cache-prior:0.3"), near).value();
  for (int i = 0; i < 20; ++i) fixed->EndRun(1, 0.9);
  EXPECT_EQ(fixed->strength(), 0.3);
}

}  // namespace
}  // namespace pantry
