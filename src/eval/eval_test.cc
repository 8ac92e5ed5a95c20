// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "engine/scripted_engine.h"
#include "eval/agreement.h"
#include "eval/log_softmax.h"
#include "eval/perplexity.h"

namespace pantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(LogProbability, IsTheLogarithmOfSoftmax) {
  ThreadPool pool(2);
  const std::vector<float> logits = {1, 2, 3, -4, 0.5f};
  double sum = 0;
  for (const float x : logits) sum += std::exp(double{x});
  double total = 0;
  for (TokenId token = 0; token < 5; ++token) {
    const double p = LogProbability(pool, logits, token);
    EXPECT_NEAR(p, logits[static_cast<size_t>(token)] - std::log(sum), 1e-12);
    total += std::exp(p);
  }
  EXPECT_NEAR(total, 1.0, 1e-12);
}

TEST(LogProbability, SurvivesHugeLogitsAndIsTheSameForAnyThreads) {
  std::vector<float> logits(1003);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = 3e4f + std::sin(static_cast<float>(i));
  ThreadPool one(1);
  const double expected = LogProbability(one, logits, 77);
  EXPECT_TRUE(std::isfinite(expected));
  for (int n_threads = 2; n_threads <= 4; ++n_threads) {
    ThreadPool pool(n_threads);
    EXPECT_EQ(LogProbability(pool, logits, 77), expected);
  }
}

TEST(BestToken, IsTheLowestOfEquals) { EXPECT_EQ(BestToken(std::vector<float>{1, 5, 5, 2}), 1); }

// After every position the script model gives its choice a logit of 10 and token v otherwise 0.01 v.
double LossOf(TokenId token, TokenId choice, int32_t n_vocab) {
  double sum = std::exp(10.0);
  for (TokenId v = 0; v < n_vocab; ++v) {
    if (v != choice) sum += std::exp(double{0.01f * static_cast<float>(v)});
  }
  return std::log(sum) - (token == choice ? 10.0 : double{0.01f * static_cast<float>(token)});
}

TEST(Perplexity, ScoresTheSecondHalfOfEachWindow) {
  NullLogger log;
  // Always "b" (token 1). Windows of 8: scored are tokens 5, 6, 7 of each.
  std::map<int64_t, TokenId> script;
  for (int64_t position = 0; position < 8; ++position) script[position] = 1;
  auto scripted = testing::MakeScriptedEngine({"a", "b", "c"}, script, log);
  PerplexityOptions options;
  options.n_ctx = 8;
  std::vector<double> seen;
  const auto result =
      MeasurePerplexity(*scripted.engine, "aaaaabcabbbbbbbbaaa", options, [&](int64_t done, int64_t total, double ppl) {
        EXPECT_EQ(total, 2);
        EXPECT_EQ(done, static_cast<int64_t>(seen.size()) + 1);
        seen.push_back(ppl);
        return true;
      });
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  const std::vector<double> losses = {LossOf(1, 1, 3), LossOf(2, 1, 3), LossOf(0, 1, 3),
                                      LossOf(1, 1, 3), LossOf(1, 1, 3), LossOf(1, 1, 3)};
  double mean = 0;
  double mean_square = 0;
  for (const double loss : losses) mean += loss / 6;
  for (const double loss : losses) mean_square += loss * loss / 6;
  EXPECT_NEAR(result->ppl, std::exp(mean), 1e-9 * result->ppl);
  EXPECT_NEAR(result->ppl_stderr, std::sqrt((mean_square - mean * mean) / 5) * std::exp(mean),
              1e-6 * result->ppl_stderr);
  EXPECT_EQ(result->n_tokens, 6);
  EXPECT_EQ(result->n_chunks, 2);
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_NEAR(seen[0], std::exp((losses[0] + losses[1] + losses[2]) / 3), 1e-9 * seen[0]);
}

