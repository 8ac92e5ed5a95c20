// SPDX-License-Identifier: Apache-2.0
// The C API through libpantry.so alone, on a tiny random-weight model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <string>
#include <vector>

#include "pantry/pantry.h"
#include "support/test_paths.h"

namespace {

using ::testing::HasSubstr;

const std::string kModel = pantry::testing::TestData("models/tiny-llama.gguf");

class CApiTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(pantry_engine_open(kModel.c_str(), nullptr, &engine_, &error_), PANTRY_OK) << error_.message;
    ASSERT_EQ(pantry_session_new(engine_, nullptr, &session_, &error_), PANTRY_OK) << error_.message;
  }
  void TearDown() override {
    pantry_session_free(session_);
    pantry_engine_close(engine_);
  }
  std::vector<int32_t> Tokenize(const std::string& text, bool parse_special = false) {
    std::vector<int32_t> tokens(1000);
    size_t n = 0;
    EXPECT_EQ(pantry_tokenize(engine_, text.data(), text.size(), true, parse_special, tokens.data(), tokens.size(), &n,
                              &error_),
              PANTRY_OK)
        << error_.message;
    tokens.resize(n);
    return tokens;
  }
  std::string Detokenize(const std::vector<int32_t>& tokens, bool special = false) {
    char text[1000];
    size_t n = 0;
    EXPECT_EQ(pantry_detokenize(engine_, tokens.data(), tokens.size(), special, text, sizeof(text), &n, &error_),
              PANTRY_OK)
        << error_.message;
    EXPECT_EQ(text[n], '\0');
    return std::string(text, n);
  }

  pantry_engine* engine_ = nullptr;
  pantry_session* session_ = nullptr;
  pantry_error error_ = {};
};

struct Answer {
  std::string text;
  std::vector<int32_t> tokens;
  size_t stop_after = SIZE_MAX;
};

bool Collect(void* user, int32_t token, const char* text, size_t n_bytes) {
  auto* answer = static_cast<Answer*>(user);
  EXPECT_EQ(std::strlen(text),
            std::string(text, n_bytes).find('\0') == std::string::npos ? n_bytes : std::strlen(text));
  answer->text.append(text, n_bytes);
  if (token >= 0) answer->tokens.push_back(token);
  return answer->tokens.size() < answer->stop_after;
}

