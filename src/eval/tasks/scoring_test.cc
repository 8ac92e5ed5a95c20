// SPDX-License-Identifier: Apache-2.0
#include "eval/tasks/scoring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "eval/tasks/answer_match.h"

namespace pantry {
namespace {

using ::testing::ElementsAre;

std::vector<double> Judge(std::vector<std::string> choices, std::vector<double> scores, int32_t answer) {
  TaskItem item;
  item.choices = std::move(choices);
  item.answer = answer;
  ItemScore score;
  score.log_likelihoods = std::move(scores);
  return JudgeItem(TaskProtocol::kChoice, item, score);
}

TEST(JudgeItem, AccuracyTakesTheLargestAndNormDividesByCharacters) {
  EXPECT_THAT(Judge({"a", "four"}, {-2, -4}, 0), ElementsAre(1, 0));
  EXPECT_THAT(Judge({"a", "four"}, {-2, -4}, 1), ElementsAre(0, 1));
  // Four bytes in two characters: bytes would give the first.
  EXPECT_THAT(Judge({"éé", "abc"}, {-3, -4}, 1), ElementsAre(0, 1));
}

TEST(JudgeItem, TiesGoToTheFirst) {
  EXPECT_THAT(Judge({"ab", "cd"}, {-2, -2}, 0), ElementsAre(1, 1));
  EXPECT_THAT(Judge({"ab", "cd"}, {-2, -2}, 1), ElementsAre(0, 0));
}

TEST(CountCharacters, CountsCodePointsAndBrokenBytes) {
  EXPECT_EQ(CountCharacters(""), 0);
  EXPECT_EQ(CountCharacters("a\xC3\xA9\xE2\x82\xAC"), 3);
  EXPECT_EQ(CountCharacters("\xFF"
                            "b"),
            2);
}

TEST(MeanMetric, OfSharesHasTheSampleErrorAndWilsonsInterval) {
  const std::vector<double> values = {1, 1, 1, 0, 1, 0, 1, 1, 1, 1};
  const Metric metric = MeanMetric("acc", values);
  EXPECT_DOUBLE_EQ(metric.value, 0.8);
  EXPECT_NEAR(metric.standard_error, std::sqrt(0.8 * 0.2 / 9), 1e-12);
  EXPECT_NEAR(metric.low, 0.49016, 1e-5);  // tables of Wilson's interval for 8 of 10
  EXPECT_NEAR(metric.high, 0.94332, 1e-5);
  const Metric all = MeanMetric("acc", std::vector<double>(10, 1.0));
  EXPECT_EQ(all.standard_error, 0);
  EXPECT_NEAR(all.low, 0.72247, 1e-5);
  EXPECT_DOUBLE_EQ(all.high, 1);
  const Metric one = MeanMetric("acc", std::vector<double>(1, 0.0));
  EXPECT_EQ(one.low, 0);
  EXPECT_GT(one.high, 0.5);
}

TEST(MeanMetric, OfOtherFiguresHasTheNormalInterval) {
  const Metric metric = MeanMetric("f1", std::vector<double>{0.5, 0.25, 0.75});
  EXPECT_DOUBLE_EQ(metric.value, 0.5);
  EXPECT_NEAR(metric.standard_error, 0.25 / std::sqrt(3.0), 1e-12);
  EXPECT_NEAR(metric.high - metric.value, 1.96 * metric.standard_error, 1e-4);
}

TEST(TaskMetrics, PerplexityIsPerWordAndByteOfAllTexts) {
  TaskFile file;
  file.protocol = TaskProtocol::kRolling;
  file.items.resize(2);
  file.items[0].n_words = 2;
  file.items[0].n_bytes = 8;
  file.items[1].n_words = 3;
  file.items[1].n_bytes = 12;
  std::vector<ItemScore> scores(2);
  scores[0].log_likelihoods = {-6};
  scores[1].item = 1;
  scores[1].log_likelihoods = {-4};
  const std::vector<Metric> metrics = TaskMetrics(file, scores);
  ASSERT_EQ(metrics.size(), 3u);
  EXPECT_NEAR(metrics[0].value, std::exp(2.0), 1e-12);
  EXPECT_NEAR(metrics[1].value, std::exp(0.5), 1e-12);
  EXPECT_NEAR(metrics[2].value, 0.5 / std::log(2.0), 1e-12);
  // Residuals of the losses are +2 and -2 (6 - 2 x 2, 4 - 2 x 3): the error of the rate is sqrt(8 x 2 / 1) / 5.
  EXPECT_NEAR(metrics[0].standard_error, std::exp(2.0) * 0.8, 1e-12);
  EXPECT_NEAR(metrics[0].low, std::exp(2.0 - 1.96 * 0.8), 1e-4);
  scores[0].skipped = "too long";
  EXPECT_NEAR(TaskMetrics(file, scores)[0].value, std::exp(4.0 / 3), 1e-12);
  scores[1].skipped = "too long";
  EXPECT_TRUE(TaskMetrics(file, scores).empty());
}

TEST(JudgeAnswer, TriviaIgnoresCaseAndPunctuationAndTakesAnyAlias) {
  const std::vector<std::string> aliases = {"'THE TRUMPET MAJOR'", "Trumpet major"};
  EXPECT_THAT(JudgeAnswer(TaskProtocol::kTriviaQa, " the Trumpet-Major", aliases), ElementsAre(0, 0.4));
  EXPECT_THAT(JudgeAnswer(TaskProtocol::kTriviaQa, " The \"trumpet\" major!", aliases), ElementsAre(1, 1));
  EXPECT_THAT(JudgeAnswer(TaskProtocol::kTriviaQa, "a trumpet major", aliases), ElementsAre(0, 0.8));
  EXPECT_THAT(JudgeAnswer(TaskProtocol::kTriviaQa, "ÉMILE", std::vector<std::string>{"Émile"}), ElementsAre(1, 1));
}

TEST(WordF1, CountsCommonWordsOnceForEachTimeTheyOccur) {
  EXPECT_DOUBLE_EQ(WordF1("the the cat", "the cat sat"), 2.0 * 2 / 6);
  EXPECT_DOUBLE_EQ(WordF1("", "x"), 0);
  EXPECT_DOUBLE_EQ(WordF1("!", "?"), 1);
}

TEST(StrictNumber, IsTheFirstAfterTheMarks) {
  EXPECT_EQ(StrictNumber("so 12 #### none #### -1,200.50 #### 3", false), "-1,200.50");
  EXPECT_EQ(StrictNumber("#### ", false), "");
  EXPECT_EQ(StrictNumber("####5", false), "");
  EXPECT_EQ(StrictNumber("The answer is 18.", true), "18");
  EXPECT_EQ(StrictNumber("The answer is 18. So", true), "18.");
  EXPECT_EQ(StrictNumber("The answer is 18\n", true), "1");  // the pattern ends in any character but a newline
  EXPECT_EQ(StrictNumber("The answer is 7", true), "");
}

TEST(FlexibleNumber, IsTheLastInTheText) {
  EXPECT_EQ(FlexibleNumber("3 apples and $1,250.00 left"), "$1,250.00");
  EXPECT_EQ(FlexibleNumber("it is -7"), "-7");
  EXPECT_EQ(FlexibleNumber("seven - 5 ."), "5");
  EXPECT_EQ(FlexibleNumber("wait ... what"), "...");
  EXPECT_EQ(FlexibleNumber("none"), "");
}

TEST(JudgeAnswer, NumbersAreComparedWithoutCommasDollarsAndFullStops) {
  const std::vector<std::string> answer = {"1250"};
  EXPECT_THAT(JudgeAnswer(TaskProtocol::kGsm8k, "#### 1,250.", answer), ElementsAre(1, 1));
  EXPECT_THAT(JudgeAnswer(TaskProtocol::kGsm8k, "It costs $1,250.", answer), ElementsAre(0, 1));
  EXPECT_THAT(JudgeAnswer(TaskProtocol::kGsm8kCot, "The answer is 1250.\n", answer), ElementsAre(1, 1));
  EXPECT_THAT(JudgeAnswer(TaskProtocol::kGsm8k, "no idea", answer), ElementsAre(0, 0));
  EXPECT_EQ(PlainNumber("a 5 #### $3,000."), "3000");
}

}  // namespace
}  // namespace pantry
