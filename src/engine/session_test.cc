// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "engine/scripted_engine.h"
#include "policy/planner/context_plan.h"

namespace pantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Letters() { return {"a", "b", "c", "d", "e", "f", "g", "h"}; }

class SessionTest : public ::testing::Test {
 protected:
  std::unique_ptr<Session> NewSession(int64_t n_ctx, int32_t n_batch) {
    SessionOptions options;
    options.n_ctx = n_ctx;
    options.n_batch = n_batch;
    Result<std::unique_ptr<Session>> session = scripted_.engine->NewSession(options);
    EXPECT_TRUE(session.ok()) << session.status().ToString();
    return std::move(session).value();
  }
  static std::vector<float> Copy(std::span<const float> logits) { return {logits.begin(), logits.end()}; }

  RecordingLogger log_;
  testing::ScriptedEngine scripted_ = testing::MakeScriptedEngine(Letters(), {}, log_);
  const std::vector<TokenId> prompt_ = {1, 2, 3, 4, 5, 6, 7, 1, 2, 3};
};

TEST_F(SessionTest, FeedsInBatches) {
  auto session = NewSession(64, 4);
  ASSERT_TRUE(session->Feed(prompt_).ok());
  EXPECT_THAT(scripted_.model->run_sizes(), ElementsAre(4, 4, 2));
  EXPECT_TRUE(std::ranges::equal(session->tokens(), prompt_));
  EXPECT_EQ(session->logits().size(), 8u);
}

TEST_F(SessionTest, ReportsProgressAfterEachBatch) {
  auto session = NewSession(64, 4);
  std::vector<int64_t> done;
  ASSERT_TRUE(session
                  ->Feed(prompt_,
                         [&](int64_t n_done, int64_t n_total) {
                           EXPECT_EQ(n_total, 10);
                           done.push_back(n_done);
                           return true;
                         })
                  .ok());
  EXPECT_THAT(done, ElementsAre(4, 8, 10));
}

TEST_F(SessionTest, CancelledFeedKeepsWhatWasComputed) {
  auto session = NewSession(64, 4);
  const Status status = session->Feed(prompt_, [](int64_t n_done, int64_t) { return n_done < 8; });
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_EQ(session->tokens().size(), 8u);
  EXPECT_TRUE(session->logits().empty());
  ASSERT_TRUE(session->Feed(std::span(prompt_).subspan(8)).ok());

  auto fresh = NewSession(64, 64);
  ASSERT_TRUE(fresh->Feed(prompt_).ok());
  EXPECT_EQ(Copy(session->logits()), Copy(fresh->logits()));
}

TEST_F(SessionTest, FailedRunChangesNothing) {
  auto session = NewSession(64, 4);
  scripted_.model->FailAtRun(2);
  EXPECT_EQ(session->Feed(prompt_).code(), StatusCode::kInternal);
  EXPECT_EQ(session->tokens().size(), 4u);
  EXPECT_TRUE(session->logits().empty());
}

TEST_F(SessionTest, ReusedPrefixIsNotComputedAgain) {
  auto session = NewSession(64, 64);
  ASSERT_TRUE(session->Feed(prompt_).ok());
  std::vector<TokenId> second = prompt_;
  second[7] = 0;
  EXPECT_EQ(session->ReusePrefix(second), 7);
  ASSERT_TRUE(session->Feed(std::span(second).subspan(7)).ok());
  EXPECT_THAT(scripted_.model->run_sizes(), ElementsAre(10, 3));

  auto fresh = NewSession(64, 64);
  ASSERT_TRUE(fresh->Feed(second).ok());
  EXPECT_EQ(Copy(session->logits()), Copy(fresh->logits()));
}

TEST_F(SessionTest, SamePromptAgainComputesOneToken) {
  auto session = NewSession(64, 64);
  ASSERT_TRUE(session->Feed(prompt_).ok());
  const std::vector<float> before = Copy(session->logits());
  EXPECT_EQ(session->ReusePrefix(prompt_), 9);
  EXPECT_TRUE(session->logits().empty());
  ASSERT_TRUE(session->Feed(std::span(prompt_).last(1)).ok());
  EXPECT_EQ(Copy(session->logits()), before);
  EXPECT_EQ(session->ReusePrefix({}), 0);
  EXPECT_TRUE(session->tokens().empty());
}

