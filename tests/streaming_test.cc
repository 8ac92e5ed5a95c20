// SPDX-License-Identifier: Apache-2.0
// Whole models: a run that streams experts, or the matrices of layers, from the file gives the bits of a run that has them in memory,
// whatever reads them, whichever stay in the cache, and however small it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/rng.h"
#include "base/units.h"
#include "engine/engine.h"
#include "engine/weight_stream.h"
#include "engine/scripted_engine.h"
#include "io/faulty_queue.h"
#include "support/test_paths.h"

namespace pantry {
namespace {

constexpr int64_t kContext = 128;
constexpr size_t kTokens = 100;
const SteadyClock kClock;

const std::vector<std::string> kModels = {"tiny-qwen3moe", "tiny-qwen3moe-quantized", "tiny-olmoe",  "tiny-mixtral",
                                          "tiny-qwen2moe", "tiny-smallthinker",       "tiny-phimoe", "tiny-gpt-oss",
                                          // without experts
                                          "tiny-llama", "tiny-llama-quantized", "tiny-qwen2", "tiny-qwen3", "tiny-phi3",
                                          "tiny-gemma2", "tiny-gemma3"};
// Small enough that matrices of tiny models are cut.
constexpr int64_t kMatrixBlockBytes = 2 * kKiB;

std::unique_ptr<GgufFile> OpenTiny(const std::string& name) {
  auto file = GgufFile::Open(testing::TestData("models/" + name + ".gguf"));
  PANTRY_CHECK(file.ok());
  return std::move(file).value();
}

// What varies between two runs.
struct StreamSetup {
  double cache_share = 1;  // of all blocks; the floor at least
  PolicyKind policy = PolicyKind::kLru;
  DiskAccess access = DiskAccess::kAuto;
  int n_threads = 2;
  std::unique_ptr<BlockReader> reader = nullptr;
};

// Streamed as `setup` says, or resident.
std::unique_ptr<Engine> OpenEngine(const std::string& name, StreamSetup* setup, Logger& log) {
  EngineParts parts;
  parts.pool = std::make_unique<ThreadPool>(setup != nullptr ? setup->n_threads : 1);
  parts.file = OpenTiny(name);
  auto placer = setup != nullptr ? std::make_unique<WeightPlacer>(kMatrixBlockBytes) : nullptr;
  auto model = Model::Load(*parts.file, BestIsa(), *parts.pool, log, {}, placer.get());
  PANTRY_CHECK(model.ok());
  parts.model = std::move(model).value();
  if (setup != nullptr) {
    WeightStreamOptions options;
    const auto all = static_cast<double>(WeightStream::AllBlocksBytes(*placer));
    options.cache_bytes =
        std::max(WeightStream::LeastCacheBytes(*placer), static_cast<int64_t>(setup->cache_share * all));
    options.policy = PolicyOptions{.kind = setup->policy};
    options.reader.access = setup->access;
    auto stream = WeightStream::Open(*parts.file, std::move(placer), options, kClock, log, std::move(setup->reader));
    if (!stream.ok()) return nullptr;  // this system has no such reader
    parts.stream = std::move(stream).value();
  }
  const auto n_vocab = static_cast<size_t>(parts.model->shape().n_vocab);
  parts.tokenizer = std::make_unique<testing::WordTokenizer>(std::vector<std::string>(n_vocab, "word"));
  return Engine::FromParts(std::move(parts), log);
}

std::vector<TokenId> RandomTokens(const Engine& engine) {
  Rng rng(5);
  std::vector<TokenId> tokens;
  for (size_t i = 0; i < kTokens; ++i) {
    tokens.push_back(static_cast<TokenId>(rng.NextU64() % static_cast<uint64_t>(engine.shape().n_vocab)));
  }
  return tokens;
}

// Logits of all tokens, computed in batches.
Status AllLogits(Engine& engine, int32_t n_batch, std::vector<float>& all) {
  SessionOptions options;
  options.n_ctx = kContext;
  options.n_batch = n_batch;
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, engine.NewSession(options));
  all.clear();
  return session->FeedAll(RandomTokens(engine), [&](int64_t, std::span<const float> logits) {
    all.insert(all.end(), logits.begin(), logits.end());
  });
}

class StreamingTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::vector<float> Resident() {
    std::vector<float> all;
    const auto engine = OpenEngine(GetParam(), nullptr, log_);
    const Status status = AllLogits(*engine, 64, all);
    EXPECT_TRUE(status.ok()) << status.ToString();
    EXPECT_FALSE(all.empty());
    return all;
  }
  // False: this system cannot.
  bool StreamedIs(const std::vector<float>& expected, int32_t n_batch, StreamSetup setup) {
    const auto engine = OpenEngine(GetParam(), &setup, log_);
    if (engine == nullptr) return false;
    std::vector<float> all;
    const Status status = AllLogits(*engine, n_batch, all);
    EXPECT_TRUE(status.ok()) << status.ToString();
    EXPECT_EQ(all.size(), expected.size());
    EXPECT_TRUE(all.size() == expected.size() &&
                std::memcmp(all.data(), expected.data(), all.size() * sizeof(float)) == 0);
    EXPECT_GT(engine->stream()->stats().reader.bytes_wanted, 0);
    return true;
  }
  NullLogger log_;
};

