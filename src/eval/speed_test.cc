// SPDX-License-Identifier: Apache-2.0
#include "eval/speed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/scripted_engine.h"
#include "eval/speed_text.h"

namespace pantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Stage = SpeedProgress::Stage;

SpeedTest MakeTest(int64_t n_prompt, int64_t n_gen, int64_t n_depth = 0, int32_t n_threads = 1, int32_t n_batch = 512) {
  return {n_prompt, n_gen, n_depth, n_threads, n_batch};
}

std::string ErrorOf(const SpeedLists& lists) {
  const auto tests = CombineTests(lists);
  EXPECT_EQ(tests.status().code(), StatusCode::kInvalidArgument);
  return std::string(tests.status().message());
}

TEST(CombineTests, GivesEveryCombinationOnceSharingBatchAndDepth) {
  SpeedLists lists;
  lists.n_prompt = {16, 0, 16};
  lists.n_gen = {4};
  lists.prompt_then_gen = {{8, 2}};
  lists.n_depth = {32, 0};
  lists.n_threads = {2, 1};
  const auto tests = CombineTests(lists);
  ASSERT_TRUE(tests.ok()) << tests.status().ToString();
  EXPECT_THAT(*tests,
              ElementsAre(MakeTest(16, 0, 0, 2), MakeTest(0, 4, 0, 2), MakeTest(8, 2, 0, 2), MakeTest(16, 0, 0, 1),
                          MakeTest(0, 4, 0, 1), MakeTest(8, 2, 0, 1), MakeTest(16, 0, 32, 2), MakeTest(0, 4, 32, 2),
                          MakeTest(8, 2, 32, 2), MakeTest(16, 0, 32, 1), MakeTest(0, 4, 32, 1), MakeTest(8, 2, 32, 1)));
}

TEST(CombineTests, SequencesAreForGenerationOnly) {
  SpeedLists lists;
  lists.n_prompt = {16};
  lists.n_gen = {4};
  lists.n_sequences = {1, 3};
  lists.best_of = {2};
  const auto tests = CombineTests(lists);
  ASSERT_TRUE(tests.ok()) << tests.status().ToString();
  SpeedTest three = MakeTest(0, 4), best = MakeTest(0, 4);
  three.n_sequences = 3;
  best.n_sequences = 2;
  best.ends = true;
  EXPECT_THAT(*tests, ElementsAre(MakeTest(16, 0), MakeTest(0, 4), three, best));
  EXPECT_EQ(three.n_generated(), 12);
  EXPECT_EQ(best.n_generated(), 2 + 4);
}

TEST(CombineTests, MistakesNameTheFlagAndTheRange) {
  SpeedLists lists;
  lists.n_prompt = {0};
  EXPECT_THAT(ErrorOf(lists), HasSubstr("nothing to measure: --n-prompt and --n-gen are 0"));
  lists.n_prompt = {1};
  lists.n_threads = {1, 2000};
  EXPECT_THAT(ErrorOf(lists), HasSubstr("--threads 2000: expected 1 to 1024"));
  lists.n_threads = {1};
  lists.n_batch = {0};
  EXPECT_THAT(ErrorOf(lists), HasSubstr("--batch-size 0: expected 1 to"));
  lists.n_batch = {1};
  lists.n_sequences = {0};
  EXPECT_THAT(ErrorOf(lists), HasSubstr("--parallel 0: expected 1 to 1024"));
  lists.n_sequences = {1};
  lists.best_of = {1};
  EXPECT_THAT(ErrorOf(lists), HasSubstr("--best-of 1: expected 2 to 1024"));
  lists.best_of = {4};
  lists.n_gen = {8, 3};
  EXPECT_THAT(ErrorOf(lists), HasSubstr("--best-of 4: expected at most the 3 tokens that --n-gen or -pg generates"));
  lists.best_of = {};
  lists.n_gen = {};
  lists.n_depth = {-1};
  EXPECT_THAT(ErrorOf(lists), HasSubstr("--n-depth -1: expected 0 to"));
  lists.n_depth = {0};
  lists.prompt_then_gen = {{0, 5}};
  EXPECT_THAT(ErrorOf(lists), HasSubstr("-pg 0: expected 1 to"));
}

TEST(SpeedTestName, IsLlamaBenchs) {
  EXPECT_EQ(SpeedTestName(MakeTest(512, 0)), "pp512");
  EXPECT_EQ(SpeedTestName(MakeTest(0, 128, 8000)), "tg128 @ d8000");
  EXPECT_EQ(SpeedTestName(MakeTest(512, 128)), "pp512+tg128");
  EXPECT_EQ(SpeedTestName({.n_gen = 128, .n_depth = 10, .n_sequences = 4}), "tg128 x4 @ d10");
  EXPECT_EQ(SpeedTestName({.n_prompt = 64, .n_gen = 16, .n_sequences = 4, .ends = true}), "pp64+tg16 best of 4");
}

