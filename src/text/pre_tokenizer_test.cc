// SPDX-License-Identifier: Apache-2.0
#include "text/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <sstream>

#include "support/test_paths.h"
#include "text/tokenizer_testing.h"

namespace pantry {
namespace {

std::unique_ptr<PreTokenizer> Make(std::string_view name) {
  NullLogger log;
  Result<std::unique_ptr<PreTokenizer>> made = PreTokenizer::Create(name, log);
  EXPECT_TRUE(made.ok()) << made.status().ToString();
  return std::move(made).value();
}

std::vector<std::string> Words(const PreTokenizer& rules, std::string_view text) {
  std::vector<size_t> ends;
  rules.Split(text, ends);
  std::vector<std::string> words;
  size_t begin = 0;
  for (const size_t end : ends) {
    words.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return words;
}

// words.out is made by scripts/make_tiny_vocab.py with Hugging Face tokenizers, from the same expressions as published.
TEST(PreTokenizer, EveryRuleSetCutsAsHuggingFaceTokenizersDoes) {
  const std::vector<std::string> texts =
      testing::SplitTexts(testing::ReadFile(testing::TestData("tokenizer/words.inp")));
  std::istringstream lines(testing::ReadFile(testing::TestData("tokenizer/words.out")));
  size_t n_lines = 0;
  for (std::string line; std::getline(lines, line); ++n_lines) {
    std::istringstream fields(line);
    std::string name;
    size_t text = 0;
    fields >> name >> text;
    ASSERT_LT(text, texts.size());
    std::vector<std::string> expected;
    size_t begin = 0;
    for (size_t n_bytes; fields >> n_bytes; begin += n_bytes) expected.push_back(texts[text].substr(begin, n_bytes));
    EXPECT_EQ(Words(*Make(name), texts[text]), expected) << name << " on text " << text;
  }
  EXPECT_GE(n_lines, 100u);
}

TEST(PreTokenizer, WordsCoverAnyBytes) {
  const std::string text = std::string("ab\xFF\xC3 12345\xE4\xB8\xAD\xE4 \0\n\t  x", 21);
  for (const std::string_view name : PreTokenizer::Names()) {
    std::vector<size_t> ends;
    Make(name)->Split(text, ends);
    ASSERT_FALSE(ends.empty());
    EXPECT_EQ(ends.back(), text.size());
    for (size_t i = 1; i < ends.size(); ++i) EXPECT_LT(ends[i - 1], ends[i]) << name;
  }
}

TEST(PreTokenizer, BrokenBytesAreWordsOfTheirOwn) {
  EXPECT_THAT(Words(*Make("gpt-2"),
                    "ab\xFF\xFE"
                    "cd"),
              ::testing::ElementsAre("ab", "\xFF", "\xFE", "cd"));
}

TEST(PreTokenizer, EmptyTextHasNoWords) { EXPECT_TRUE(Words(*Make("gpt-2"), "").empty()); }

TEST(PreTokenizer, DigitsGroupInThreesFromTheRight) {
  EXPECT_THAT(Words(*Make("superbpe"), "x1234567"), ::testing::ElementsAre("x", "1", "234", "567"));
  EXPECT_THAT(Words(*Make("superbpe"), "123456"), ::testing::ElementsAre("123", "456"));
  EXPECT_THAT(Words(*Make("superbpe"), "12"), ::testing::ElementsAre("12"));
}

TEST(PreTokenizer, HardTextsTakeLinearTime) {
  constexpr size_t kBytes = 300'000;
  const std::string texts[] = {std::string(kBytes, ' '),
                               std::string(kBytes, 'a'),
                               std::string(kBytes, 'A'),
                               std::string(kBytes, '9'),
                               std::string(kBytes, '\n'),
                               std::string(kBytes, '.'),
                               std::string(kBytes, ' ') + "x",
                               [] {
                                 std::string mixed;
                                 while (mixed.size() < kBytes) mixed += "a b ";
                                 return mixed;
                               }()};
  for (const std::string_view name : PreTokenizer::Names()) {
    const std::unique_ptr<PreTokenizer> rules = Make(name);
    const auto start = std::chrono::steady_clock::now();
    for (const std::string& text : texts) {
      std::vector<size_t> ends;
      rules->Split(text, ends);
      EXPECT_EQ(ends.back(), text.size());
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_LT(seconds.count(), 60.0) << name;  // 0.1 s where nothing else runs
  }
}

}  // namespace
}  // namespace pantry
