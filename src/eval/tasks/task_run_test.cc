// SPDX-License-Identifier: Apache-2.0
#include "eval/tasks/task_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "engine/scripted_engine.h"
#include "eval/log_softmax.h"
#include "support/temporary_files.h"
#include "support/tiny_engine.h"

namespace pantry {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Letters and a space, so that texts can be counted by hand: "a" is token 0, "b" 1, "c" 2, " " 3, "." 4.
const std::vector<std::string> kLetters = {"a", "b", "c", " ", "."};

TaskItem Choice(std::vector<std::string> contexts, std::vector<std::string> choices) {
  TaskItem item;
  item.contexts = std::move(contexts);
  item.choices = std::move(choices);
  return item;
}

TaskFile FileOf(TaskProtocol protocol, std::vector<TaskItem> items) {
  TaskFile file;
  file.protocol = protocol;
  file.items = std::move(items);
  return file;
}

// Each sequence from an empty context, in one run.
std::vector<double> ScoreFromScratch(Engine& engine, Session& session, const std::vector<TokenSequence>& sequences) {
  std::vector<double> sums;
  for (const TokenSequence& sequence : sequences) {
    double sum = 0;
    session.Truncate(0);
    const Status fed = session.FeedAll(std::span(sequence.tokens).first(sequence.tokens.size() - 1),
                                       [&](int64_t index, std::span<const float> logits) {
                                         const auto next = static_cast<size_t>(index) + 1;
                                         if (next < sequence.n_context) return;
                                         sum += LogProbability(engine.pool(), logits, sequence.tokens[next]);
                                       });
    EXPECT_TRUE(fed.ok()) << fed.ToString();
    sums.push_back(sum);
  }
  return sums;
}

class TaskRunTest : public ::testing::Test {
 protected:
  NullLogger log_;
  testing::ScriptedEngine scripted_ = testing::MakeScriptedEngine(kLetters, {}, log_);