TEST(FiguresOf, AreMedianRangeAndSpreadOfTheSamples) {
  SpeedResult result;
  result.test = MakeTest(100, 0);
  result.sample_us = {1'000'000, 500'000, 250'000, 2'000'000};  // 100, 200, 400, 50 tok/s
  const SpeedFigures figures = FiguresOf(result);
  EXPECT_THAT(figures.samples, ElementsAre(100, 200, 400, 50));
  EXPECT_DOUBLE_EQ(figures.median, 150);
  EXPECT_DOUBLE_EQ(figures.min, 50);
  EXPECT_DOUBLE_EQ(figures.max, 400);
  EXPECT_DOUBLE_EQ(figures.mean, 187.5);
  EXPECT_NEAR(figures.stddev, 154.7848, 1e-3);
  EXPECT_DOUBLE_EQ(figures.median_seconds, 100.0 / 150);
  result.sample_us = {1'000'000};
  EXPECT_DOUBLE_EQ(FiguresOf(result).stddev, 0);
}

struct Toy {
  ModelShape shape;
  ModelCost cost;
};

Toy MakeToy() {
  Toy toy;
  toy.shape.n_layers = 2;
  toy.cost.layers = {1000, 1600, 0};
  toy.cost.output = {300, 0, 400};
  return toy;
}

TEST(TokenFiguresOf, AreNearestRanks) {
  SpeedResult result;
  result.tokens = {TokenSample{.us = 3000}};
  EXPECT_EQ(TokenFiguresOf(result).latency_ms.p99, 3);
  EXPECT_EQ(TokenFiguresOf(result).cache.hit_rate, -1);
  result.tokens = {{5000, {3, 1}, {0, 9}}, {1000, {0, 4}}, {2000, {4, 0}, {8, 1}}, {4000, {2, 2}}, {3000, {1, 0}}};
  const TokenFigures figures = TokenFiguresOf(result);
  EXPECT_EQ(figures.latency_ms.p50, 3);
  EXPECT_EQ(figures.latency_ms.p90, 5);
  EXPECT_EQ(figures.cache.misses.p50, 1);
  EXPECT_EQ(figures.cache.misses.p90, 4);
  EXPECT_NEAR(figures.cache.hit_rate, 10.0 / 17, 1e-12);
  EXPECT_NEAR(figures.cache.p50, 0.75, 1e-12);
  EXPECT_NEAR(figures.cache.p10, 0, 1e-12);
  EXPECT_NEAR(figures.neurons.hit_rate, 8.0 / 18, 1e-12);
  EXPECT_EQ(figures.neurons.misses.p99, 9);
  EXPECT_EQ(figures.neurons.p50, 1);  // most wanted none
}

TEST(WorkOf, GenerationReadsAllWeightsAndTheContextForEachToken) {
  const Toy toy = MakeToy();
  const SpeedWork work = WorkOf(MakeTest(0, 2, 10), toy.shape, toy.cost, 8.0);
  EXPECT_EQ(work.n_bytes, 2 * (1000 + 300) + 8 * (11 + 12));
  EXPECT_EQ(work.int8_ops, 2 * 2 * 1600);
  EXPECT_EQ(work.float_ops, 2 * 2 * 400);
}

TEST(WorkOf, SequencesShareTheWeightsButNotTheContext) {
  const Toy toy = MakeToy();
  const SpeedTest test = {.n_gen = 4, .n_depth = 10, .n_sequences = 2, .ends = true};
  const SpeedWork work = WorkOf(test, toy.shape, toy.cost, 8.0);
  EXPECT_EQ(work.n_bytes, 4 * (1000 + 300) + 8 * (2 * 11 + 2 * 12 + 13 + 14));
  EXPECT_EQ(work.int8_ops, 2 * 6 * 1600);
  EXPECT_EQ(work.float_ops, 2 * 6 * 400);
}

TEST(WorkOf, PromptReadsWeightsOncePerBatchAndTheOutputMatrixOnceAtItsEnd) {
  const Toy toy = MakeToy();
  const SpeedWork work = WorkOf(MakeTest(50, 0, 0, 1, 20), toy.shape, toy.cost, 8.0);
  EXPECT_EQ(work.n_bytes, 3 * 1000 + 300 + 8 * (20 + 40 + 50));
  EXPECT_EQ(work.int8_ops, 2 * 50 * 1600);
  EXPECT_EQ(work.float_ops, 2 * 400);
}