TEST(Perplexity, DoesNotDependOnTheBatch) {
  NullLogger log;
  auto scripted = testing::MakeScriptedEngine({"a", "b", "c"}, {}, log);
  PerplexityOptions options;
  options.n_ctx = 16;
  const std::string text = "abcabbacbacbabcabcbabcbabcbabcabcbbcbabcbacb";
  const auto whole = MeasurePerplexity(*scripted.engine, text, options);
  options.n_batch = 3;
  const auto cut = MeasurePerplexity(*scripted.engine, text, options);
  ASSERT_TRUE(whole.ok() && cut.ok());
  EXPECT_EQ(whole->ppl, cut->ppl);
  options.max_chunks = 1;
  const auto one = MeasurePerplexity(*scripted.engine, text, options);
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(one->n_tokens, 7);
}

TEST(Perplexity, FirstTokenOfEachWindowBecomesBos) {
  NullLogger log;
  auto scripted = testing::MakeScriptedEngine({"a", "b", "c", "<bos>"}, {}, log);
  PerplexityOptions options;
  options.n_ctx = 8;
  // With BOS in front, the 8th letter is the first token of the second window.
  const auto with_a = MeasurePerplexity(*scripted.engine, "abcabcaacbabcbab", options);
  const auto with_b = MeasurePerplexity(*scripted.engine, "abcabcabcbabcbab", options);
  const auto other = MeasurePerplexity(*scripted.engine, "abcabcabbbabcbab", options);
  ASSERT_TRUE(with_a.ok() && with_b.ok() && other.ok());
  EXPECT_EQ(with_a->ppl, with_b->ppl);
  EXPECT_NE(with_b->ppl, other->ppl);
}

TEST(Perplexity, RefusesTokensThatTheModelDoesNotHave) {
  NullLogger log;
  auto scripted = testing::MakeScriptedEngine({"a", "b", "c"}, {}, log, 256, nullptr, /*n_model_vocab=*/2);
  PerplexityOptions options;
  options.n_ctx = 4;
  const auto result = MeasurePerplexity(*scripted.engine, "ababababababac", options);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("token 2"));
}

TEST(Perplexity, RefusesShortTextsAndBadOptionsAndCanBeCancelled) {
  NullLogger log;
  auto scripted = testing::MakeScriptedEngine({"a", "b", "c"}, {}, log);
  PerplexityOptions options;
  options.n_ctx = 8;
  const Status too_short = MeasurePerplexity(*scripted.engine, "abcabcabcabcabc", options).status();
  EXPECT_EQ(too_short.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(too_short.message()), HasSubstr("the text has 15 tokens, two windows of 8 need 16"));
  const auto stop = [](int64_t, int64_t, double) { return false; };
  EXPECT_EQ(MeasurePerplexity(*scripted.engine, "abcabcabcabcabcabc", options, stop).status().code(),
            StatusCode::kCancelled);
  const auto stop_in_a_window = [](int64_t n_done, int64_t) { return n_done == 0; };
  EXPECT_EQ(MeasurePerplexity(*scripted.engine, "abcabcabcabcabcabc", options, {}, stop_in_a_window).status().code(),
            StatusCode::kCancelled);
  options.n_ctx = 3;
  EXPECT_EQ(MeasurePerplexity(*scripted.engine, "abc", options).status().code(), StatusCode::kInvalidArgument);
  options = {};
  options.max_chunks = 0;
  EXPECT_EQ(options.Validate().code(), StatusCode::kInvalidArgument);
}

TEST(TopTokens, AreTheChoicesOfTheModelWindowByWindow) {
  NullLogger log;
  auto scripted = testing::MakeScriptedEngine({"a", "b", "c"}, {{0, 2}, {1, 0}, {2, 1}}, log);
  const std::vector<TokenId> tokens = {0, 1, 2, 2, 1, 0, 0};
  const auto top = TopTokens(*scripted.engine, tokens, 3);
  ASSERT_TRUE(top.ok()) << top.status().ToString();
  EXPECT_THAT(*top, ElementsAre(2, 0, 1, 2, 0, 1));
  EXPECT_EQ(AgreementShare(*top, std::vector<TokenId>{2, 0, 1, 0, 0, 0}), 4.0 / 6);
  EXPECT_EQ(TopTokens(*scripted.engine, tokens, 0).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace pantry
