// SPDX-License-Identifier: Apache-2.0
#include "text/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "text/sampler_math.h"

namespace pantry {
namespace {

using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Everything off: the plain distribution.
SamplingOptions Plain() {
  SamplingOptions options;
  options.temperature = 1;
  options.top_k = 0;
  options.top_p = 1;
  options.min_p = 0;
  options.seed = 42;
  return options;
}

std::vector<float> RandomLogits(size_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = static_cast<float>(8 * rng.NextDouble() - 4);
  return logits;
}

std::vector<double> Softmax(const std::vector<float>& logits, double temperature = 1) {
  std::vector<double> out(logits.size());
  double total = 0;
  const float best = *std::max_element(logits.begin(), logits.end());
  for (size_t i = 0; i < logits.size(); ++i)
    total += out[i] = std::exp((static_cast<double>(logits[i]) - best) / temperature);
  for (double& p : out) p /= total;
  return out;
}

std::vector<size_t> ByProbability(const std::vector<double>& p) {
  std::vector<size_t> order(p.size());
  for (size_t i = 0; i < p.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b] || (p[a] == p[b] && a < b); });
  return order;
}

// The tokens that come up in many draws.
std::set<TokenId> Support(const SamplingOptions& options, const std::vector<float>& logits, int n_draws = 4000) {
  Sampler sampler(options, static_cast<int32_t>(logits.size()));
  std::set<TokenId> seen;
  for (int i = 0; i < n_draws; ++i) seen.insert(sampler.Sample(logits));
  return seen;
}

TEST(SamplerMath, ExpAndLogAgreeWithTheLibrary) {
  for (double x = -700; x <= 0; x += 0.37) EXPECT_NEAR(PortableExp(x) / std::exp(x), 1, 1e-15) << x;
  EXPECT_EQ(PortableExp(0), 1);
  EXPECT_EQ(PortableExp(-std::numeric_limits<double>::infinity()), 0);
  EXPECT_EQ(PortableExp(std::nan("")), 0);
  for (double x = 1e-3; x < 1e9; x *= 1.37)
    EXPECT_NEAR(PortableLog(x), std::log(x), 1e-15 * std::max(1.0, std::fabs(std::log(x)))) << x;
}

TEST(Sampler, DrawsFollowTheSoftmax) {
  for (const float temperature : {0.7f, 1.0f, 2.0f}) {
    SamplingOptions options = Plain();
    options.temperature = temperature;
    const std::vector<float> logits = RandomLogits(20, 1);
    const std::vector<double> p = Softmax(logits, temperature);
    Sampler sampler(options, 20);
    constexpr int kDraws = 100000;
    std::vector<int> counts(20);
    for (int i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(sampler.Sample(logits))];
    double chi_square = 0;
    for (size_t i = 0; i < 20; ++i) chi_square += std::pow(counts[i] - kDraws * p[i], 2) / (kDraws * p[i]);
    EXPECT_LT(chi_square, 43.8);  // 19 degrees of freedom, p = 0.001; the seed is fixed
  }
}

TEST(Sampler, TemperatureZeroTakesTheLowestOfTheBest) {
  SamplingOptions options = Plain();
  options.temperature = 0;
  Sampler sampler(options, 5);
  EXPECT_EQ(sampler.Sample(std::vector<float>{1, 3, 2, 3, 3}), 1);
  EXPECT_EQ(sampler.Sample(std::vector<float>{kNan, -kInfinity, -5, kNan, -6}), 2);
  EXPECT_EQ(sampler.Sample(std::vector<float>{kNan, kInfinity, 2, kInfinity, 1}), 1);
}

TEST(Sampler, TopKKeepsTheBestK) {
  const std::vector<float> logits = RandomLogits(50, 2);
  const std::vector<size_t> order = ByProbability(Softmax(logits));
  SamplingOptions options = Plain();
  options.temperature = 5;  // so that all come up
  for (const int32_t k : {1, 2, 7, 50, 100}) {
    options.top_k = k;
    const size_t n = std::min<size_t>(50, static_cast<size_t>(k));
    EXPECT_EQ(Support(options, logits), std::set<TokenId>(order.begin(), order.begin() + static_cast<ptrdiff_t>(n)))
        << k;
  }
}