TEST(WorkOf, SlidingLayersReadTheirWindowOnly) {
  Toy toy = MakeToy();
  toy.shape.sliding_window = 4;
  toy.shape.layer_is_sliding = {true, false};
  const SpeedWork work = WorkOf(MakeTest(0, 1, 10), toy.shape, toy.cost, 8.0);
  EXPECT_EQ(work.n_bytes, 1300 + 4 * (4 + 11));
}

class MeasureSpeedTest : public ::testing::Test {
 protected:
  NullLogger log_;
  testing::TickingClock clock_;  // a millisecond each time it is asked
  testing::ScriptedEngine scripted_ =
      testing::MakeScriptedEngine({"a", "b", "c", "<eos>"}, {}, log_, /*n_ctx_train=*/256, &clock_);
  std::vector<SpeedResult> results_;
  SpeedOptions options_;
  SpeedCallbacks callbacks_{[this](const SpeedResult& result) {
                              results_.push_back(result);
                              return OkStatus();
                            },
                            {}};

  Status Measure(std::vector<SpeedTest> tests) { return MeasureSpeed(*scripted_.engine, tests, options_, callbacks_); }
  const std::vector<int64_t>& run_sizes() const { return scripted_.model->run_sizes(); }
};

TEST_F(MeasureSpeedTest, RepetitionsDoTheSameWorkAndTheContextIsFilledOnce) {
  options_.repetitions = 2;
  options_.warm_up = false;
  ASSERT_TRUE(Measure({MakeTest(9, 0, 10, 1, 4), MakeTest(0, 2, 10, 1, 4), MakeTest(1, 1, 12, 1, 4)}).ok());
  EXPECT_THAT(run_sizes(), ElementsAre(4, 4, 2,           // filled to 10
                                       4, 4, 1, 4, 4, 1,  // pp9 twice
                                       1, 1, 1, 1,        // tg2 twice
                                       2,                 // filled to 12
                                       1, 1, 1, 1));      // pp1+tg1 twice
  ASSERT_EQ(results_.size(), 3u);
  EXPECT_THAT(results_[0].sample_us, ElementsAre(1000, 1000));
  EXPECT_DOUBLE_EQ(FiguresOf(results_[0]).median, 9000);
  EXPECT_DOUBLE_EQ(FiguresOf(results_[2]).median, 2 / 3e-3);  // the clock is asked for the token, too
  EXPECT_TRUE(results_[0].tokens.empty());
  ASSERT_EQ(results_[1].tokens.size(), 4u);
  for (const TokenSample& token : results_[1].tokens) EXPECT_EQ(token.us, 1000);
}

TEST_F(MeasureSpeedTest, SequencesShareThePromptAndGoOnTogetherUntilTheyEnd) {
  options_.repetitions = 2;
  options_.warm_up = false;
  SpeedTest best = MakeTest(5, 6), equal = MakeTest(0, 2, 3);
  best.n_sequences = 3;
  best.ends = true;
  equal.n_sequences = 4;
  ASSERT_TRUE(Measure({best, equal}).ok());
  EXPECT_THAT(run_sizes(), ElementsAre(5, 3, 3, 2, 2, 1, 1, 5, 3, 3, 2, 2, 1, 1,  // each repetition begins anew
                                       3, 4, 4, 4, 4));                           // filled to 3
  EXPECT_DOUBLE_EQ(FiguresOf(results_[0]).median, (5 + 2 + 4 + 6) / 13e-3);
  EXPECT_EQ(results_[0].tokens.size(), 12u);
  EXPECT_EQ(TokenFiguresOf(results_[0]).tok_per_s_each, 1000);
  EXPECT_EQ(StepFiguresOf(results_[0]).most_ratio, 1);
  EXPECT_EQ(StepFiguresOf(results_[0]).most_ratio_at_end, 1);
  EXPECT_EQ(StepFiguresOf(results_[1]).most_ratio_at_end, 0);
  EXPECT_EQ(scripted_.engine->n_sessions(), 0);
}

TEST_F(MeasureSpeedTest, WarmUpIsShortAndNotCounted) {
  options_.repetitions = 1;
  ASSERT_TRUE(Measure({MakeTest(9, 0, 0, 1, 4), MakeTest(0, 6, 0, 1, 4)}).ok());
  EXPECT_THAT(run_sizes(), ElementsAre(4, 4, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1));
  EXPECT_EQ(results_[0].sample_us.size(), 1u);
  EXPECT_EQ(results_[1].tokens.size(), 6u);
}