TEST_F(SessionTest, TruncateForgetsAndFeedsAgain) {
  auto session = NewSession(64, 64);
  ASSERT_TRUE(session->Feed(prompt_).ok());
  session->Truncate(100);
  EXPECT_EQ(session->tokens().size(), 10u);
  EXPECT_FALSE(session->logits().empty());
  session->Truncate(3);
  EXPECT_EQ(session->tokens().size(), 3u);
  EXPECT_TRUE(session->logits().empty());
  ASSERT_TRUE(session->Feed(std::span(prompt_).subspan(3)).ok());
  auto fresh = NewSession(64, 64);
  ASSERT_TRUE(fresh->Feed(prompt_).ok());
  EXPECT_EQ(Copy(session->logits()), Copy(fresh->logits()));
  session->Truncate(-1);
  EXPECT_TRUE(session->tokens().empty());
}

TEST_F(SessionTest, FeedAllVisitsEveryTokenInOrder) {
  auto session = NewSession(64, 4);
  std::vector<std::vector<float>> rows;
  ASSERT_TRUE(session
                  ->FeedAll(prompt_,
                            [&](int64_t index, std::span<const float> logits) {
                              EXPECT_EQ(index, static_cast<int64_t>(rows.size()));
                              rows.push_back(Copy(logits));
                            })
                  .ok());
  ASSERT_EQ(rows.size(), prompt_.size());
  EXPECT_EQ(Copy(session->logits()), rows.back());
  auto step = NewSession(64, 4);
  for (size_t i = 0; i < prompt_.size(); ++i) {
    ASSERT_TRUE(step->Feed({&prompt_[i], 1}).ok());
    EXPECT_EQ(Copy(step->logits()), rows[i]);
  }
}

TEST_F(SessionTest, PromptLongerThanTheContextSaysBothNumbersAndTheFix) {
  auto session = NewSession(8, 4);
  const Status status = session->Feed(prompt_);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("prompt has 10 tokens, context is 8; use --ctx-size 256 (costs +"));
  EXPECT_TRUE(session->tokens().empty());
  EXPECT_TRUE(session->Feed(std::span(prompt_).first(8)).ok());
  EXPECT_FALSE(session->Feed(std::span(prompt_).first(1)).ok());
}

TEST_F(SessionTest, UnknownTokenIsRefused) {
  auto session = NewSession(64, 4);
  for (const TokenId bad : {-1, 8}) {
    const std::vector<TokenId> tokens = {1, bad};
    const Status status = session->Feed(tokens);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("at index 1: the model's tokens are 0 to 7"));
  }
  EXPECT_TRUE(session->tokens().empty());
}

TEST_F(SessionTest, DefaultContextIsTheModelsOwn) {
  auto session = NewSession(0, 4);
  EXPECT_EQ(session->n_ctx(), 256);
  EXPECT_THAT(session->plan().reason, HasSubstr("the model's own"));
  EXPECT_EQ(session->kv_bytes(), session->plan().kv_bytes);
}

TEST_F(SessionTest, ImpossibleOptionsAreRefused) {
  SessionOptions options;
  options.n_batch = 0;
  EXPECT_EQ(scripted_.engine->NewSession(options).status().code(), StatusCode::kInvalidArgument);
  options = {};
  options.n_ctx = -5;
  EXPECT_EQ(scripted_.engine->NewSession(options).status().code(), StatusCode::kInvalidArgument);
  options = {};
  options.n_ctx = int64_t{1} << 40;
  const Status status = scripted_.engine->NewSession(options).status();
  EXPECT_EQ(status.code(), StatusCode::kOutOfBudget);
}

TEST(KvCache, TilesDoNotOverlapAndAreAligned) {
  ModelShape shape;
  shape.n_layers = 3;
  shape.n_kv_heads = 2;
  shape.head_dim = 32;
  for (const KvType type : kAllKvTypes) {
    Result<KvCache> cache = KvCache::Allocate(shape, type, KvType::kF16, kAttentionTile + 7);
    ASSERT_TRUE(cache.ok());
    ASSERT_EQ(cache->layers().size(), 3u);
    std::vector<std::pair<const uint8_t*, const uint8_t*>> runs;
    for (const KvLayerView& layer : cache->layers()) {
      for (int32_t head = 0; head < 2; ++head) {
        for (const int64_t position : {0, kAttentionTile}) {
          const uint8_t* k = layer.KPack(head, position);
          const uint8_t* v = layer.VPack(head, position);
          runs.emplace_back(k, k + KvHeadBytes(type, 32, kAttentionTile));
          runs.emplace_back(v, v + KvHeadBytes(KvType::kF16, 32, kAttentionTile));
          EXPECT_EQ(layer.KPack(head, position + kKvPack), k + KvHeadBytes(type, 32, kKvPack));
        }
      }
    }
    std::sort(runs.begin(), runs.end());
    for (size_t i = 0; i < runs.size(); ++i) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(runs[i].first) % 64, 0u);
      EXPECT_LE(runs[i].second, i + 1 < runs.size() ? runs[i + 1].first : cache->layers()[0].k + cache->n_bytes());
    }
    EXPECT_EQ(runs[0].first, cache->layers()[0].k);
  }
}

