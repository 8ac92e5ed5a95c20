// SPDX-License-Identifier: Apache-2.0
#include "models/forward_pass.h"

#include "models/test_models.h"
#include "support/count_allocations.h"

namespace pantry {
namespace {

using testing::KvMemory;
using testing::LoadTiny;

TEST(ForwardPass, AllocatesNothing) {
  for (const char* name : {"tiny-llama", "tiny-llama-quantized", "tiny-qwen2", "tiny-qwen3", "tiny-phi3-longrope",
                           "tiny-gemma2", "tiny-gemma3", "tiny-qwen3moe", "tiny-qwen3moe-quantized",
                           "tiny-smallthinker", "tiny-qwen2moe", "tiny-deepseek2"}) {
    ThreadPool pool(2);
    auto model = LoadTiny(name, BestIsa(), pool);
    ASSERT_TRUE(model.ok()) << model.status().ToString();
    auto workspace = (*model)->MakeWorkspace(8);
    ASSERT_TRUE(workspace.ok());
    const KvMemory kv((*model)->shape(), KvType::kF16, 16);
    const std::vector<TokenId> tokens = {1, 2, 3, 4, 5, 6, 7, 8};
    const std::vector<int32_t> rows = {0, 7};
    std::vector<float> logits(2 * static_cast<size_t>((*model)->shape().n_vocab));

    ForwardRun prompt;
    prompt.tokens = tokens;
    const RunPart prompt_part = {.n_rows = 8, .kv = kv.views()};
    prompt.parts = {&prompt_part, 1};
    prompt.logit_rows = rows;
    prompt.logits = logits;
    ForwardRun token = prompt;
    token.tokens = prompt.tokens.first(1);
    const RunPart token_part = {.n_rows = 1, .first_position = 8, .kv = kv.views()};
    token.parts = {&token_part, 1};
    token.logit_rows = prompt.logit_rows.first(1);
    token.logits = prompt.logits.first(logits.size() / 2);

    const int64_t before = testing::n_allocations.load();
    const bool ok =
        (*model)->Forward(prompt, pool, **workspace).ok() && (*model)->Forward(token, pool, **workspace).ok();
    const int64_t after = testing::n_allocations.load();
    EXPECT_TRUE(ok) << name;
    EXPECT_EQ(after - before, 0) << name;
  }
}

// The engine asks for scratch and plans by this number.
TEST(ForwardPass, WorkspaceGrowsWithTheBatchAndIsKnownBeforehand) {
  ThreadPool pool(1);
  auto model = LoadTiny("tiny-qwen3", Isa::kScalar, pool);
  ASSERT_TRUE(model.ok());
  const ModelShape& shape = (*model)->shape();
  const int64_t n_q = shape.n_heads * shape.head_dim, n_kv = shape.n_kv_heads * shape.head_dim;
  const int64_t floats = 2 * shape.n_embd + n_q + 2 * n_kv + n_q + 3 * shape.n_ff + 2 * shape.head_dim;
  EXPECT_GE(ForwardWorkspaceBytes(shape, 512), 512 * floats * 4);
  EXPECT_LE(ForwardWorkspaceBytes(shape, 512), 512 * floats * 4 * 3 / 2);
}

// Tokens have their own experts, so there are as many results as rows times experts of a row.
TEST(ForwardPass, WorkspaceHasRoomForEachExpertOfEachRow) {
  ThreadPool pool(1);
  auto model = LoadTiny("tiny-qwen3moe", Isa::kScalar, pool);
  ASSERT_TRUE(model.ok());
  ModelShape shape = (*model)->shape();
  shape.n_embd = 2048;
  shape.n_ff_expert = 768;
  const int64_t before = ForwardWorkspaceBytes(shape, 512);
  shape.n_experts_used += 1;
  EXPECT_GE(ForwardWorkspaceBytes(shape, 512) - before, 512 * 4 * (2048 + 768));
  EXPECT_LE(ForwardWorkspaceBytes(shape, 512) - before, 512 * 4 * (2048 + 768 + 16));
}

}  // namespace
}  // namespace pantry
