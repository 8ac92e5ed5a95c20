// SPDX-License-Identifier: Apache-2.0
#include "engine/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "engine/scripted_engine.h"

namespace pantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kPromptTokens = 3;

// An engine that answers with `words`, one token each; the vocabulary is the words themselves and what is always there.
class GenerateTest : public ::testing::Test {
 protected:
  void Answer(const std::vector<std::string>& words, int64_t n_ctx = 64) {
    std::vector<std::string> vocabulary = {"p", "<eos>", "<ctl>"};
    std::map<int64_t, TokenId> script;
    for (size_t i = 0; i < words.size(); ++i) {
      auto found = std::find(vocabulary.begin(), vocabulary.end(), words[i]);
      if (found == vocabulary.end()) found = vocabulary.insert(vocabulary.end(), words[i]);
      script[kPromptTokens - 1 + static_cast<int64_t>(i)] = static_cast<TokenId>(found - vocabulary.begin());
    }
    scripted_ = testing::MakeScriptedEngine(vocabulary, script, log_, 256, &clock_);
    SessionOptions options;
    options.n_ctx = n_ctx;
    session_ = scripted_.engine->NewSession(options).value();
    greedy_.sampling.temperature = 0;
  }
  Result<GenerateResult> Run(const GenerateOptions& options) {
    GenerateCallbacks callbacks;
    callbacks.on_text = [this](std::string_view text) {
      pieces_.emplace_back(text);
      return true;
    };
    return Generate(*scripted_.engine, *session_, prompt_, options, callbacks);
  }

  NullLogger log_;
  testing::TickingClock clock_;
  testing::ScriptedEngine scripted_;
  std::unique_ptr<Session> session_;
  GenerateOptions greedy_;
  const std::vector<TokenId> prompt_ = {0, 0, 0};
  std::vector<std::string> pieces_;
};

TEST_F(GenerateTest, EndsAtEndOfGenerationWhichIsNotPartOfTheAnswer) {
  Answer({"Hel", "lo", "<eos>"});
  const auto result = Run(greedy_);
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  EXPECT_EQ(result->text, "Hello");
  EXPECT_EQ(result->tokens.size(), 2u);
  EXPECT_EQ(result->stop_reason, StopReason::kEndOfGeneration);
  EXPECT_EQ(result->n_prompt, kPromptTokens);
  EXPECT_EQ(result->n_decoded, 2);
  EXPECT_EQ(session_->tokens().size(), 5u);
  EXPECT_THAT(pieces_, ElementsAre("Hel", "lo"));
}

TEST_F(GenerateTest, AContinuationKeepsItsFirstSpaceAndAChatAnswerDoesNot) {
  Answer({" world", " <strip>", "<strip>", "<eos>"});
  const auto continuation = Run(greedy_);
  ASSERT_TRUE(continuation.ok()) << continuation.status().ToString();
  EXPECT_EQ(continuation->text, " world <strip><strip>");
  GenerateOptions chat = greedy_;
  chat.continues_text = false;
  const auto answer = Run(chat);
  ASSERT_TRUE(answer.ok()) << answer.status().ToString();
  EXPECT_EQ(answer->text, "world <strip><strip>");
}

TEST_F(GenerateTest, CharacterSplitOverTokensComesWhole) {
  Answer({"caf", "\xC3", "\xA9", "!", "<eos>"});
  const auto result = Run(greedy_);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->text, "caf\xC3\xA9!");
  EXPECT_THAT(pieces_, ElementsAre("caf", "\xC3\xA9", "!"));
}

TEST_F(GenerateTest, CharacterThatNeverCompletesIsReplacedAtTheEnd) {
  Answer({"x", "\xC3", "<eos>"});
  const auto result = Run(greedy_);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->text, "x\xEF\xBF\xBD");
}

TEST_F(GenerateTest, StopTextAcrossTokensIsNeverShown) {
  Answer({"hi", "\n", "Us", "er: x", "no", "<eos>"});
  greedy_.stop = {"\nUser:"};
  const auto result = Run(greedy_);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->text, "hi");
  EXPECT_EQ(result->stop_reason, StopReason::kStopText);
  EXPECT_THAT(pieces_, ElementsAre("hi"));
  EXPECT_EQ(result->tokens.size(), 4u);
}

TEST_F(GenerateTest, HeldBackBeginningOfAStopTextComesAtTheEnd) {
  Answer({"hi", "\n", "Us", "<eos>"});
  greedy_.stop = {"\nUser:"};
  const auto result = Run(greedy_);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->text, "hi\nUs");
  EXPECT_EQ(result->stop_reason, StopReason::kEndOfGeneration);
  EXPECT_THAT(pieces_, ElementsAre("hi", "\nUs"));
}

TEST_F(GenerateTest, EndsAfterMaxTokens) {
  Answer({"a", "b", "c", "d"});
  greedy_.max_tokens = 3;
  const auto result = Run(greedy_);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->text, "abc");
  EXPECT_EQ(result->stop_reason, StopReason::kMaxTokens);
  EXPECT_EQ(result->n_decoded, 2);  // the last one is not computed: nothing follows
}

