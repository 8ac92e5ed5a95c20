// SPDX-License-Identifier: Apache-2.0
// The token loop takes no memory after warm-up: counted by replacing operator new for this program.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/scripted_engine.h"
#include "support/count_allocations.h"
#include "support/test_paths.h"
#include "support/tiny_engine.h"

namespace pantry {
namespace {

class AllocationTest : public ::testing::TestWithParam<const char*> {};

TEST_P(AllocationTest, FeedingATokenAllocatesNothing) {
  NullLogger log;
  EngineParts parts;
  parts.pool = std::make_unique<ThreadPool>(2);
  auto file = GgufFile::Open(testing::TestData(std::string("models/") + GetParam() + ".gguf"));
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  auto model = Model::Load(**file, BestIsa(), *parts.pool, log, {});
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  parts.model = std::move(model).value();
  const auto n_vocab = static_cast<size_t>(parts.model->shape().n_vocab);
  parts.tokenizer = std::make_unique<testing::WordTokenizer>(std::vector<std::string>(n_vocab, "word"));
  const auto engine = Engine::FromParts(std::move(parts), log);
  SessionOptions options;
  options.n_ctx = 128;
  auto session = engine->NewSession(options);
  ASSERT_TRUE(session.ok()) << session.status().ToString();

  const std::vector<TokenId> prompt = {1, 2, 3, 4, 5};
  ASSERT_TRUE((*session)->Feed(prompt).ok());
  const int64_t before = testing::n_allocations;
  ASSERT_GT(before, 0);
  bool ok = true;
  for (int i = 0; i < 100; ++i) ok = ok && (*session)->Feed(std::span(prompt).first(1)).ok();
  EXPECT_EQ(testing::n_allocations - before, 0);
  EXPECT_TRUE(ok);
}
INSTANTIATE_TEST_SUITE_P(TinyModels, AllocationTest,
                         ::testing::Values("tiny-llama", "tiny-llama-quantized", "tiny-qwen2", "tiny-qwen3",
                                           "tiny-phi3", "tiny-gemma2", "tiny-gemma3", "tiny-qwen3moe", "tiny-gpt-oss"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Blocks and the tokens' rows of the embedding come from the file.
TEST(StreamedAllocationTest, FeedingATokenAllocatesNothing) {
  for (const char* name : {"tiny-llama-quantized", "tiny-olmoe"}) {
    SCOPED_TRACE(name);
    NullLogger log;
    testing::StreamSetup setup = {.cache_share = 0.3};
    const auto engine = testing::OpenTinyEngine(testing::TinyModel(name), &setup, log);
    ASSERT_NE(engine, nullptr);
    ASSERT_NE(engine->stream()->embedding(), nullptr);
    SessionOptions options;
    options.n_ctx = 128;
    auto session = engine->NewSession(options);
    ASSERT_TRUE(session.ok()) << session.status().ToString();
    const std::vector<TokenId> tokens = testing::RandomTokens(*engine, 100);
    ASSERT_TRUE((*session)->Feed(std::span(tokens).first(20)).ok());
    const int64_t before = testing::n_allocations;
    bool ok = true;
    for (const TokenId token : std::span(tokens).subspan(20)) ok = ok && (*session)->Feed({&token, 1}).ok();
    EXPECT_EQ(testing::n_allocations - before, 0);
    EXPECT_TRUE(ok);
  }
}

}  // namespace
}  // namespace pantry
