// SPDX-License-Identifier: Apache-2.0
#include "eval/tasks/task_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "support/test_paths.h"

namespace pantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(std::string_view text, const TaskFileOptions& options = {}) {
  const auto file = ParseTaskFile(text, "dir/x.jsonl", options);
  EXPECT_FALSE(file.ok()) << text;
  return std::string(file.status().message());
}

TaskItem OneItem(std::string_view text, TaskProtocol protocol, const TaskFileOptions& options = {}) {
  const auto file = ParseTaskFile(text, "dir/x.jsonl", options);
  EXPECT_TRUE(file.ok()) << file.status().ToString();
  if (!file.ok()) return {};
  EXPECT_EQ(file->protocol, protocol);
  EXPECT_EQ(file->items.size(), 1u);
  return file->items.front();
}

constexpr std::string_view kChoice = R"({"id":"q1","context":"2+2?","choices":["3"," 4"],"answer":1,"exact":true})";

TEST(TaskFile, FieldsSayWhatKindOfTaskItIs) {
  const TaskItem choice = OneItem(kChoice, TaskProtocol::kChoice);
  EXPECT_EQ(choice.id, "q1");
  EXPECT_EQ(choice.context_of(1), "2+2?");
  EXPECT_THAT(choice.choices, ElementsAre("3", " 4"));
  EXPECT_EQ(choice.answer, 1);
  const TaskItem trivia =
      OneItem(R"({"id":"t","prompt":"Who?","answer":"A","aliases":["A","B"]})", TaskProtocol::kTriviaQa);
  EXPECT_THAT(trivia.answers, ElementsAre("A", "B"));
  const TaskItem sum = OneItem(R"({"id":"g","prompt":"Sum?","answer":"7","solution":"#### 7"})", TaskProtocol::kGsm8k);
  EXPECT_EQ(sum.text, "Sum?");
  EXPECT_THAT(sum.answers, ElementsAre("7"));
  const TaskItem text = OneItem(R"({"id":"w","text":"Once.","words":1,"bytes":5})", TaskProtocol::kRolling);
  EXPECT_EQ(text.n_bytes, 5);
}

TEST(TaskFile, EachChoiceMayHaveAContextOfItsOwn) {
  const TaskItem item =
      OneItem(R"({"id":"w","contexts":["He","She"],"choices":["ran.","ran."],"answer":0})", TaskProtocol::kChoice);
  EXPECT_EQ(item.context_of(0), "He");
  EXPECT_EQ(item.context_of(1), "She");
}

TEST(TaskFile, ExamplesStandBeforeTheQuestionOfGsm8k) {
  TaskFileOptions options;
  options.prefix = "Q: 1+1\nA: The answer is 2.\n\n";
  const TaskItem item = OneItem(R"({"id":"g","prompt":"Question: 3+4\nAnswer:","answer":"7","solution":"#### 7"})",
                                TaskProtocol::kGsm8kCot, options);
  EXPECT_EQ(item.text, "Q: 1+1\nA: The answer is 2.\n\nQ: 3+4\nA:");
  EXPECT_THAT(ErrorOf(R"({"id":"g","prompt":"3+4","answer":"7","solution":"#### 7"})", options),
              HasSubstr("x.jsonl:1: \"prompt\": gsm8k_cot expects"));
}

TEST(TaskFile, MistakesNameFileLineAndField) {
  const std::map<std::string, std::string> cases = {
      {"{", "dir/x.jsonl:1: expected a JSON object on one line"},
      {"[]", "expected a JSON object"},
      {"\xff{}", "expected a JSON object"},
      {"", "no items"},
      {"\n \n", "no items"},
      {"{}", "expected \"choices\", \"prompt\" or \"text\""},
      {R"({"id":"a","prompt":"x","answer":"y"})", "say how it is judged"},
      {R"({"choices":["a"],"context":"c","answer":0})", "\"id\" is missing"},
      {R"({"id":1,"choices":["a"],"context":"c","answer":0})", "\"id\" is not a text"},
      {R"({"id":"a","choices":[],"context":"c","answer":0})", "\"choices\" is not a list of texts"},
      {R"({"id":"a","choices":["a",2],"context":"c","answer":0})", "\"choices\" holds something"},
      {R"({"id":"a","choices":["a",""],"context":"c","answer":0})", "choice 1 is empty"},
      {R"({"id":"a","choices":["a"],"answer":0})", "\"context\" is missing"},
      {R"({"id":"a","choices":["a"],"context":"c"})", "\"answer\" is missing"},
      {R"({"id":"a","choices":["a","b"],"context":"c","answer":2})", "from 0 to 1, found 2"},
      {R"({"id":"a","choices":["a","b"],"context":"c","answer":-1})", "found -1"},
      {R"({"id":"a","choices":["a","b"],"context":"c","answer":18446744073709551615})", "found 18446744073709551615"},
      {R"({"id":"a","choices":["a","b"],"context":"c","answer":1.0})", "found 1.0"},
      {R"({"id":"a","choices":["a","b"],"contexts":["c"],"answer":1})", "1 contexts and 2 choices"},
      {R"({"id":"a","text":"","words":1,"bytes":1})", "\"text\" is empty"},
      {R"({"id":"a","text":"b","words":0,"bytes":1})", "\"words\": expected a whole number from 1"},
      {R"({"id":"a","prompt":"b","aliases":[]})", "\"aliases\" is not a list"},
  };
  for (const auto& [text, message] : cases) EXPECT_THAT(ErrorOf(text), HasSubstr(message)) << text;
  EXPECT_THAT(ErrorOf(std::string(kChoice) + "\n\n{\"id\":\"b\"}"), HasSubstr("dir/x.jsonl:3: \"choices\" is missing"));
}

TEST(TaskFile, DeeplyNestedValuesAreNamedNotPrinted) {
  constexpr size_t kDepth = 100000;
  const std::string nested = std::string(kDepth, '[') + std::string(kDepth, ']');
  EXPECT_THAT(ErrorOf(R"({"id":"a","text":"b","bytes":1,"words":)" + nested + "}"), HasSubstr("found an array"));
  EXPECT_THAT(ErrorOf(R"({"id":)" + nested + R"(,"text":"b","bytes":1,"words":1})"), HasSubstr("\"id\" is not a text"));
}

TEST(TaskFile, LimitTakesTheFirstItemsAndReadsNoFurther) {
  TaskFileOptions options;
  options.limit = 1;
  const auto file = ParseTaskFile(std::string(kChoice) + "\nnot json", "y.jsonl", options);
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  EXPECT_EQ(file->items.size(), 1u);
  EXPECT_EQ(file->name, "y");
  options.limit = 0;
  EXPECT_THAT(ErrorOf(kChoice, options), HasSubstr("--limit 0"));
}

TEST(TaskFile, TaskCanBeForcedWhereFieldsSuffice) {
  TaskFileOptions options;
  options.protocol = TaskProtocol::kTriviaQa;
  EXPECT_THAT(OneItem(R"({"id":"g","prompt":"p","answer":"7"})", TaskProtocol::kTriviaQa, options).answers,
              ElementsAre("7"));
  options.protocol = TaskProtocol::kRolling;
  EXPECT_THAT(ErrorOf(kChoice, options), HasSubstr("\"text\" is missing"));
  options.protocol = TaskProtocol::kGsm8kCot;
  EXPECT_THAT(ErrorOf(kChoice, options), HasSubstr("--prefix-file"));
  for (const auto protocol : {TaskProtocol::kChoice, TaskProtocol::kGsm8kCot, TaskProtocol::kRolling}) {
    EXPECT_EQ(ParseTaskProtocol(TaskProtocolName(protocol)).value(), protocol);
  }
  EXPECT_FALSE(ParseTaskProtocol("arc").ok());
}

TEST(TaskFile, EveryFileOfTheSampleIsRead) {
  const std::map<std::string, std::pair<size_t, TaskProtocol>> files = {
      {"arc_easy", {1000, TaskProtocol::kChoice}},   {"arc_challenge", {782, TaskProtocol::kChoice}},
      {"boolq", {1000, TaskProtocol::kChoice}},      {"piqa", {1000, TaskProtocol::kChoice}},
      {"siqa", {1000, TaskProtocol::kChoice}},       {"hellaswag", {667, TaskProtocol::kChoice}},
      {"openbookqa", {500, TaskProtocol::kChoice}},  {"winogrande", {845, TaskProtocol::kChoice}},
      {"race", {334, TaskProtocol::kChoice}},        {"mmlu", {1000, TaskProtocol::kChoice}},
      {"mmlu-5shot", {1000, TaskProtocol::kChoice}}, {"triviaqa", {1000, TaskProtocol::kTriviaQa}},
      {"gsm8k", {880, TaskProtocol::kGsm8k}},        {"wikitext", {62, TaskProtocol::kRolling}}};
  for (const auto& [name, expected] : files) {
    const std::string path = testing::SharedData("data/tasks/" + name + ".jsonl");
    std::ifstream in(path, std::ios::binary);
    if (path.empty() || !in) GTEST_SKIP() << "no task files here";
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    const auto file = ParseTaskFile(text, path, {});
    ASSERT_TRUE(file.ok()) << file.status().ToString();
    EXPECT_EQ(file->items.size(), expected.first) << name;
    EXPECT_EQ(file->protocol, expected.second) << name;
    EXPECT_EQ(file->name, name);
  }
}

}  // namespace
}  // namespace pantry
