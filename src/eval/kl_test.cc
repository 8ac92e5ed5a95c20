// SPDX-License-Identifier: Apache-2.0
#include "eval/kl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "engine/scripted_engine.h"
#include "eval/perplexity.h"
#include "support/temporary_files.h"
#include "support/test_paths.h"
#include "support/tiny_engine.h"

namespace pantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kText =
    "The pantry is a cool room where food is kept until it is wanted. Flour and rice stand at the back, since they "
    "last for months; bread and fruit lie near the door. Whoever cooks takes from it what a meal needs, and no more.";

double LogOf(const KlRow& row, size_t token) { return row.top - static_cast<double>(row.step) * row.steps[token]; }

class KlTest : public ::testing::Test {
 protected:
  NullLogger log_;
  testing::TemporaryFolder folder_;
  std::string path_ = folder_.path() + "/reference.kl";
  WindowOptions options_;
  void SetUp() override { options_.n_ctx = 32; }

  std::unique_ptr<Engine> OpenModel(const std::string& name) {
    EngineOptions options;
    options.n_threads = 2;
    auto engine = Engine::Open(testing::TestData("models/" + name + ".gguf"), options, log_, {});
    EXPECT_TRUE(engine.ok()) << engine.status().ToString();
    return std::move(engine).value();
  }
  Status Save(Engine& engine, const KlProgress& keep_going = {}) {
    auto head = MakeKlHead(engine, kText, options_, "tiny");
    return head.ok() ? SaveReference(engine, std::move(head).value(), options_, path_, keep_going) : head.status();
  }
  Result<KlFile> Open() {
    PANTRY_ASSIGN_OR_RETURN(std::unique_ptr<Reader> reader, OpenFileReader(path_));
    return KlFile::Open(std::move(reader));
  }
  std::string Bytes() { return testing::ReadFile(path_); }
  std::string ErrorWith(const std::string& bytes) {
    const auto file =
        KlFile::Open(MakeMemoryReader("x.kl", {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}));
    EXPECT_FALSE(file.ok());
    return file.ok() ? "" : std::string(file.status().message());
  }
};

TEST_F(KlTest, AModelHasNoDivergenceFromItselfAndThePerplexityOfPerplexity) {
  const auto engine = OpenModel("tiny-llama");
  ASSERT_TRUE(Save(*engine).ok());
  auto reference = Open();
  ASSERT_TRUE(reference.ok()) << reference.status().ToString();
  const auto result = CompareWithReference(*engine, *reference, options_);
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  const auto perplexity = MeasurePerplexity(*engine, kText, options_);
  ASSERT_TRUE(perplexity.ok()) << perplexity.status().ToString();
  EXPECT_EQ(result->n_positions, perplexity->n_tokens);
  EXPECT_NEAR(result->ppl.value, perplexity->ppl, 1e-9 * perplexity->ppl);
  EXPECT_NEAR(result->ppl.standard_error, perplexity->ppl_stderr, 1e-6 * perplexity->ppl_stderr);
  EXPECT_EQ(result->ppl_ratio.value, 1);
  EXPECT_EQ(result->ppl_ratio.standard_error, 0);
  EXPECT_EQ(result->same_top.value, 1);
  EXPECT_LT(result->max, 1e-7);  // what 16 bits lose
  EXPECT_GE(result->mean.value, 0);
}

TEST_F(KlTest, WritesNoRowThatItWouldNotRead) {
  KlHead head;
  head.n_vocab = 3;
  head.n_ctx = 4;
  head.n_windows = 1;
  head.tokens = {0, 0, 0, 1};
  auto writer = KlFileWriter::Create(path_, head);
  ASSERT_TRUE(writer.ok()) << writer.status().ToString();
  const std::vector<float> logits = {0, -std::numeric_limits<float>::infinity(), 0};
  const Status status = writer->Add(logits, 0, std::log(2.0), 1);
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_THAT(status.message(), HasSubstr("row 0: token 1"));
  ASSERT_TRUE(writer->Add(logits, 0, std::log(2.0), 2).ok());  // the same row, with what can follow
  ASSERT_TRUE(writer->Publish().ok());
  auto file = Open();
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  EXPECT_NEAR(file->Row(0).value().loss, std::log(2.0), 1e-12);
}