  std::unique_ptr<Session> NewSession(int64_t n_ctx) {
    SessionOptions options;
    options.n_ctx = n_ctx;
    auto session = scripted_.engine->NewSession(options);
    EXPECT_TRUE(session.ok());
    return std::move(session).value();
  }
  TaskResult Run(const TaskFile& file, int64_t n_ctx, const TaskCallbacks& callbacks = {}) {
    const auto session = NewSession(n_ctx);
    auto result =
        RunTask(*scripted_.engine, *session, file, MakeRequests(scripted_.engine->tokenizer(), file), callbacks);
    EXPECT_TRUE(result.ok()) << result.status().ToString();
    return result.ok() ? std::move(result).value() : TaskResult();
  }
};

TEST_F(TaskRunTest, ContinuationIsWhatTheWholeHasBeyondTheContext) {
  const TaskRequests made =
      MakeRequests(scripted_.engine->tokenizer(), FileOf(TaskProtocol::kChoice, {Choice({"ab. "}, {"c", " aa"})}));
  const std::vector<TokenSequence>& sequences = made.requests[0].sequences;
  EXPECT_THAT(sequences[0].tokens, ElementsAre(0, 1, 4, 3, 3, 2));
  EXPECT_THAT(sequences[1].tokens, ElementsAre(0, 1, 4, 3, 3, 3, 0, 0));
  EXPECT_EQ(sequences[0].n_context, 3u);  // the space at the end belongs to what is scored
  EXPECT_EQ(sequences[1].n_context, 3u);
  EXPECT_EQ(made.most_positions, 7);
}

TEST_F(TaskRunTest, EmptyContextBeginsWithBosOrIsSkipped) {
  const TaskFile file = FileOf(TaskProtocol::kChoice, {Choice({" "}, {"c"})});
  EXPECT_THAT(Run(file, 16).scores[0].skipped, HasSubstr("its context is empty"));
  const testing::WordTokenizer with_eos({"a", "b", "c", " ", "<eos>"});
  const TokenSequence sequence = MakeRequests(with_eos, file).requests[0].sequences[0];
  EXPECT_THAT(sequence.tokens, ElementsAre(4, 3, 3, 2));
  EXPECT_EQ(sequence.n_context, 1u);
  const testing::WordTokenizer with_bos({"a", "b", "c", " ", "<bos>"});
  EXPECT_THAT(MakeRequests(with_bos, file).requests[0].sequences[0].tokens, ElementsAre(4, 3, 3, 2));
}

TEST_F(TaskRunTest, ScoresAreThoseOfEachSequenceByItself) {
  const TaskFile file = FileOf(
      TaskProtocol::kChoice, {Choice({"abcab"}, {"cab", "b", "ccc"}), Choice({"abcab", "abcac", "b"}, {"c", "c", "c"}),
                              Choice({"abcabbbb"}, {"a", "b"})});
  const TaskResult result = Run(file, 32);
  const TaskRequests made = MakeRequests(scripted_.engine->tokenizer(), file);
  const auto session = NewSession(32);
  ASSERT_EQ(result.scores.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(result.scores[i].item, made.requests[i].item);
    EXPECT_EQ(result.scores[i].log_likelihoods,
              ScoreFromScratch(*scripted_.engine, *session, made.requests[i].sequences));
  }
}

TEST_F(TaskRunTest, ContextIsComputedOnceAndChoicesOfOneTokenNotAtAll) {
  const auto session = NewSession(32);
  const std::vector<TokenSequence> short_ones = {{{0, 1, 2, 3}, 3}, {{0, 1, 2, 4}, 3}};
  ASSERT_TRUE(ScoreSequences(*scripted_.engine, *session, short_ones).ok());
  EXPECT_THAT(scripted_.model->run_sizes(), ElementsAre(3));
  const std::vector<TokenSequence> long_ones = {{{0, 1, 2, 4, 4, 1}, 3}, {{0, 1, 2, 3, 0, 1, 2}, 3}};
  ASSERT_TRUE(ScoreSequences(*scripted_.engine, *session, long_ones).ok());
  EXPECT_THAT(scripted_.model->run_sizes(), ElementsAre(3, 1, 2, 3));  // the context's last token again, for its logits
}

TEST_F(TaskRunTest, ItemsThatShareALongPrefixAreNeighboursAndOthersKeepTheirOrder) {
  const TaskFile file = FileOf(
      TaskProtocol::kChoice, {Choice({"cccccc a"}, {"a"}), Choice({"bbbbbbbb a"}, {"a"}), Choice({"aaaaaaaa a"}, {"a"}),
                              Choice({"bbbbbbbb b"}, {"a"}), Choice({"aaaaaaaa c"}, {"a"})});
  std::vector<size_t> order;
  for (const TaskRequest& request : MakeRequests(scripted_.engine->tokenizer(), file).requests) {
    order.push_back(request.item);
  }
  EXPECT_THAT(order, ElementsAre(0, 1, 3, 2, 4));
}

TEST_F(TaskRunTest, TextsAreCutIntoWindowsOfTheContextFilledUpToTheLeft) {
  scripted_ = testing::MakeScriptedEngine({"a", "b", "c", "<eos>"}, {}, log_);
  TaskItem item;
  item.text = "abcabbacbca";  // 11 tokens
  item.n_words = item.n_bytes = 1;
  const TaskFile file = FileOf(TaskProtocol::kRolling, {item});
  const TaskResult result = Run(file, 4);
  EXPECT_THAT(result.scores[0].n_tokens, ElementsAre(11));
  EXPECT_THAT(scripted_.model->run_sizes(), ElementsAre(4, 4, 1, 3));
  // Each window by hand: where it begins, and how many of its predictions were made before.
  const std::vector<TokenId> all = {3, 0, 1, 2, 0, 1, 1, 0, 2, 1, 2, 0};
  const auto session = NewSession(4);
  double expected = 0;
  for (const auto& [begin, n_skipped] : std::vector<std::pair<size_t, size_t>>{{0, 0}, {4, 0}, {7, 1}}) {
    std::vector<TokenSequence> window = {{std::vector<TokenId>(all.begin() + static_cast<ptrdiff_t>(begin),
                                                               all.begin() + static_cast<ptrdiff_t>(begin) + 5),
                                          1 + n_skipped}};
    expected += ScoreFromScratch(*scripted_.engine, *session, window)[0];
  }
  EXPECT_NEAR(result.scores[0].log_likelihoods[0], expected, 1e-9);
}

TEST_F(TaskRunTest, LongItemsAreSkippedAndSaySo) {
  const TaskFile file = FileOf(TaskProtocol::kChoice, {Choice({"abcabcabc"}, {"a"}), Choice({"a"}, {"a", "b"})});
  const TaskResult result = Run(file, 8);
  EXPECT_EQ(result.n_skipped, 1);
  EXPECT_FALSE(result.is_partial());
  EXPECT_THAT(result.scores[0].skipped, HasSubstr("it needs 10 tokens of context, there are 8"));
  EXPECT_THAT(result.scores[1].skipped, IsEmpty());
}

TEST_F(TaskRunTest, StoppedRunsKeepWhatWasMeasured) {
  const TaskFile file =
      FileOf(TaskProtocol::kChoice, {Choice({"ab"}, {"a"}), Choice({"b"}, {"a"}), Choice({"c"}, {"a"})});
  TaskCallbacks callbacks;
  callbacks.keep_going = [](const TaskResult& so_far) { return so_far.scores.size() < 2; };
  const TaskResult result = Run(file, 8, callbacks);
  EXPECT_EQ(result.scores.size(), 2u);
  EXPECT_TRUE(result.is_partial());
  EXPECT_EQ(result.n_items, 3);
}

TEST_F(TaskRunTest, AnswersAreGreedyAndEndAtTheirStops) {
  scripted_ = testing::MakeScriptedEngine(kLetters, {{2, 0}, {3, 3}, {4, 1}, {5, 4}, {6, 2}}, log_);
  TaskItem item;
  item.text = "abc";
  item.answers = {"x", "A b"};
  const TaskResult result = Run(FileOf(TaskProtocol::kTriviaQa, {item}), 200);
  EXPECT_EQ(result.scores[0].text, "a b");
  EXPECT_THAT(result.scores[0].values, Each(1.0));
}

TEST_F(TaskRunTest, AStoppedAnswerIsNotCounted) {
  TaskItem item;
  item.text = "abc";
  item.answers = {"x"};
  int n_asked = 0;
  TaskCallbacks callbacks;
  callbacks.keep_going = [&](const TaskResult&) { return ++n_asked < 3; };
  const TaskResult result = Run(FileOf(TaskProtocol::kGsm8k, {item}), 200, callbacks);
  EXPECT_THAT(result.scores, IsEmpty());
  EXPECT_TRUE(result.is_partial());
}

TEST_F(TaskRunTest, AnswersThatTheContextCutsShortAreMarkedAndCounted) {
  TaskItem item;
  item.text = "abc";
  item.answers = {"x"};
  scripted_ = testing::MakeScriptedEngine(kLetters, {{2, 0}, {3, 0}, {4, 1}, {5, 4}}, log_);
  const TaskFile file = FileOf(TaskProtocol::kTriviaQa, {item});
  const TaskResult cut = Run(file, 5);
  EXPECT_TRUE(cut.scores[0].is_truncated);
  EXPECT_EQ(cut.n_truncated, 1);
  EXPECT_EQ(cut.scores[0].text, "aab");
  const TaskResult whole = Run(file, 200);
  EXPECT_FALSE(whole.scores[0].is_truncated);
  EXPECT_EQ(whole.n_truncated, 0);
}

TEST(TaskRunBroken, ModelsWithoutProbabilitiesAreRefusedByItemAndLine) {
  NullLogger log;
  const std::string path = testing::TinyModel("tiny-llama");
  const TensorInfo norm = *testing::OpenGguf(path)->FindTensor("output_norm.weight");
  std::string bytes = testing::ReadFile(path);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(bytes.data() + norm.offset, &nan, sizeof nan);
  const testing::TemporaryFile broken(bytes, ".gguf");
  const auto engine = testing::OpenTinyEngine(broken.path(), nullptr, log);
  SessionOptions options;
  options.n_ctx = 32;
  const auto session = engine->NewSession(options);
  ASSERT_TRUE(session.ok());
  TaskItem item;
  item.id = "q7";
  item.line = 12;
  item.choices = {"a", "b"};
  item.answers = {"x"};
  for (const TaskProtocol protocol : {TaskProtocol::kChoice, TaskProtocol::kRolling, TaskProtocol::kTriviaQa}) {
    TaskFile file = FileOf(protocol, {item});
    file.path = "dir/x.jsonl";
    TaskRequests requests;
    requests.requests.push_back({.item = 0, .impossible = "", .sequences = {{{1, 2, 3}, 1}}, .n_positions = 3});
    if (protocol == TaskProtocol::kChoice) requests.requests[0].sequences.push_back({{1, 2, 4}, 1});
    const auto result = RunTask(*engine, **session, file, requests);
    ASSERT_EQ(result.status().code(), StatusCode::kCorruption) << TaskProtocolName(protocol);
    EXPECT_THAT(result.status().message(), HasSubstr("dir/x.jsonl:12: 'q7': the model gives no probabilities"));
  }
}

// Twice the same item, with room for all: without forgetting, the second would find all of its experts in memory.
TEST(TaskRunUnderAPolicy, ItemsBeginWithNothingInMemory) {
  NullLogger log;
  testing::StreamSetup setup;
  setup.expert_policy.policy = ParseExpertPolicy("cache-prior:0.5").value();
  const auto engine = testing::OpenTinyEngine(testing::TinyModel("tiny-qwen3moe-quantized"), &setup, log);
  if (engine == nullptr) GTEST_SKIP() << "this system cannot stream";
  SessionOptions options;
  options.n_ctx = 64;
  options.n_batch = 1;
  const auto session = engine->NewSession(options);
  ASSERT_TRUE(session.ok());
  const TaskFile file = FileOf(TaskProtocol::kRolling, std::vector<TaskItem>(2));
  TaskRequests requests;
  for (size_t item = 0; item < 2; ++item) {
    TokenSequence sequence{testing::RandomTokens(*engine, 48), 1};
    requests.requests.push_back({.item = item, .impossible = "", .sequences = {sequence}, .n_positions = 47});
  }
  std::vector<int64_t> misses;
  TaskCallbacks callbacks;
  size_t n_seen = 0;
  callbacks.keep_going = [&](const TaskResult& so_far) {
    if (so_far.scores.size() > n_seen) misses.push_back(engine->stream()->stats().cache.n_misses);
    n_seen = so_far.scores.size();
    return true;
  };
  const auto result = RunTask(*engine, **session, file, requests, callbacks);
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  ASSERT_EQ(misses.size(), 2u);
  EXPECT_GT(misses[0], 0);
  EXPECT_GT(misses[1], misses[0]);
}

TEST_F(TaskRunTest, TokensThatTheModelDoesNotHaveAreRefused) {
  scripted_ = testing::MakeScriptedEngine(kLetters, {}, log_, 256, nullptr, /*n_model_vocab=*/3);
  const TaskFile file = FileOf(TaskProtocol::kChoice, {Choice({"ab"}, {"a"})});
  const auto session = NewSession(16);
  const auto result = RunTask(*scripted_.engine, *session, file, MakeRequests(scripted_.engine->tokenizer(), file));
  EXPECT_EQ(result.status().code(), StatusCode::kCorruption);
}

// On real forward passes, where sharing could go wrong in the last bit.
TEST(ScoreSequences, SharedPrefixesGiveTheSameBitsAsNone) {
  NullLogger log;
  for (const std::string name : {"tiny-llama", "tiny-llama-quantized", "tiny-qwen3moe-quantized"}) {
    testing::StreamSetup streamed;
    streamed.cache_share = 0.5;
    for (testing::StreamSetup* setup : {static_cast<testing::StreamSetup*>(nullptr), &streamed}) {
      const auto engine = testing::OpenTinyEngine(testing::TinyModel(name), setup, log);
      if (engine == nullptr) continue;  // this system cannot stream
      SessionOptions options;
      options.n_ctx = 96;
      auto session = engine->NewSession(options);
      auto fresh = engine->NewSession(options);
      ASSERT_TRUE(session.ok() && fresh.ok());
      const std::vector<TokenId> random = testing::RandomTokens(*engine, 96);
      const auto sequence = [&](size_t n_shared, size_t n_context, size_t n_tokens) {  // each with an end of its own
        TokenSequence made{{random.begin(), random.begin() + static_cast<ptrdiff_t>(n_shared)}, n_context};
        for (size_t i = n_shared; i < n_tokens; ++i) made.tokens.push_back(random[(i * 7 + n_tokens) % random.size()]);
        return made;
      };
      const std::vector<std::vector<TokenSequence>> items = {
          {sequence(60, 60, 61), sequence(60, 60, 75), sequence(60, 60, 62)},  // one context
          {sequence(64, 60, 80), sequence(64, 60, 90)},                        // beginning alike, too
          {sequence(40, 50, 55), sequence(40, 45, 58)},                        // contexts of their own
          {sequence(1, 1, 30)}};
      for (const std::vector<TokenSequence>& sequences : items) {
        const auto scores = ScoreSequences(*engine, **session, sequences);
        ASSERT_TRUE(scores.ok()) << scores.status().ToString();
        EXPECT_EQ(*scores, ScoreFromScratch(*engine, **fresh, sequences)) << name;
      }
    }
  }
}

}  // namespace
}  // namespace pantry