TEST(Sampler, TopKTiesGoToTheLowerId) {
  SamplingOptions options = Plain();
  options.top_k = 2;
  EXPECT_EQ(Support(options, {1, 1, 1, 1}), (std::set<TokenId>{0, 1}));
  EXPECT_EQ(Support(options, {0, 1, 1, 1, 2}), (std::set<TokenId>{1, 4}));
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesIt) {
  for (const size_t n_vocab : {30u, 2000u}) {
    const std::vector<float> logits = RandomLogits(n_vocab, 3);
    const std::vector<double> p = Softmax(logits);
    const std::vector<size_t> order = ByProbability(p);
    for (const float top_p : {0.0f, 0.05f, 0.1f}) {
      SamplingOptions options = Plain();
      options.top_p = top_p;
      options.temperature = 100;  // nearly even within the set, which the temperature does not change
      std::set<TokenId> expected;
      double sum = 0;
      for (const size_t token : order) {
        expected.insert(static_cast<TokenId>(token));
        sum += p[token];
        if (sum >= static_cast<double>(top_p)) break;
      }
      EXPECT_EQ(Support(options, logits), expected) << top_p << " of " << n_vocab;
    }
  }
}

TEST(Sampler, MinPDropsWhatIsMuchWorseThanTheBest) {
  const std::vector<float> logits = RandomLogits(40, 4);
  const std::vector<double> p = Softmax(logits);
  for (const float min_p : {0.01f, 0.2f, 1.0f}) {
    for (const int32_t top_k : {0, 25}) {
      SamplingOptions options = Plain();
      options.min_p = min_p;
      options.top_k = top_k;
      options.temperature = 100;
      const std::vector<size_t> order = ByProbability(p);
      std::set<TokenId> expected;
      for (size_t i = 0; i < (top_k ? 25u : 40u); ++i) {
        if (p[order[i]] >= static_cast<double>(min_p) * p[order[0]]) expected.insert(static_cast<TokenId>(order[i]));
      }
      EXPECT_EQ(Support(options, logits), expected) << min_p;
    }
  }
}

TEST(Sampler, TypicalKeepsWhatIsAsSurprisingAsExpected) {
  const std::vector<float> logits = RandomLogits(30, 5);
  const std::vector<double> p = Softmax(logits);
  double entropy = 0;
  for (const double q : p) entropy -= q * std::log(q);
  std::vector<size_t> order(p.size());
  for (size_t i = 0; i < p.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::fabs(-std::log(p[a]) - entropy) < std::fabs(-std::log(p[b]) - entropy);
  });
  for (const float typical_p : {0.2f, 0.6f}) {
    std::set<TokenId> expected;
    double sum = 0;
    for (const size_t token : order) {
      expected.insert(static_cast<TokenId>(token));
      sum += p[token];
      if (sum > static_cast<double>(typical_p)) break;
    }
    SamplingOptions options = Plain();
    options.typical_p = typical_p;
    options.temperature = 100;
    EXPECT_EQ(Support(options, logits), expected) << typical_p;
  }
}

TEST(Sampler, PenaltiesCountTheWindowOnly) {
  SamplingOptions options = Plain();
  options.temperature = 0;
  options.repeat_last_n = 2;
  options.presence_penalty = 10;
  Sampler sampler(options, 3);
  const std::vector<float> logits{3, 2, 1};
  sampler.Accept(0);
  EXPECT_EQ(sampler.Sample(logits), 1);
  sampler.Accept(1);
  EXPECT_EQ(sampler.Sample(logits), 2);
  sampler.Accept(2);  // 0 leaves the window
  EXPECT_EQ(sampler.Sample(logits), 0);
  sampler.Accept(2);  // 1 leaves it, 2 stays twice
  sampler.Accept(0);
  EXPECT_EQ(sampler.Sample(logits), 1);
}