// Twice the same window, with room for all: without forgetting, the second would find all of its experts in memory.
TEST_F(KlTest, UnderAPolicyWindowsBeginWithNothingInMemory) {
  testing::StreamSetup setup;
  setup.expert_policy.policy = ParseExpertPolicy("cache-prior:0.5").value();
  const auto engine = testing::OpenTinyEngine(testing::TinyModel("tiny-qwen3moe-quantized"), &setup, log_);
  if (engine == nullptr) GTEST_SKIP() << "this system cannot stream";
  options_.n_batch = 1;
  KlHead head;
  head.n_vocab = engine->shape().n_vocab;
  head.n_ctx = 32;
  head.n_windows = 2;
  const std::vector<TokenId> window = testing::RandomTokens(*engine, 32);
  for (int i = 0; i < 2; ++i) head.tokens.insert(head.tokens.end(), window.begin(), window.end());
  int64_t n_misses_of_first = 0;
  const auto n_misses = [&] { return engine->stream()->stats().cache.n_misses; };
  const auto keep_going = [&](int64_t n_done, int64_t) {
    if (n_done <= 32) n_misses_of_first = n_misses();
    return true;
  };
  const Status saved = SaveReference(*engine, head, options_, path_, keep_going);
  ASSERT_TRUE(saved.ok()) << saved.ToString();
  EXPECT_GT(n_misses_of_first, 0);
  EXPECT_GT(n_misses(), n_misses_of_first);
}

TEST_F(KlTest, AnotherModelsDivergenceIsTheSumOverTheVocabulary) {
  const std::vector<std::string> words = {"a", "e", "n", "o", "t", " "};
  const auto scripted = testing::MakeScriptedEngine(words, {{16, 1}, {20, 2}}, log_);
  const auto changed = testing::MakeScriptedEngine(words, {{16, 2}, {20, 2}, {25, 5}}, log_);
  Engine* const engine = scripted.engine.get();
  Engine* const other = changed.engine.get();
  options_.max_chunks = 1;
  ASSERT_TRUE(Save(*engine).ok());
  auto reference = Open();
  ASSERT_TRUE(reference.ok());
  const auto result = CompareWithReference(*other, *reference, options_);
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  // By the definition, from the logits of both.
  const std::vector<TokenId>& tokens = reference->head().tokens;
  std::vector<std::vector<float>> p;
  std::vector<std::vector<float>> q;
  for (auto& [model, rows] : {std::pair(engine, &p), std::pair(other, &q)}) {
    SessionOptions session_options;
    session_options.n_ctx = 32;
    auto session = model->NewSession(session_options);
    ASSERT_TRUE(session.ok());
    ASSERT_TRUE((*session)
                    ->FeedAll(tokens,
                              [to = rows](int64_t, std::span<const float> logits) {
                                to->emplace_back(logits.begin(), logits.end());
                              })
                    .ok());
  }
  double sum = 0;
  for (size_t at = 16; at < 31; ++at) {
    double sum_p = 0;
    double sum_q = 0;
    for (size_t i = 0; i < p[at].size(); ++i) sum_p += std::exp(static_cast<double>(p[at][i]));
    for (size_t i = 0; i < p[at].size(); ++i) sum_q += std::exp(static_cast<double>(q[at][i]));
    for (size_t i = 0; i < p[at].size(); ++i) {
      const double share = std::exp(static_cast<double>(p[at][i])) / sum_p;
      sum += share * (p[at][i] - std::log(sum_p) - q[at][i] + std::log(sum_q));
    }
  }
  EXPECT_GT(sum, 1);
  EXPECT_NEAR(result->mean.value, sum / 15, 1e-6 + 1e-4 * sum / 15);
  EXPECT_EQ(result->n_positions, 15);
}

TEST_F(KlTest, RowsAreRightToTheStep) {
  KlHead head;
  head.model = "by hand";
  head.n_vocab = 5;
  head.n_ctx = 4;
  head.n_windows = 1;
  head.tokens = {0, 1, 2, 3};
  auto writer = KlFileWriter::Create(path_, head);
  ASSERT_TRUE(writer.ok()) << writer.status().ToString();
  const std::vector<float> logits = {1, 4, -2, -std::numeric_limits<float>::infinity(), 3.5f};
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - 4);
  ASSERT_TRUE(writer->Add(logits, 4, std::log(sum), 2).ok());
  EXPECT_FALSE(std::filesystem::exists(path_));  // nobody sees half a file
  ASSERT_TRUE(writer->Publish().ok());
  auto file = Open();
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  EXPECT_EQ(file->head().model, "by hand");
  EXPECT_THAT(file->head().tokens, ElementsAre(0, 1, 2, 3));
  const auto row = file->Row(0);
  ASSERT_TRUE(row.ok()) << row.status().ToString();
  EXPECT_EQ(row->best, 1);
  EXPECT_NEAR(row->loss, 6 + std::log(sum), 1e-12);
  for (const size_t token : {0, 1, 2, 4}) {
    EXPECT_NEAR(LogOf(*row, token), logits[token] - 4 - std::log(sum), KlFile::kRange / 65535 / 2 + 1e-5) << token;
  }
  EXPECT_EQ(row->steps[3], 65535);  // as good as impossible
}