TEST_P(StreamingTest, EveryBudgetPolicyAndBatchGivesTheSameBits) {
  const std::vector<float> expected = Resident();
  for (const double share : {0.0, 0.25, 0.5, 1.0}) {
    for (const PolicyKind policy : kPolicyKinds) {
      for (const int32_t n_batch : {1, 7, 64}) {
        SCOPED_TRACE(fmt::format("share {} policy {} batch {}", share, PolicyName(policy), n_batch));
        ASSERT_TRUE(StreamedIs(expected, n_batch, {.cache_share = share, .policy = policy}));
      }
    }
  }
}

TEST_P(StreamingTest, EveryReaderGivesTheSameBits) {
  const std::vector<float> expected = Resident();
  for (const DiskAccess access : {DiskAccess::kUring, DiskAccess::kPread, DiskAccess::kPageCache}) {
    for (const int n_threads : {1, 3}) {
      SCOPED_TRACE(fmt::format("{} threads {}", DiskAccessName(access), n_threads));
      const bool is_there = StreamedIs(expected, 7, {.cache_share = 0.3, .access = access, .n_threads = n_threads});
      EXPECT_TRUE(is_there || access == DiskAccess::kUring);
    }
  }
}

// A reader of the file's own whose disk is as bad as `faults` say.
std::unique_ptr<BlockReader> FaultyBlockReader(const GgufFile& file, const DiskFaults& faults) {
  std::vector<const Reader*> files;
  for (const auto& shard : file.shards()) files.push_back(shard.get());
  auto queue = OpenPreadQueue(files, 8);
  PANTRY_CHECK(queue.ok());
  BlockReaderOptions options;
  options.max_retries = 100;  // more than this disk ever fails in a row
  return std::make_unique<BlockReader>(files, std::make_unique<FaultyQueue>(std::move(queue).value(), faults), options,
                                       kClock);
}

TEST_P(StreamingTest, ABadDiskGivesTheSameBits) {
  const std::vector<float> expected = Resident();
  const auto file = OpenTiny(GetParam());
  for (const uint64_t seed : {1, 2}) {
    SCOPED_TRACE(seed);
    const DiskFaults faults = {.error_share = 0.02, .short_share = 0.3, .hold_share = 0.5, .seed = seed};
    ASSERT_TRUE(StreamedIs(expected, 7, {.cache_share = 0.3, .reader = FaultyBlockReader(*file, faults)}));
  }
}

// A block of the last layer cannot be read: an error that names the file, no wrong logits, and what can be read still can.
TEST_P(StreamingTest, AnUnreadableBlockIsAnErrorAndNoMore) {
  const auto file = OpenTiny(GetParam());
  const TensorInfo* broken = nullptr;
  for (const TensorInfo& tensor : file->tensors()) {
    if (tensor.name.ends_with("ffn_up_exps.weight") || tensor.name.ends_with("ffn_up.weight")) broken = &tensor;
  }
  ASSERT_NE(broken, nullptr);
  DiskFaults faults;
  faults.bad_offset = broken->offset;
  StreamSetup setup = {.cache_share = 0.5, .reader = FaultyBlockReader(*file, faults)};
  const auto engine = OpenEngine(GetParam(), &setup, log_);
  ASSERT_NE(engine, nullptr);
  std::vector<float> all;
  for (int round = 0; round < 2; ++round) {
    const Status status = AllLogits(*engine, 7, all);
    EXPECT_EQ(status.code(), StatusCode::kIoError);
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(GetParam()));
    EXPECT_LT(all.size(), kTokens * static_cast<size_t>(engine->shape().n_vocab));
  }
}

// Who waits for a prompt may stop at any layer; what was computed before stays, and the session goes on as if nothing had been.
TEST_P(StreamingTest, StopsBetweenTwoLayersAndGoesOnAfterwards) {
  const std::vector<float> expected = Resident();
  StreamSetup setup = {.cache_share = 0.3};
  const auto engine = OpenEngine(GetParam(), &setup, log_);
  ASSERT_NE(engine, nullptr);
  SessionOptions options;
  options.n_ctx = kContext;
  options.n_batch = 40;
  auto session = engine->NewSession(options);
  ASSERT_TRUE(session.ok());
  const std::vector<TokenId> tokens = RandomTokens(*engine);
  const int64_t n_layers = engine->shape().n_layers;
  ASSERT_GT(n_layers, 1);
  int64_t n_calls = 0;
  // The first batch passes all its layers and is done; the second stops in its second layer.
  const Status status = (*session)->Feed(tokens, [&](int64_t, int64_t) { return ++n_calls < n_layers + 1 + 2; });
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_EQ((*session)->tokens().size(), 40u);
  ASSERT_TRUE((*session)->Feed(std::span(tokens).subspan(40)).ok());
  const std::span<const float> logits = (*session)->logits();
  ASSERT_GE(expected.size(), logits.size());
  EXPECT_EQ(
      std::memcmp(logits.data(), expected.data() + expected.size() - logits.size(), logits.size() * sizeof(float)), 0);
}

INSTANTIATE_TEST_SUITE_P(Models, StreamingTest, ::testing::ValuesIn(kModels), [](const auto& param) {
  std::string name = param.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace pantry