TEST(Sampler, PenaltiesLookBackForeverWhenAsked) {
  SamplingOptions options = Plain();
  options.temperature = 0;
  options.repeat_last_n = -1;
  options.frequency_penalty = 0.5f;
  Sampler sampler(options, 2);
  const std::vector<float> logits{10, 0};
  for (int i = 0; i < 19; ++i) sampler.Accept(0);
  EXPECT_EQ(sampler.Sample(logits), 0);  // 10 - 9.5
  for (int i = 0; i < 2; ++i) sampler.Accept(0);
  EXPECT_EQ(sampler.Sample(logits), 1);  // 10 - 10.5
}

TEST(Sampler, RepeatPenaltyMakesBothSignsLessLikely) {
  SamplingOptions options = Plain();
  options.temperature = 0;
  options.repeat_penalty = 2;
  Sampler sampler(options, 2);
  sampler.Accept(0);
  EXPECT_EQ(sampler.Sample(std::vector<float>{3, 2}), 1);    // 1.5 < 2
  EXPECT_EQ(sampler.Sample(std::vector<float>{-2, -3}), 1);  // -4 < -3
  EXPECT_EQ(sampler.Sample(std::vector<float>{5, 2}), 0);    // 2.5 > 2
}

TEST(Sampler, BiasAddsAndBans) {
  SamplingOptions options = Plain();
  options.temperature = 0;
  options.logit_bias = {{0, -kInfinity}, {2, 5}, {1000, 1}};
  Sampler sampler(options, 3);
  EXPECT_EQ(sampler.Sample(std::vector<float>{9, 1, 0}), 2);
  options.logit_bias = {{0, -kInfinity}};
  options.temperature = 1;
  EXPECT_EQ(Support(options, {9, 1, 0}).count(0), 0u);
}

TEST(Sampler, SameSeedSameTokens) {
  SamplingOptions options;
  options.seed = 7;
  Sampler first(options, 1000);
  Sampler second(options, 1000);
  options.seed = 8;
  Sampler other(options, 1000);
  int n_different = 0;
  for (uint64_t i = 0; i < 200; ++i) {
    const std::vector<float> logits = RandomLogits(1000, i);
    const TokenId token = first.Sample(logits);
    EXPECT_EQ(token, second.Sample(logits));
    n_different += token != other.Sample(logits);
    first.Accept(token);
    second.Accept(token);
    other.Accept(token);
  }
  EXPECT_GT(n_different, 50);
}

// Numbers of our own: a change of them breaks "same seed, same text" for every user.
TEST(Sampler, TokensOfAFixedSeedStayTheSame) {
  SamplingOptions options;
  options.seed = 1234;
  Sampler sampler(options, 500);
  std::vector<TokenId> tokens;
  for (uint64_t i = 0; i < 8; ++i) tokens.push_back(sampler.Sample(RandomLogits(500, i)));
  EXPECT_THAT(tokens, ::testing::ElementsAre(462, 327, 195, 478, 357, 15, 60, 375));
}

TEST(Sampler, BadLogitsNeverWin) {
  for (SamplingOptions options : {Plain(), SamplingOptions()}) {
    Sampler sampler(options, 4);
    EXPECT_EQ(sampler.Sample(std::vector<float>{kNan, 1, -kInfinity, kNan}), 1);
    EXPECT_EQ(sampler.Sample(std::vector<float>{kNan, kNan, kNan, kNan}), 0);
    EXPECT_EQ(sampler.Sample(std::vector<float>{1, 2, kInfinity, kNan}), 2);
    options.typical_p = 0.5f;
    Sampler typical(options, 4);
    EXPECT_EQ(typical.Sample(std::vector<float>{1, 2, kInfinity, kNan}), 2);
    EXPECT_EQ(typical.Sample(std::vector<float>{kNan, 1, -kInfinity, kNan}), 1);
  }
}