TEST_F(GenerateTest, ZeroTokensComputesThePromptOnly) {
  Answer({"a"});
  greedy_.max_tokens = 0;
  const auto result = Run(greedy_);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->text, "");
  EXPECT_EQ(result->stop_reason, StopReason::kMaxTokens);
  EXPECT_EQ(session_->tokens().size(), 3u);
}

TEST_F(GenerateTest, EndsWhenTheContextIsFull) {
  Answer({"a", "b", "c", "d", "e", "f"}, /*n_ctx=*/5);
  const auto result = Run(greedy_);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->text, "abc");
  EXPECT_EQ(result->stop_reason, StopReason::kContextFull);
  EXPECT_EQ(session_->tokens().size(), 5u);
}

TEST_F(GenerateTest, IgnoredEndOfGenerationIsNeverSampled) {
  Answer({"a", "<eos>", "b"});
  greedy_.ignore_eos = true;
  greedy_.max_tokens = 3;
  const auto result = Run(greedy_);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->stop_reason, StopReason::kMaxTokens);
  EXPECT_EQ(result->tokens.size(), 3u);
  for (const TokenId token : result->tokens) EXPECT_NE(token, scripted_.engine->tokenizer().eos());
}

TEST_F(GenerateTest, ControlTokensAreShownOnRequest) {
  Answer({"a", "<ctl>", "b", "<eos>"});
  EXPECT_EQ(Run(greedy_)->text, "ab");
  greedy_.show_special = true;
  EXPECT_EQ(Run(greedy_)->text, "a<ctl>b");
}

TEST_F(GenerateTest, SecondTurnReusesTheFirst) {
  Answer({"a", "b", "<eos>"});
  ASSERT_TRUE(Run(greedy_).ok());
  const auto again = Run(greedy_);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->n_cached, 2);
  EXPECT_EQ(again->text, "ab");
}

TEST_F(GenerateTest, CallbackOfTextCancels) {
  Answer({"a", "b", "c", "<eos>"});
  GenerateCallbacks callbacks;
  std::string seen;
  callbacks.on_text = [&](std::string_view text) {
    seen += text;
    return text != "b";
  };
  const auto result = Generate(*scripted_.engine, *session_, prompt_, greedy_, callbacks);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->stop_reason, StopReason::kCancelled);
  EXPECT_EQ(seen, "ab");
  EXPECT_EQ(result->text, "ab");
}

TEST_F(GenerateTest, AnotherThreadCancelsAnAnswerWithoutText) {
  std::vector<std::string> silent(200, "<ctl>");
  Answer(silent, /*n_ctx=*/256);
  std::atomic<bool> stop{false};
  std::atomic<int> n_tokens{0};
  GenerateCallbacks callbacks;
  callbacks.on_token = [&](TokenId) {
    ++n_tokens;
    n_tokens.notify_one();
    if (n_tokens == 5) stop.wait(false);  // the other thread decides here, whatever the scheduling
    return !stop;
  };
  std::thread canceller([&] {
    for (int n = n_tokens; n < 5; n = n_tokens) n_tokens.wait(n);
    stop = true;
    stop.notify_one();
  });
  const auto result = Generate(*scripted_.engine, *session_, prompt_, greedy_, callbacks);
  canceller.join();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->stop_reason, StopReason::kCancelled);
  EXPECT_EQ(result->tokens.size(), 5u);
  EXPECT_EQ(result->text, "");
}

TEST_F(GenerateTest, CancelledPrefillIsACancelledAnswer) {
  Answer({"a"});
  GenerateCallbacks callbacks;
  callbacks.on_prefill = [](int64_t, int64_t) { return false; };
  const auto result = Generate(*scripted_.engine, *session_, prompt_, greedy_, callbacks);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->stop_reason, StopReason::kCancelled);
  EXPECT_TRUE(result->tokens.empty());
}

TEST_F(GenerateTest, TimesComeFromTheClock) {
  Answer({"a", "b", "<eos>"});
  const auto result = Run(greedy_);
  ASSERT_TRUE(result.ok());
  // The clock ticks once per question: start, end of prefill, first token, end.
  EXPECT_EQ(result->prefill_us, 1000);
  EXPECT_EQ(result->first_token_us, 2000);
  EXPECT_EQ(result->decode_us, 2000);
}

TEST_F(GenerateTest, ModelErrorInTheMiddleIsTheResult) {
  Answer({"a", "b", "c"});
  scripted_.model->FailAtRun(3);
  EXPECT_EQ(Run(greedy_).status().code(), StatusCode::kInternal);
}

TEST_F(GenerateTest, ImpossibleRequestsAreRefused) {
  Answer({"a"});
  GenerateOptions options = greedy_;
  options.stop = {""};
  EXPECT_EQ(Run(options).status().code(), StatusCode::kInvalidArgument);
  options = greedy_;
  options.max_tokens = -2;
  EXPECT_EQ(Run(options).status().code(), StatusCode::kInvalidArgument);
  options = greedy_;
  options.sampling.temperature = -1;
  EXPECT_EQ(Run(options).status().code(), StatusCode::kInvalidArgument);
  const auto empty = Generate(*scripted_.engine, *session_, {}, greedy_, {});
  EXPECT_EQ(empty.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(empty.status().message()), HasSubstr("prompt is empty"));
}

}  // namespace
}  // namespace pantry