TEST_F(KlTest, DamageIsNoticed) {
  const auto engine = OpenModel("tiny-llama");
  options_.max_chunks = 2;
  ASSERT_TRUE(Save(*engine).ok());
  const std::string whole = Bytes();
  EXPECT_THAT(ErrorWith(""), HasSubstr("x.kl: not a file of --save-logits"));
  EXPECT_THAT(ErrorWith(std::string(100, 'x')), HasSubstr("not a file of --save-logits"));
  EXPECT_THAT(ErrorWith(whole.substr(0, whole.size() - 1)), HasSubstr("it is cut or damaged"));
  EXPECT_THAT(ErrorWith(whole + "x"), HasSubstr("it is cut or damaged"));
  std::string other = whole;
  other[8] = 9;
  EXPECT_THAT(ErrorWith(other), HasSubstr("version 9, this program knows 1"));
  other = whole;
  other[16] = 0;  // n_ctx
  EXPECT_THAT(ErrorWith(other), HasSubstr("damaged"));
  for (const size_t at : {24u, 40u, 56u, 64u, 100u}) {  // vocabulary, offset, hash, name, tokens
    other = whole;
    other[at] = static_cast<char>(other[at] ^ 1);
    EXPECT_THAT(ErrorWith(other), HasSubstr("checksum of its head is wrong")) << at;
  }
  other = whole;
  other[other.size() - 4096 + 30] = static_cast<char>(other[other.size() - 4096 + 30] ^ 1);
  auto file = KlFile::Open(MakeMemoryReader("x.kl", {reinterpret_cast<const uint8_t*>(other.data()), other.size()}));
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(file->Row(0).ok());
  const auto result = CompareWithReference(*engine, *file, options_);
  EXPECT_EQ(result.status().code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("the checksum of row 29"));
}

TEST_F(KlTest, AnotherVocabularyIsRefused) {
  const auto engine = OpenModel("tiny-llama");
  ASSERT_TRUE(Save(*engine).ok());
  auto scripted = testing::MakeScriptedEngine({"a", "b"}, {}, log_);
  auto reference = Open();
  ASSERT_TRUE(reference.ok());
  const auto result = CompareWithReference(*scripted.engine, *reference, options_);
  EXPECT_EQ(result.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("the reference is of 'tiny' with"));
}

TEST_F(KlTest, VocabularyHashTellsOrderAndBordersApart) {
  const testing::WordTokenizer one({"ab", "c"});
  const testing::WordTokenizer same({"ab", "c"});
  const testing::WordTokenizer turned({"c", "ab"});
  const testing::WordTokenizer cut({"a", "bc"});
  EXPECT_EQ(VocabularyHash(one), VocabularyHash(same));
  EXPECT_NE(VocabularyHash(one), VocabularyHash(turned));
  EXPECT_NE(VocabularyHash(one), VocabularyHash(cut));
}

TEST_F(KlTest, StoppedAndFailedReferencesLeaveNoFile) {
  const auto engine = OpenModel("tiny-llama");
  EXPECT_EQ(Save(*engine, [](int64_t n_done, int64_t) { return n_done < 40; }).code(), StatusCode::kCancelled);
  auto scripted = testing::MakeScriptedEngine({"a", "b", " "}, {}, log_);
  options_.n_ctx = 1000;
  EXPECT_EQ(Save(*scripted.engine).code(), StatusCode::kInvalidArgument);  // too few tokens
  options_.n_ctx = 8;
  scripted.model->FailAtRun(2);
  EXPECT_EQ(Save(*scripted.engine).code(), StatusCode::kInternal);
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) left.push_back(entry.path());
  EXPECT_THAT(left, IsEmpty());
}

TEST(SummariseKl, GivesMeansErrorsAndQuantiles) {
  std::vector<KlPosition> positions;
  for (int i = 0; i <= 100; ++i) positions.push_back({i * 0.01, 1.0, 1.5, i % 4 != 0});
  const KlResult result = SummariseKl(positions);
  EXPECT_NEAR(result.mean.value, 0.5, 1e-12);
  EXPECT_NEAR(result.mean.standard_error, std::sqrt(101.0 * 102 / 12) * 0.01 / std::sqrt(101.0), 1e-9);
  EXPECT_NEAR(result.median, 0.5, 1e-12);
  EXPECT_NEAR(result.percentile_90, 0.9, 1e-12);
  EXPECT_NEAR(result.percentile_99, 0.99, 1e-12);
  EXPECT_NEAR(result.max, 1.0, 1e-12);
  EXPECT_NEAR(result.same_top.value, 75.0 / 101, 1e-12);
  EXPECT_NEAR(result.ppl_ratio.value, std::exp(0.5), 1e-12);
  EXPECT_NEAR(result.ppl_ratio.standard_error, 0, 1e-12);
  EXPECT_EQ(SummariseKl(std::vector<KlPosition>(1)).mean.standard_error, 0);
}

}  // namespace
}  // namespace pantry
