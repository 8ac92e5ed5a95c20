// SPDX-License-Identifier: Apache-2.0
// Whole models: results must not depend on threads, on how a prompt is cut into batches, or on what was computed before.
//
// Every tiny model of testdata/models runs with every instruction set that this CPU has, and logits are compared bit for bit; one model of
// each family also with a context of several tiles of attention.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/rng.h"
#include "compute/kernels/attention/attention.h"
#include "engine/engine.h"
#include "engine/generate.h"
#include "engine/scripted_engine.h"
#include "io/faulty_reader.h"
#include "support/test_paths.h"
#include "support/tiny_engine.h"

namespace pantry {
namespace {

constexpr int64_t kContext = 192;
constexpr size_t kPromptTokens = 150;  // not a multiple of any batch
constexpr int64_t kAnswerTokens = 12;

// Three tiles of attention, the last of them begun: rows of a batch and single tokens then meet one, two and three.
constexpr int64_t kLongContext = 704;
constexpr size_t kLongPromptTokens = 600;
static_assert(kLongPromptTokens > 2 * kAttentionTile && kLongPromptTokens % kAttentionTile != 0);

std::vector<Isa> SupportedIsas() {
  std::vector<Isa> isas;
  for (const Isa isa : kBuildIsas) {
    if (IsaSupported(isa)) isas.push_back(isa);
  }
  return isas;
}

std::vector<TokenId> RandomPrompt(const Engine& engine, size_t n_tokens, uint64_t seed = 11) {
  Rng rng(seed);
  std::vector<TokenId> prompt;
  for (size_t i = 0; i < n_tokens; ++i) {
    prompt.push_back(static_cast<TokenId>(rng.NextU64() % static_cast<uint64_t>(engine.shape().n_vocab)));
  }
  return prompt;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && !a.empty() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class DeterminismTest : public ::testing::TestWithParam<std::tuple<std::string, Isa>> {
 protected:
  // Most tiny models have no tokenizer, so the engine is put together from parts.
  std::unique_ptr<Engine> Open(int n_threads) {
    EngineParts parts;
    parts.pool = std::make_unique<ThreadPool>(n_threads);
    auto file = GgufFile::Open(testing::TestData("models/" + std::get<0>(GetParam()) + ".gguf"));
    EXPECT_TRUE(file.ok()) << file.status().ToString();
    if (!file.ok()) return nullptr;
    auto model = Model::Load(**file, std::get<1>(GetParam()), *parts.pool, log_, {});
    EXPECT_TRUE(model.ok()) << model.status().ToString();
    if (!model.ok()) return nullptr;
    parts.model = std::move(model).value();
    parts.file = std::move(file).value();
    const auto n_vocab = static_cast<size_t>(parts.model->shape().n_vocab);
    parts.tokenizer = std::make_unique<testing::WordTokenizer>(std::vector<std::string>(n_vocab, "word"));
    return Engine::FromParts(std::move(parts), log_);
  }
  static std::unique_ptr<Session> NewSession(Engine& engine, int32_t n_batch, KvType kv_type = KvType::kF16,
                                             int64_t n_ctx = kContext) {
    SessionOptions options;
    options.n_ctx = n_ctx;
    options.n_batch = n_batch;
    options.k_type = kv_type;
    options.v_type = kv_type;
    auto session = engine.NewSession(options);
    EXPECT_TRUE(session.ok()) << session.status().ToString();
    return std::move(session).value();
  }
  // The logits of all positions one after another.
  static std::vector<float> AllLogits(Session& session, std::span<const TokenId> prompt) {
    std::vector<float> all;
    const Status status = session.FeedAll(
        prompt, [&](int64_t, std::span<const float> logits) { all.insert(all.end(), logits.begin(), logits.end()); });
    EXPECT_TRUE(status.ok()) << status.ToString();
    return all;
  }
  static std::vector<float> LastLogits(Session& session, std::span<const TokenId> prompt) {
    const Status status = session.Feed(prompt);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return {session.logits().begin(), session.logits().end()};
  }
  static std::vector<TokenId> Greedy(Engine& engine, Session& session, std::span<const TokenId> prompt) {
    GenerateOptions options;
    options.sampling.temperature = 0;
    options.max_tokens = kAnswerTokens;
    options.ignore_eos = true;
    const auto result = Generate(engine, session, prompt, options, {});
    EXPECT_TRUE(result.ok()) << result.status().ToString();
    return result->tokens;
  }
  NullLogger log_;
};

TEST_P(DeterminismTest, LogitsAndAnswerAreTheSameForAnyThreadsAndBatches) {
  const auto reference_engine = Open(1);
  ASSERT_NE(reference_engine, nullptr);
  const std::vector<TokenId> prompt = RandomPrompt(*reference_engine, kPromptTokens);
  const auto reference_session = NewSession(*reference_engine, 512);
  const std::vector<float> expected = AllLogits(*reference_session, prompt);
  ASSERT_TRUE(std::all_of(expected.begin(), expected.end(), [](float x) { return std::isfinite(x); }));
  const std::vector<TokenId> answer = Greedy(*reference_engine, *reference_session, prompt);
  ASSERT_EQ(answer.size(), static_cast<size_t>(kAnswerTokens));

  for (int n_threads = 1; n_threads <= 4; ++n_threads) {
    const auto engine = Open(n_threads);
    ASSERT_NE(engine, nullptr);
    for (const int32_t n_batch : {1, 7, 64, 512}) {
      SCOPED_TRACE(fmt::format("{} threads, batches of {}", n_threads, n_batch));
      const auto session = NewSession(*engine, n_batch);
      EXPECT_TRUE(SameBits(AllLogits(*session, prompt), expected));
      EXPECT_EQ(Greedy(*engine, *session, prompt), answer);
    }
  }
}

TEST_P(DeterminismTest, ReusedPrefixGivesTheSameBitsAsAFreshStart) {
  const auto engine = Open(2);
  ASSERT_NE(engine, nullptr);
  const std::vector<TokenId> first = RandomPrompt(*engine, kPromptTokens);
  for (const size_t n_common : {size_t{1}, size_t{63}, size_t{64}, size_t{65}, size_t{130}, kPromptTokens - 1}) {
    SCOPED_TRACE(fmt::format("{} tokens in common", n_common));
    std::vector<TokenId> second = RandomPrompt(*engine, kPromptTokens, 12);
    std::copy_n(first.begin(), n_common, second.begin());
    second[n_common] = (first[n_common] + 1) % engine->shape().n_vocab;
    const auto session = NewSession(*engine, 64);
    LastLogits(*session, first);
    ASSERT_EQ(session->ReusePrefix(second), static_cast<int64_t>(n_common));
    const auto fresh = NewSession(*engine, 512);
    EXPECT_TRUE(SameBits(LastLogits(*session, std::span(second).subspan(n_common)), LastLogits(*fresh, second)));
  }
}

TEST_P(DeterminismTest, TruncatedAndFedAgainIsTheSame) {
  const auto engine = Open(2);
  ASSERT_NE(engine, nullptr);
  const std::vector<TokenId> prompt = RandomPrompt(*engine, kPromptTokens);
  const auto session = NewSession(*engine, 64);
  const std::vector<float> expected = LastLogits(*session, prompt);
  Greedy(*engine, *session, prompt);
  session->Truncate(70);
  LastLogits(*session, RandomPrompt(*engine, 40, 13));
  session->Truncate(70);
  EXPECT_TRUE(SameBits(LastLogits(*session, std::span(prompt).subspan(70)), expected));
}

TEST_P(DeterminismTest, EveryKvTypeStaysCloseToF32AndIsDeterministic) {
  const auto engine = Open(2);
  ASSERT_NE(engine, nullptr);
  const std::vector<TokenId> prompt = RandomPrompt(*engine, kPromptTokens);
  const auto exact_session = NewSession(*engine, 64, KvType::kF32);
  const std::vector<float> exact = LastLogits(*exact_session, prompt);
  double norm = 0;
  for (const float x : exact) norm += double{x} * x;
  for (const KvType type : {KvType::kF16, KvType::kQ8_0, KvType::kQ4_0}) {
    if (engine->shape().head_dim % KvBlock(type) != 0) continue;  // refused; engine's own test
    SCOPED_TRACE(KvTypeName(type));
    const auto whole = NewSession(*engine, 512, type);
    const auto cut = NewSession(*engine, 7, type);
    const std::vector<float> logits = LastLogits(*whole, prompt);
    EXPECT_TRUE(SameBits(logits, LastLogits(*cut, prompt)));
    double error = 0;
    for (size_t i = 0; i < exact.size(); ++i) error += std::pow(double{logits[i]} - exact[i], 2);
    // Measured at most 0.1 % (F16, 11 bits), 2 % (Q8_0, 7 bits) and 21 % (Q4_0, 3 bits) of the logits' length; a model with quantised weights rounds its
    // activations to 8 bits too, which turns the smallest difference into 1.5 %.
    const bool is_quantized = std::get<0>(GetParam()).find("quantized") != std::string::npos;
    // Where there are experts the smallest difference may let a token choose another one.
    const double bound = engine->shape().has_experts()           ? 0.5
                         : type == KvType::kQ4_0                 ? 0.3
                         : type == KvType::kF16 && !is_quantized ? 2e-3
                                                                 : 5e-2;
    EXPECT_LT(std::sqrt(error / norm), bound);
    EXPECT_GT(error, 0);
  }
}

std::string ParamName(const ::testing::TestParamInfo<std::tuple<std::string, Isa>>& param) {
  std::string name = std::get<0>(param.param) + "_" + std::string(IsaName(std::get<1>(param.param)));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(TinyModels, DeterminismTest,
                         ::testing::Combine(::testing::ValuesIn(testing::TinyModels()),
                                            ::testing::ValuesIn(SupportedIsas())),
                         ParamName);

// One model of each family: full and windowed attention, and groups of one, two and four heads.
std::vector<std::string> FamilyModels() {
  return {"tiny-gemma2",     "tiny-gemma3", "tiny-gpt-oss",  "tiny-llama",    "tiny-llama-quantized",   "tiny-phi3",
          "tiny-qwen2-yarn", "tiny-qwen3",  "tiny-qwen2moe", "tiny-qwen3moe", "tiny-qwen3moe-quantized"};
}

// Scalar code is more than ten times slower; its tiles are compared in the tests of attention.
std::vector<Isa> VectorIsas() {
  std::vector<Isa> isas = SupportedIsas();
  if (isas.size() > 1) std::erase(isas, Isa::kScalar);
  return isas;
}

class LongContextTest : public DeterminismTest {
 protected:
  // The logits of a prompt in batches of n_batch and of an answer, token by token, after it.
  static std::vector<float> PromptAndAnswerLogits(Engine& engine, int32_t n_batch, KvType kv_type) {
    const auto session = NewSession(engine, n_batch, kv_type, kLongContext);
    std::vector<float> all = AllLogits(*session, RandomPrompt(engine, kLongPromptTokens));
    for (const TokenId token : RandomPrompt(engine, kAnswerTokens, 14)) {
      const std::vector<float> logits = LastLogits(*session, {&token, 1});
      all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
  }
};

TEST_P(LongContextTest, LogitsAreTheSameForAnyThreadsAndBatches) {
  std::vector<float> expected;
  for (int n_threads = 1; n_threads <= 4; ++n_threads) {
    const auto engine = Open(n_threads);
    ASSERT_NE(engine, nullptr);
    for (const int32_t n_batch : {512, 64, 7, 1}) {
      SCOPED_TRACE(fmt::format("{} threads, batches of {}", n_threads, n_batch));
      const std::vector<float> logits = PromptAndAnswerLogits(*engine, n_batch, KvType::kF16);
      if (expected.empty()) expected = logits;
      EXPECT_TRUE(SameBits(logits, expected));
    }
  }
  EXPECT_EQ(expected.size() % (kLongPromptTokens + kAnswerTokens), size_t{0});
  EXPECT_TRUE(std::all_of(expected.begin(), expected.end(), [](float x) { return std::isfinite(x); }));
}

TEST_P(LongContextTest, EveryKvTypeIsTheSameForAnyBatches) {
  const auto engine = Open(3);
  ASSERT_NE(engine, nullptr);
  for (const KvType type : {KvType::kF32, KvType::kQ8_0, KvType::kQ4_0}) {
    if (engine->shape().head_dim % KvBlock(type) != 0) continue;  // refused; engine's own test
    SCOPED_TRACE(KvTypeName(type));
    EXPECT_TRUE(SameBits(PromptAndAnswerLogits(*engine, 7, type), PromptAndAnswerLogits(*engine, 512, type)));
  }
}

INSTANTIATE_TEST_SUITE_P(Families, LongContextTest,
                         ::testing::Combine(::testing::ValuesIn(FamilyModels()), ::testing::ValuesIn(VectorIsas())),
                         ParamName);

// Every call of a load may fail: each time a Status that names the file, never a crash, and never a half-loaded engine.
TEST(EngineLoad, DiskThatFailsAnywhereIsAnError) {
  const std::string path = testing::TestData("models/tiny-llama.gguf");
  NullLogger log;
  const auto load = [&](const FaultPlan& plan, int64_t* n_calls) -> Status {
    PANTRY_ASSIGN_OR_RETURN(auto file_reader, OpenFileReader(path));
    auto faulty = std::make_unique<FaultyReader>(std::move(file_reader), plan);
    const FaultyReader* counter = faulty.get();
    std::vector<std::unique_ptr<Reader>> shards;
    shards.push_back(std::move(faulty));
    PANTRY_ASSIGN_OR_RETURN(auto file, GgufFile::Open(std::move(shards)));
    const auto engine = Engine::Open(std::move(file), {}, log, {});
    if (engine.ok()) *n_calls = counter->n_calls();
    return engine.status();
  };
  int64_t n_calls = 0;
  ASSERT_TRUE(load({}, &n_calls).ok());
  ASSERT_GT(n_calls, 2);
  for (int64_t call = 0; call < n_calls; ++call) {
    FaultPlan plan;
    plan.fail_call = call;
    int64_t unused = 0;
    const Status status = load(plan, &unused);
    EXPECT_EQ(status.code(), StatusCode::kIoError) << "call " << call;
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("tiny-llama.gguf")) << "call " << call;
  }
}

TEST(EngineLoad, ImpossibleOptionsAreRefused) {
  NullLogger log;
  EngineOptions options;
  options.n_threads = -1;
  EXPECT_EQ(Engine::Open(testing::TestData("models/tiny-llama.gguf"), options, log, {}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(Engine::Open("/no/such/file.gguf", {}, log, {}).status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace pantry
