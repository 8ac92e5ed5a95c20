// SPDX-License-Identifier: Apache-2.0
// Whole models whose experts may depend on what is in memory: a policy without strength changes no bit, one with strength reads less, and
// what is counted adds up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "support/tiny_engine.h"

namespace pantry {
namespace {

using testing::RandomTokens;
using testing::StreamSetup;

constexpr int64_t kContext = 160;
constexpr size_t kTokens = 128;

ExpertPolicyOptions Policy(const std::string& text) {
  ExpertPolicyOptions options;
  options.policy = ParseExpertPolicy(text).value();
  return options;
}

struct Outcome {
  std::vector<float> logits;
  WeightStreamStats stats;
  RoutingCounts counts;
};

Outcome RunModel(const std::string& model, StreamSetup setup, int32_t n_batch) {
  NullLogger log;
  const auto engine = testing::OpenTinyEngine(testing::TinyModel(model), &setup, log);
  PANTRY_CHECK(engine != nullptr);
  SessionOptions options;
  options.n_ctx = kContext;
  options.n_batch = n_batch;
  const auto session = engine->NewSession(options);
  PANTRY_CHECK(session.ok());
  Outcome outcome;
  const Status status =
      (*session)->FeedAll(RandomTokens(*engine, kTokens), [&](int64_t, std::span<const float> logits) {
        outcome.logits.insert(outcome.logits.end(), logits.begin(), logits.end());
      });
  EXPECT_TRUE(status.ok()) << status.ToString();
  outcome.stats = engine->stream()->stats();
  if (engine->router() != nullptr) outcome.counts = engine->router()->chooser().counts();
  return outcome;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class ExpertPolicyInModel : public ::testing::TestWithParam<std::string> {
 protected:
  int32_t n_used() const {
    NullLogger log;
    return testing::OpenTinyEngine(testing::TinyModel(GetParam()), nullptr, log)->shape().n_experts_used;
  }
};

TEST_P(ExpertPolicyInModel, WithoutStrengthChangesNoBit) {
  const Outcome exact = RunModel(GetParam(), {.cache_share = 0.3}, 1);
  for (const std::string& policy :
       {std::string("cache-prior:0"), fmt::format("max-rank:{}", n_used()), std::string("cumulative:0"),
        std::string("margin:0"), std::string("factor:1"), std::string("drop:0")}) {
    const Outcome with = RunModel(GetParam(), {.cache_share = 0.3, .expert_policy = Policy(policy)}, 1);
    EXPECT_TRUE(SameBits(with.logits, exact.logits)) << policy;
    EXPECT_EQ(with.counts.agreement(), 1) << policy;
    EXPECT_DOUBLE_EQ(with.counts.gate_mass(), 1) << policy;
    EXPECT_EQ(with.counts.mean_excess_kl(), 0) << policy;
    EXPECT_GT(with.counts.n_choices, 0) << policy;
  }
}

TEST_P(ExpertPolicyInModel, LayersThatAreSparedKeepTheirBits) {
  const Outcome exact = RunModel(GetParam(), {.cache_share = 0.3}, 1);
  StreamSetup setup = {.cache_share = 0.3, .expert_policy = Policy("cache-prior:1")};
  setup.expert_policy.n_spared_layers = 1000;  // all of them
  EXPECT_TRUE(SameBits(RunModel(GetParam(), std::move(setup), 1).logits, exact.logits));
}

TEST_P(ExpertPolicyInModel, PromptsAreLeftAloneUnlessAsked) {
  const Outcome exact = RunModel(GetParam(), {.cache_share = 0.3}, 16);
  StreamSetup spared = {.cache_share = 0.3, .expert_policy = Policy("cache-prior:1")};
  const Outcome left_alone = RunModel(GetParam(), std::move(spared), 16);
  EXPECT_TRUE(SameBits(left_alone.logits, exact.logits));
  EXPECT_EQ(left_alone.counts.n_choices, 0);
  StreamSetup asked = {.cache_share = 0.5, .policy = PolicyKind::kCycle, .expert_policy = Policy("cache-prior:1")};
  asked.expert_policy.in_prompts = true;
  const Outcome changed = RunModel(GetParam(), std::move(asked), 16);
  EXPECT_EQ(changed.counts.n_picks, changed.counts.n_choices * n_used());
  EXPECT_GT(changed.counts.n_choices, 0);
}

TEST_P(ExpertPolicyInModel, StrengthReadsLess) {
  const Outcome exact = RunModel(GetParam(), {.cache_share = 0.5, .policy = PolicyKind::kLru}, 1);
  const Outcome prior = RunModel(
      GetParam(), {.cache_share = 0.5, .policy = PolicyKind::kLru, .expert_policy = Policy("cache-prior:1")}, 1);
  EXPECT_LT(prior.stats.cache.missed_bytes + prior.stats.cache.late_bytes,
            exact.stats.cache.missed_bytes + exact.stats.cache.late_bytes);
  EXPECT_LT(prior.counts.agreement(), 1);
  EXPECT_GT(prior.counts.agreement(), 0);
  EXPECT_LE(prior.counts.gate_mass(), 1);
  EXPECT_EQ(prior.counts.n_picks, prior.counts.n_choices * n_used());
  for (const float logit : prior.logits) ASSERT_TRUE(std::isfinite(logit));
}

TEST_P(ExpertPolicyInModel, DropRunsFewerExpertsAndKeepsItsPromise) {
  const Outcome drop = RunModel(GetParam(), {.cache_share = 0.3, .expert_policy = Policy("drop:0.9")}, 1);
  const Outcome exact = RunModel(GetParam(), {.cache_share = 0.3}, 1);
  if (n_used() > DefaultTopJ(n_used())) {
    EXPECT_LT(drop.stats.cache.n_demanded, exact.stats.cache.n_demanded);
    EXPECT_LT(drop.counts.agreement(), 1);
  }
  EXPECT_GE(drop.counts.gate_mass(), 0.1);
  EXPECT_LE(drop.counts.mean_excess_kl(), -std::log(0.1) + 1e-9);
  for (const float logit : drop.logits) ASSERT_TRUE(std::isfinite(logit));
}

// Wherever blocks come from, reading them takes longer than computing such a small model, and once all are there nothing is waited for.
TEST_P(ExpertPolicyInModel, AutoActsWhileTheDiskIsWaitedForAndRestsWhenItIsNot) {
  const auto strength_after = [&](double share, size_t n_rounds) {
    NullLogger log;
    StreamSetup setup = {.cache_share = share, .access = DiskAccess::kPread, .expert_policy = Policy("auto:20%")};
    const auto engine = testing::OpenTinyEngine(testing::TinyModel(GetParam()), &setup, log);
    SessionOptions options;
    options.n_ctx = kContext;
    options.n_batch = 1;
    const auto session = engine->NewSession(options);
    PANTRY_CHECK(session.ok());
    double strongest = 0;
    const auto watch = [&](int64_t, std::span<const float>) {
      strongest = std::max(strongest, engine->router()->chooser().strength());
    };
    for (size_t i = 0; i < n_rounds; ++i) {
      (*session)->Truncate(0);
      EXPECT_TRUE((*session)->FeedAll(RandomTokens(*engine, kTokens), watch).ok());
    }
    return std::pair(strongest, engine->router()->chooser().strength());
  };
  EXPECT_GT(strength_after(0, 1).first, 0);
  EXPECT_EQ(strength_after(1, 3).second, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, ExpertPolicyInModel,
                         ::testing::Values("tiny-qwen3moe", "tiny-olmoe", "tiny-mixtral", "tiny-qwen2moe",
                                           "tiny-smallthinker", "tiny-phimoe", "tiny-gpt-oss", "tiny-deepseek2"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace pantry