TEST_F(MeasureSpeedTest, LongPromptsInSmallBatchesGetLogitsSeldom) {
  options_.repetitions = 1;
  options_.warm_up = false;
  int64_t n_asked = 0;
  callbacks_.keep_going = [&](const SpeedProgress& progress) {
    n_asked += progress.stage == Stage::kRunning ? 1 : 0;
    return true;
  };
  ASSERT_TRUE(Measure({MakeTest(130, 0, 0, 1, 1)}).ok());
  EXPECT_EQ(run_sizes().size(), 130u);
  EXPECT_EQ(n_asked, 1 + 3);  // the repetition, and feeds of 64, 64, 2
}

TEST_F(MeasureSpeedTest, CancelledMeasurementsReportWhatIsDone) {
  callbacks_.keep_going = [](const SpeedProgress& progress) {
    return progress.stage != Stage::kRunning || progress.n_done < 2;
  };
  EXPECT_EQ(Measure({MakeTest(3, 0), MakeTest(0, 3)}).code(), StatusCode::kCancelled);
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].sample_us.size(), 2u);
}

TEST_F(MeasureSpeedTest, CancellingWhileTheContextFillsReportsNothing) {
  callbacks_.keep_going = [](const SpeedProgress& progress) { return progress.stage != Stage::kFilling; };
  EXPECT_EQ(Measure({MakeTest(3, 0, 20)}).code(), StatusCode::kCancelled);
  EXPECT_TRUE(results_.empty());
}

TEST_F(MeasureSpeedTest, ThreadsAreSetForEachTest) {
  options_.repetitions = 1;
  ASSERT_TRUE(Measure({MakeTest(3, 0, 0, 2), MakeTest(3, 0, 0, 1)}).ok());
  ASSERT_EQ(results_.size(), 2u);
  EXPECT_EQ(results_[0].test.n_threads, 2);
  EXPECT_EQ(scripted_.engine->pool().n_threads(), 1);
}

TEST_F(MeasureSpeedTest, GenerationGoesOnWhereTheModelWouldEnd) {
  std::map<int64_t, TokenId> script;
  for (int64_t position = 0; position < 32; ++position) script[position] = 3;  // <eos>
  scripted_ = testing::MakeScriptedEngine({"a", "b", "c", "<eos>"}, script, log_, 256, &clock_);
  options_.repetitions = 1;
  options_.warm_up = false;
  ASSERT_TRUE(Measure({MakeTest(0, 20)}).ok());
  EXPECT_EQ(run_sizes().size(), 20u);
}

TEST_F(MeasureSpeedTest, ErrorsOfTheModelAndOfOptionsComeThrough) {
  options_.repetitions = 0;
  EXPECT_THAT(std::string(Measure({MakeTest(1, 0)}).message()), HasSubstr("--repetitions 0: expected 1 to"));
  options_.repetitions = 1;
  scripted_.model->FailAtRun(1);
  EXPECT_EQ(Measure({MakeTest(1, 0)}).code(), StatusCode::kInternal);
  constexpr int64_t kHuge = int64_t{1} << 30;
  EXPECT_THAT(std::string(Measure({MakeTest(kHuge, 0, kHuge)}).message()),
              HasSubstr("the largest test takes 2147483648 positions (--n-depth + --n-prompt + --n-gen)"));
}

TEST(SpeedText, IsTheSameForASeedAndWithinTheVocabulary) {
  const testing::WordTokenizer tokenizer({"e", "t", "<bos>", "q"});
  const std::vector<TokenId> tokens = TextTokens(tokenizer, 4, 500, 1);
  ASSERT_EQ(tokens.size(), 500u);
  EXPECT_EQ(tokens[0], 2);
  EXPECT_EQ(tokens, TextTokens(tokenizer, 4, 500, 1));
  EXPECT_NE(tokens, TextTokens(tokenizer, 4, 500, 2));
  for (const TokenId token : tokens) EXPECT_LT(token, 4);
}

TEST(SpeedText, TokenizerWithoutWordsOrWithTooManyGivesRandomIds) {
  const testing::WordTokenizer wordless({"1234567890", "#"});
  EXPECT_EQ(TextTokens(wordless, 2, 50, 1), RandomTokens(2, 50, 1));
  const testing::WordTokenizer too_many({"#", "e", " ", "t", "a", "o", "n", "i", "s", "r", "h", "d", "l"});
  EXPECT_EQ(TextTokens(too_many, 1, 50, 1), RandomTokens(1, 50, 1));
}

}  // namespace
}  // namespace pantry