TEST(CApi, VersionIsANumber) { EXPECT_THAT(pantry_version(), ::testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+")); }

TEST(CApi, MissingFileIsNotFoundAndNamed) {
  pantry_engine* engine = reinterpret_cast<pantry_engine*>(1);
  pantry_error error;
  EXPECT_EQ(pantry_engine_open("/no/such/model.gguf", nullptr, &engine, &error), PANTRY_NOT_FOUND);
  EXPECT_EQ(error.code, PANTRY_NOT_FOUND);
  EXPECT_THAT(error.message, HasSubstr("/no/such/model.gguf"));
  EXPECT_EQ(engine, nullptr);
  EXPECT_EQ(pantry_engine_open("/no/such/model.gguf", nullptr, &engine, nullptr), PANTRY_NOT_FOUND);
}

TEST(CApi, LongMessageIsCutToWholeCharacters) {
  std::string path = "/no/";
  for (int i = 0; i < 400; ++i) path += "\xC3\xA9";
  pantry_engine* engine = nullptr;
  pantry_error error;
  EXPECT_NE(pantry_engine_open(path.c_str(), nullptr, &engine, &error), PANTRY_OK);
  const std::string message = error.message;
  EXPECT_GE(message.size(), 509u);
  EXPECT_LT(message.size(), sizeof(error.message));
  size_t n_lead = 0;
  size_t n_continuation = 0;
  for (const char c : message) {
    n_lead += static_cast<unsigned char>(c) == 0xC3 ? 1 : 0;
    n_continuation += static_cast<unsigned char>(c) == 0xA9 ? 1 : 0;
  }
  EXPECT_EQ(n_lead, n_continuation);
}

TEST(CApi, NullArgumentsAreErrorsNotCrashes) {
  pantry_error error;
  size_t n = 0;
  pantry_session* session = nullptr;
  EXPECT_EQ(pantry_engine_open(nullptr, nullptr, nullptr, &error), PANTRY_INVALID_ARGUMENT);
  EXPECT_EQ(pantry_session_new(nullptr, nullptr, &session, &error), PANTRY_INVALID_ARGUMENT);
  EXPECT_EQ(pantry_tokenize(nullptr, "a", 1, true, false, nullptr, 0, &n, &error), PANTRY_INVALID_ARGUMENT);
  EXPECT_EQ(pantry_feed(nullptr, nullptr, 0, nullptr, nullptr, &error), PANTRY_INVALID_ARGUMENT);
  EXPECT_EQ(pantry_generate(nullptr, nullptr, 0, nullptr, nullptr, nullptr, nullptr, &error), PANTRY_INVALID_ARGUMENT);
  EXPECT_THAT(error.message, HasSubstr("session is NULL"));
  pantry_engine_close(nullptr);
  pantry_session_free(nullptr);
}

TEST(CApi, LoadReportsProgressAndCanBeCancelled) {
  struct Seen {
    int64_t done = 0;
    int64_t total = 0;
    bool go_on = true;
  } seen;
  pantry_engine_options options;
  pantry_engine_options_init(&options, sizeof(options));
  options.user = &seen;
  options.on_progress = [](void* user, int64_t done, int64_t total) {
    auto* s = static_cast<Seen*>(user);
    EXPECT_GE(done, s->done);
    s->done = done;
    s->total = total;
    return s->go_on;
  };
  pantry_engine* engine = nullptr;
  pantry_error error;
  ASSERT_EQ(pantry_engine_open(kModel.c_str(), &options, &engine, &error), PANTRY_OK) << error.message;
  EXPECT_GT(seen.total, 0);
  EXPECT_EQ(seen.done, seen.total);
  pantry_engine_close(engine);
  seen = {};
  seen.go_on = false;
  EXPECT_EQ(pantry_engine_open(kModel.c_str(), &options, &engine, &error), PANTRY_CANCELLED);
  EXPECT_EQ(engine, nullptr);
}

TEST(CApi, AStreamedRunStaysInItsBudgetAndTellsItsFigures) {
  const std::string model = pantry::testing::SharedData("data/models/tiny-thinker-Q8_0.gguf");
  if (model.empty()) GTEST_SKIP() << "the shared models are not there";
  pantry_error error;
  for (const char* const policy : {static_cast<const char*>(nullptr), "cache-prior:0.5"}) {
    pantry_engine_options options;
    pantry_engine_options_init(&options, sizeof(options));
    options.memory_bytes = int64_t{48} << 20;
    options.n_ctx = 64;
    options.n_batch = 16;
    options.expert_policy = policy;
    pantry_engine* engine = nullptr;
    ASSERT_EQ(pantry_engine_open(model.c_str(), &options, &engine, &error), PANTRY_OK) << error.message;
    pantry_session_options session_options;
    pantry_session_options_init(&session_options, sizeof(session_options));
    session_options.n_ctx = 64;
    session_options.n_batch = 16;
    pantry_session* session = nullptr;
    ASSERT_EQ(pantry_session_new(engine, &session_options, &session, &error), PANTRY_OK) << error.message;
    const int32_t prompt[] = {5, 77, 300};
    pantry_generate_options generate;
    pantry_generate_options_init(&generate, sizeof(generate));
    generate.max_tokens = 40;
    generate.ignore_eos = true;
    ASSERT_EQ(pantry_generate(session, prompt, 3, &generate, nullptr, nullptr, nullptr, &error), PANTRY_OK)
        << error.message;
    pantry_stream_figures figures = {};
    EXPECT_EQ(pantry_get_stream_figures(engine, &figures, &error), PANTRY_INVALID_ARGUMENT);
    figures.size = sizeof(figures);
    ASSERT_EQ(pantry_get_stream_figures(engine, &figures, &error), PANTRY_OK) << error.message;
    EXPECT_EQ(figures.budget_bytes, options.memory_bytes);
    EXPECT_GT(figures.cache_bytes, 0);
    EXPECT_LT(figures.cache_bytes, figures.budget_bytes);
    EXPECT_GT(figures.n_demanded, 39 * 6 * 4 - 1);
    EXPECT_GT(figures.bytes_read, 0);
    if (policy == nullptr) {
      EXPECT_EQ(figures.n_picks, 0);
      EXPECT_EQ(figures.weight_kept, 1);
      EXPECT_EQ(figures.excess_kl, 0);
    } else {
      EXPECT_EQ(figures.n_picks, 39 * 6 * 4);
      EXPECT_LT(figures.n_agreed, figures.n_picks);
      EXPECT_LT(figures.weight_kept, 1);
      EXPECT_GT(figures.excess_kl, 0);
    }
    pantry_session_free(session);
    pantry_engine_close(engine);
  }
  pantry_engine_options options;
  pantry_engine_options_init(&options, sizeof(options));
  options.expert_policy = "nearest";
  pantry_engine* engine = nullptr;
  EXPECT_EQ(pantry_engine_open(model.c_str(), &options, &engine, &error), PANTRY_INVALID_ARGUMENT);
}

TEST(CApi, ANeuronPolicyIsReadAndIdleWhereNoNeuronsLieAlone) {
  pantry_engine_options options;
  pantry_engine_options_init(&options, sizeof(options));
  EXPECT_EQ(options.neuron_policy, nullptr);
  pantry_engine* engine = nullptr;
  pantry_error error;
  for (const char* const policy : {"exact", "cache-prior:0.1"}) {
    options.neuron_policy = policy;
    ASSERT_EQ(pantry_engine_open(kModel.c_str(), &options, &engine, &error), PANTRY_OK) << error.message;
    pantry_engine_close(engine);
  }
  for (const char* const policy : {"nearest", "cache-prior:2", ""}) {
    options.neuron_policy = policy;
    EXPECT_EQ(pantry_engine_open(kModel.c_str(), &options, &engine, &error), PANTRY_INVALID_ARGUMENT) << policy;
    EXPECT_EQ(engine, nullptr);
  }
}

TEST(CApi, OptionsOfOtherVersionsAreUnderstood) {
  pantry_engine* engine = nullptr;
  pantry_error error;
  pantry_engine_options old;
  pantry_engine_options_init(&old, offsetof(pantry_engine_options, isa));  // a header that ended after n_threads
  EXPECT_EQ(old.size, offsetof(pantry_engine_options, isa));
  old.isa = reinterpret_cast<const char*>(1);  // not looked at
  ASSERT_EQ(pantry_engine_open(kModel.c_str(), &old, &engine, &error), PANTRY_OK) << error.message;
  pantry_engine_close(engine);

  struct {
    pantry_engine_options options;
    int64_t of_the_future;
  } future = {};
  pantry_engine_options_init(&future.options, sizeof(future));
  ASSERT_EQ(pantry_engine_open(kModel.c_str(), &future.options, &engine, &error), PANTRY_OK) << error.message;
  pantry_engine_close(engine);
  future.of_the_future = 1;
  EXPECT_EQ(pantry_engine_open(kModel.c_str(), &future.options, &engine, &error), PANTRY_UNSUPPORTED);

  pantry_engine_options unsized = {};
  EXPECT_EQ(pantry_engine_open(kModel.c_str(), &unsized, &engine, &error), PANTRY_INVALID_ARGUMENT);
  EXPECT_THAT(error.message, HasSubstr("_init"));
}

TEST(CApi, UnknownIsaNamesThoseThereAre) {
  pantry_engine_options options;
  pantry_engine_options_init(&options, sizeof(options));
  options.isa = "abacus";
  pantry_engine* engine = nullptr;
  pantry_error error;
  EXPECT_EQ(pantry_engine_open(kModel.c_str(), &options, &engine, &error), PANTRY_INVALID_ARGUMENT);
  EXPECT_THAT(error.message, HasSubstr("scalar"));
}

TEST(CApi, EngineMayBeClosedBeforeItsSession) {
  pantry_engine* engine = nullptr;
  pantry_session* session = nullptr;
  pantry_error error;
  ASSERT_EQ(pantry_engine_open(kModel.c_str(), nullptr, &engine, &error), PANTRY_OK) << error.message;
  ASSERT_EQ(pantry_session_new(engine, nullptr, &session, &error), PANTRY_OK) << error.message;
  pantry_engine_close(engine);
  const int32_t tokens[] = {1, 2};
  EXPECT_EQ(pantry_feed(session, tokens, 2, nullptr, nullptr, &error), PANTRY_OK) << error.message;
  pantry_session_free(session);
}

TEST_F(CApiTest, TextGoesToTokensAndBack) {
  const std::string text = "Hello, h\xC3\xA9llo <|im_end|>";
  const std::vector<int32_t> tokens = Tokenize(text);
  EXPECT_GT(tokens.size(), 3u);
  EXPECT_EQ(Detokenize(tokens), text);
}

TEST_F(CApiTest, SmallBufferSaysHowMuchIsNeeded) {
  const std::string text = "Hello there";
  const std::vector<int32_t> tokens = Tokenize(text);
  size_t n = 0;
  EXPECT_EQ(pantry_tokenize(engine_, text.data(), text.size(), true, false, nullptr, 0, &n, &error_),
            PANTRY_BUFFER_TOO_SMALL);
  EXPECT_EQ(n, tokens.size());
  std::vector<int32_t> small(tokens.size() - 1, -7);
  EXPECT_EQ(pantry_tokenize(engine_, text.data(), text.size(), true, false, small.data(), small.size(), &n, &error_),
            PANTRY_BUFFER_TOO_SMALL);
  EXPECT_EQ(small[0], -7);
  std::string exact(text.size(), '?');
  EXPECT_EQ(pantry_detokenize(engine_, tokens.data(), tokens.size(), false, exact.data(), exact.size(), &n, &error_),
            PANTRY_OK);
  EXPECT_EQ(exact, text);
}

TEST_F(CApiTest, ChatIsRenderedAndUserTextStaysText) {
  const std::string json = R"([{"role": "user", "content": "<|im_end|>"}])";
  std::vector<int32_t> tokens(1000);
  size_t n = 0;
  ASSERT_EQ(pantry_render_chat(engine_, json.data(), json.size(), tokens.data(), tokens.size(), &n, &error_), PANTRY_OK)
      << error_.message;
  tokens.resize(n);
  EXPECT_THAT(Detokenize(tokens, true), HasSubstr("<|im_end|>"));
  const std::vector<int32_t> control = Tokenize("<|im_end|>", true);
  const auto n_control = std::count(tokens.begin(), tokens.end(), control.back());
  const std::string plain_json = R"({"messages": [{"role": "user", "content": "x"}], "add_generation_prompt": true})";
  std::vector<int32_t> plain(1000);
  ASSERT_EQ(pantry_render_chat(engine_, plain_json.data(), plain_json.size(), plain.data(), plain.size(), &n, &error_),
            PANTRY_OK)
      << error_.message;
  plain.resize(n);
  EXPECT_EQ(n_control, std::count(plain.begin(), plain.end(), control.back()));
  const std::string bad = "[{";
  EXPECT_EQ(pantry_render_chat(engine_, bad.data(), bad.size(), plain.data(), plain.size(), &n, &error_),
            PANTRY_INVALID_ARGUMENT);
}

TEST_F(CApiTest, FeedGivesLogitsAndTruncateTakesThemAway) {
  size_t n = 99;
  EXPECT_EQ(pantry_logits(session_, &n), nullptr);
  EXPECT_EQ(n, 0u);
  const std::vector<int32_t> tokens = Tokenize("abc");
  ASSERT_EQ(pantry_feed(session_, tokens.data(), tokens.size(), nullptr, nullptr, &error_), PANTRY_OK)
      << error_.message;
  ASSERT_NE(pantry_logits(session_, &n), nullptr);
  EXPECT_EQ(n, static_cast<size_t>(pantry_vocabulary_size(engine_)));
  EXPECT_EQ(pantry_session_n_tokens(session_), static_cast<int64_t>(tokens.size()));
  EXPECT_EQ(pantry_reuse_prefix(session_, tokens.data(), tokens.size()), static_cast<int64_t>(tokens.size()) - 1);
  pantry_truncate(session_, 0);
  EXPECT_EQ(pantry_logits(session_, &n), nullptr);
  const int32_t bad = -3;
  EXPECT_EQ(pantry_feed(session_, &bad, 1, nullptr, nullptr, &error_), PANTRY_INVALID_ARGUMENT);
}

TEST_F(CApiTest, APromptCanBeCancelledBetweenBatches) {
  const std::vector<int32_t> prompt = Tokenize("Once upon a time there was a prompt of some length");
  const auto stop = [](void* user, int64_t n_done, int64_t n_total) {
    *static_cast<int64_t*>(user) = n_total - n_done;
    return false;
  };
  int64_t n_left = -1;
  EXPECT_EQ(pantry_feed(session_, prompt.data(), prompt.size(), stop, &n_left, &error_), PANTRY_CANCELLED);
  EXPECT_GE(n_left, 0);
  pantry_truncate(session_, 0);

  pantry_generate_options options;
  pantry_generate_options_init(&options, sizeof(options));
  options.on_prompt = stop;
  pantry_generate_result result = {};
  result.size = sizeof(result);
  n_left = -1;
  ASSERT_EQ(pantry_generate(session_, prompt.data(), prompt.size(), &options, nullptr, &n_left, &result, &error_),
            PANTRY_OK);
  EXPECT_EQ(result.stop_reason, PANTRY_STOP_CANCELLED);
  EXPECT_EQ(result.n_generated, 0);
  EXPECT_GE(n_left, 0);
}

TEST_F(CApiTest, AnArrayOfMessagesCannotBringKeysOfItsOwn) {
  const std::string json = R"([{"role": "user", "content": "hi"}], "add_generation_prompt": false, "x": [1])";
  size_t n = 0;
  std::vector<int32_t> tokens(1000);
  EXPECT_EQ(pantry_render_chat(engine_, json.data(), json.size(), tokens.data(), tokens.size(), &n, &error_),
            PANTRY_INVALID_ARGUMENT);
}

TEST_F(CApiTest, GenerateIsTheSameEachTimeAndCanBeCancelled) {
  const std::vector<int32_t> prompt = Tokenize("Once upon");
  pantry_generate_options options;
  pantry_generate_options_init(&options, sizeof(options));
  options.max_tokens = 8;
  options.ignore_eos = true;
  pantry_generate_result result = {};
  result.size = sizeof(result);
  Answer first;
  ASSERT_EQ(pantry_generate(session_, prompt.data(), prompt.size(), &options, Collect, &first, &result, &error_),
            PANTRY_OK)
      << error_.message;
  EXPECT_EQ(result.stop_reason, PANTRY_STOP_MAX_TOKENS);
  EXPECT_EQ(result.n_generated, 8);
  EXPECT_EQ(result.n_prompt, static_cast<int64_t>(prompt.size()));
  EXPECT_EQ(first.tokens.size(), 8u);

  Answer second;
  ASSERT_EQ(pantry_generate(session_, prompt.data(), prompt.size(), &options, Collect, &second, &result, &error_),
            PANTRY_OK);
  EXPECT_EQ(second.tokens, first.tokens);
  EXPECT_EQ(second.text, first.text);
  EXPECT_EQ(result.n_cached, static_cast<int64_t>(prompt.size()) - 1);

  Answer cancelled;
  cancelled.stop_after = 3;
  ASSERT_EQ(pantry_generate(session_, prompt.data(), prompt.size(), &options, Collect, &cancelled, &result, &error_),
            PANTRY_OK);
  EXPECT_EQ(result.stop_reason, PANTRY_STOP_CANCELLED);
  EXPECT_EQ(cancelled.tokens.size(), 3u);

  pantry_sampling sampling;
  pantry_sampling_init(&sampling, sizeof(sampling));
  EXPECT_FLOAT_EQ(sampling.temperature, 0.8f);
  sampling.seed = 1234;
  options.sampling = &sampling;
  Answer seeded;
  ASSERT_EQ(pantry_generate(session_, prompt.data(), prompt.size(), &options, Collect, &seeded, nullptr, nullptr),
            PANTRY_OK);
  EXPECT_NE(seeded.tokens, first.tokens);
  sampling.temperature = -1;
  EXPECT_EQ(pantry_generate(session_, prompt.data(), prompt.size(), &options, nullptr, nullptr, nullptr, &error_),
            PANTRY_INVALID_ARGUMENT);
}

TEST_F(CApiTest, StopTextEndsTheAnswer) {
  const std::vector<int32_t> prompt = Tokenize("Once upon");
  pantry_sampling sampling;
  pantry_sampling_init(&sampling, sizeof(sampling));
  pantry_generate_options options;
  pantry_generate_options_init(&options, sizeof(options));
  options.sampling = &sampling;
  options.max_tokens = 40;
  options.ignore_eos = true;
  Answer free_run;
  ASSERT_EQ(pantry_generate(session_, prompt.data(), prompt.size(), &options, Collect, &free_run, nullptr, &error_),
            PANTRY_OK);
  ASSERT_GT(free_run.text.size(), 8u);
  size_t at = free_run.text.size() / 2;
  while (at > 0 && (static_cast<unsigned char>(free_run.text[at]) & 0xC0) == 0x80) --at;
  const std::string stop = free_run.text.substr(at, 4);
  const char* const stops[] = {stop.c_str()};
  options.stop = stops;
  options.n_stop = 1;
  pantry_generate_result result = {};
  result.size = sizeof(result);
  Answer stopped;
  ASSERT_EQ(pantry_generate(session_, prompt.data(), prompt.size(), &options, Collect, &stopped, &result, &error_),
            PANTRY_OK);
  EXPECT_EQ(result.stop_reason, PANTRY_STOP_TEXT);
  EXPECT_EQ(stopped.text, free_run.text.substr(0, free_run.text.find(stop)));
}

TEST_F(CApiTest, PromptLongerThanTheContextSaysTheFix) {
  pantry_session_options options;
  pantry_session_options_init(&options, sizeof(options));
  EXPECT_EQ(options.n_batch, 512);
  options.n_ctx = 4;
  options.kv_type = "f32";
  pantry_session* small = nullptr;
  ASSERT_EQ(pantry_session_new(engine_, &options, &small, &error_), PANTRY_OK) << error_.message;
  EXPECT_EQ(pantry_session_context(small), 4);
  const std::vector<int32_t> prompt = {1, 2, 3, 4, 5};
  EXPECT_EQ(pantry_generate(small, prompt.data(), prompt.size(), nullptr, nullptr, nullptr, nullptr, &error_),
            PANTRY_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("prompt has 5 tokens, context is 4"));
  pantry_session_free(small);
  options.kv_type = "int3";
  EXPECT_EQ(pantry_session_new(engine_, &options, &small, &error_), PANTRY_INVALID_ARGUMENT);
}

}  // namespace
