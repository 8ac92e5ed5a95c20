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

}  // namespace
}  // namespace pantry