int64_t ResidentBytes(const uint8_t* begin, int64_t n_bytes) {
  const size_t page = AlignedBuffer::PageBytes();
  std::vector<unsigned char> pages((static_cast<size_t>(n_bytes) + page - 1) / page);
  EXPECT_EQ(mincore(const_cast<uint8_t*>(begin), static_cast<size_t>(n_bytes), pages.data()), 0);
  const auto n = std::count_if(pages.begin(), pages.end(), [](unsigned char flags) { return (flags & 1) != 0; });
  return n * static_cast<int64_t>(page);
}

TEST(KvCache, SaysWhatItsFirstPositionsCommit) {
  struct Case {
    KvType k_type;
    int32_t head_dim;
    size_t part_bytes;  // of a head's keys, and of its values
  };
  for (const Case& c :
       {Case{KvType::kF16, 128, 65536}, Case{KvType::kQ8_0, 128, 34816}, Case{KvType::kF16, 32, 16384}}) {
    ModelShape shape;
    shape.n_layers = 5;
    shape.n_kv_heads = 3;
    shape.head_dim = c.head_dim;
    Result<KvCache> cache = KvCache::Allocate(shape, c.k_type, KvType::kF16, 2 * kAttentionTile);
    ASSERT_TRUE(cache.ok());
    const uint8_t* const memory = cache->layers()[0].k;
    EXPECT_EQ(cache->BytesFor(0), 0);
    int64_t before = 0;
    for (int64_t position = 0; position < kAttentionTile; position += kKvPack) {
      for (const KvLayerView& layer : cache->layers()) {
        for (int32_t head = 0; head < shape.n_kv_heads; ++head) {
          std::memset(layer.KPack(head, position), 1, static_cast<size_t>(KvHeadBytes(c.k_type, c.head_dim, kKvPack)));
          std::memset(layer.VPack(head, position), 1,
                      static_cast<size_t>(KvHeadBytes(KvType::kF16, c.head_dim, kKvPack)));
        }
      }
      const int64_t said = cache->BytesFor(position + 1), resident = ResidentBytes(memory, cache->n_bytes());
      EXPECT_EQ(cache->BytesFor(position + kKvPack), said);
      EXPECT_GE(said, before);
      EXPECT_GT(said + static_cast<int64_t>(AlignedBuffer::PageBytes()), resident);  // its end is not rounded up
      if (c.part_bytes % AlignedBuffer::PageBytes() == 0) {                          // each begins with a page
        EXPECT_EQ(said, resident);
      }
      before = said;
    }
    EXPECT_LE(before, cache->n_bytes() / 2);
    EXPECT_EQ(cache->BytesFor(kAttentionTile + 1), cache->n_bytes());
  }
}

TEST(KvCache, HeadThatDoesNotFillBlocksIsUnsupported) {
  ModelShape shape;
  shape.n_layers = 1;
  shape.n_kv_heads = 1;
  shape.head_dim = 80;
  for (const KvType type : {KvType::kQ8_0, KvType::kQ4_0}) {
    for (const auto& [k, v] : {std::pair(type, KvType::kF16), std::pair(KvType::kF16, type)}) {
      const Status status = KvCache::Allocate(shape, k, v, 8).status();
      EXPECT_EQ(status.code(), StatusCode::kUnsupported);
      EXPECT_THAT(std::string(status.message()), HasSubstr(fmt::format("KV cache in {}: ", KvTypeName(type))));
      EXPECT_THAT(std::string(status.message()), HasSubstr("have 80"));
    }
  }
  EXPECT_TRUE(KvCache::Allocate(shape, KvType::kF16, KvType::kF16, 8).ok());
}

}  // namespace
}  // namespace pantry