TEST(Sampler, AcceptIgnoresTokensOutsideTheVocabulary) {
  SamplingOptions options;
  options.presence_penalty = 1;
  Sampler sampler(options, 2);
  sampler.Accept(-1);
  sampler.Accept(2);
  EXPECT_EQ(sampler.Sample(std::vector<float>{50, 0}), 0);
}

TEST(SamplingOptions, ValidateNamesOptionValueAndRange) {
  EXPECT_TRUE(SamplingOptions().Validate().ok());
  const auto message = [](void (*spoil)(SamplingOptions&)) {
    SamplingOptions options;
    spoil(options);
    return options.Validate().ToString();
  };
  EXPECT_THAT(message([](SamplingOptions& o) { o.temperature = -1; }),
              HasSubstr("temperature: -1 is out of range; expected 0"));
  EXPECT_THAT(message([](SamplingOptions& o) { o.temperature = kNan; }), HasSubstr("temperature: nan"));
  EXPECT_THAT(message([](SamplingOptions& o) { o.top_k = -1; }), HasSubstr("top_k: -1"));
  EXPECT_THAT(message([](SamplingOptions& o) { o.top_p = 1.5f; }), HasSubstr("top_p: 1.5"));
  EXPECT_THAT(message([](SamplingOptions& o) { o.min_p = -0.5f; }), HasSubstr("min_p: -0.5"));
  EXPECT_THAT(message([](SamplingOptions& o) { o.typical_p = 2; }), HasSubstr("typical_p: 2"));
  EXPECT_THAT(message([](SamplingOptions& o) { o.repeat_penalty = 0; }), HasSubstr("repeat_penalty: 0"));
  EXPECT_THAT(message([](SamplingOptions& o) { o.repeat_last_n = -2; }), HasSubstr("repeat_last_n: -2"));
  EXPECT_THAT(message([](SamplingOptions& o) { o.presence_penalty = kInfinity; }), HasSubstr("presence_penalty: inf"));
  EXPECT_THAT(message([](SamplingOptions& o) { o.frequency_penalty = kNan; }), HasSubstr("frequency_penalty: nan"));
  EXPECT_THAT(message([](SamplingOptions& o) { o.logit_bias = {{-3, 0.0f}}; }), HasSubstr("logit_bias: -3"));
  EXPECT_THAT(message([](SamplingOptions& o) { o.logit_bias = {{3, kInfinity}}; }),
              HasSubstr("bias of token 3 is inf"));
}

TEST(TopLogprobs, AreTheLogSoftmaxBestFirst) {
  const std::vector<float> logits = RandomLogits(100, 9);
  const std::vector<double> p = Softmax(logits);
  const std::vector<size_t> order = ByProbability(p);
  const TokenId chosen = static_cast<TokenId>(order[50]);
  const std::vector<TokenLogprob> top = TopLogprobs(logits, 5, chosen);
  ASSERT_EQ(top.size(), 6u);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(top[i].token, static_cast<TokenId>(order[i]));
    EXPECT_NEAR(top[i].logprob, std::log(p[order[i]]), 1e-6);
  }
  EXPECT_EQ(top[5].token, chosen);
  EXPECT_NEAR(top[5].logprob, std::log(p[order[50]]), 1e-6);
  EXPECT_EQ(TopLogprobs(logits, 5, static_cast<TokenId>(order[2])).size(), 5u);
  EXPECT_EQ(TopLogprobs(logits, 0, chosen).size(), 1u);
  EXPECT_EQ(TopLogprobs(logits, 1000, kNoToken).size(), 100u);
}

TEST(TopLogprobs, BadLogitsAreImpossible) {
  const std::vector<TokenLogprob> top = TopLogprobs(std::vector<float>{kNan, 0, -kInfinity}, 3, 1);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].token, 1);
  EXPECT_EQ(top[0].logprob, 0);
  EXPECT_EQ(top[1].logprob, -kInfinity);
}

}  // namespace
}  // namespace pantry
