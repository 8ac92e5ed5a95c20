// SPDX-License-Identifier: Apache-2.0
// Whole models: a run that streams experts, or the matrices of layers, from the file gives the bits of a run that has them in memory,
// whatever reads them, whichever stay in the cache, and however small it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "compute/kernels/matmul/matmul_kernel.h"
#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "support/test_paths.h"
#include "support/tiny_engine.h"
#include "support/tiny_pack.h"

namespace pantry {
namespace {

using testing::FaultyBlockReader;
using testing::RandomTokens;
using testing::StreamSetup;

constexpr int64_t kContext = 224;
constexpr size_t kTokens = 200;

const std::vector<std::string> kModels = {
    "tiny-qwen3moe", "tiny-qwen3moe-quantized", "tiny-olmoe", "tiny-mixtral", "tiny-qwen2moe", "tiny-smallthinker",
    "tiny-phimoe", "tiny-gpt-oss", "tiny-deepseek2",
    // without experts
    "tiny-llama", "tiny-llama-quantized", "tiny-qwen2", "tiny-qwen3", "tiny-phi3", "tiny-gemma2", "tiny-gemma3",
    // whose resident runs compute only what fires
    "tiny-bamboo-quantized", "tiny-turbosparse-quantized"};

// What varies between two runs is in StreamSetup; null: a resident run.
std::unique_ptr<Engine> OpenEngine(const std::string& name, StreamSetup* setup, Logger& log) {
  return testing::OpenTinyEngine(testing::TinyModel(name), setup, log);
}

Status AllLogits(Engine& engine, int32_t n_batch, std::vector<float>& all) {
  return testing::AllLogits(engine, kTokens, n_batch, all);
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
    return StreamedIs(testing::TinyModel(GetParam()), expected, n_batch, std::move(setup));
  }
  bool StreamedIs(const std::string& path, const std::vector<float>& expected, int32_t n_batch, StreamSetup setup) {
    const auto engine = testing::OpenTinyEngine(path, &setup, log_);
    if (engine == nullptr) return false;
    std::vector<float> all;
    const Status status = AllLogits(*engine, n_batch, all);
    EXPECT_TRUE(status.ok()) << status.ToString();
    EXPECT_EQ(all.size(), expected.size());
    EXPECT_TRUE(all.size() == expected.size() &&
                std::memcmp(all.data(), expected.data(), all.size() * sizeof(float)) == 0);
    const WeightStreamStats stats = engine->stream()->stats();
    EXPECT_GT(stats.reader.bytes_wanted, 0);
    const bool is_tied = engine->file().FindTensor("output.weight") == nullptr;
    EXPECT_EQ(stats.embedding.n_reads == 0, is_tied) << stats.embedding.n_reads << " rows";
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

// The cache grows while scratch and context are idle, and shrinks before they are used.
TEST_P(StreamingTest, MemoryLentWhileASessionIsIdleGivesTheSameBits) {
  const std::vector<float> expected = Resident();
  const bool has_experts =
      testing::OpenTinyEngine(testing::TinyModel(GetParam()), nullptr, log_)->shape().has_experts();
  for (const double share : {0.0, 0.3}) {
    StreamSetup setup = {.cache_share = share,
                         .policy = has_experts ? PolicyKind::kCycle : PolicyKind::kRotation,
                         .lendable_bytes = int64_t{64} << 20};
    const auto engine = OpenEngine(GetParam(), &setup, log_);
    ASSERT_NE(engine, nullptr);
    SessionOptions options;
    options.n_ctx = kContext;  // one tile of keys and values
    options.n_batch = 64;
    auto session = engine->NewSession(options);
    ASSERT_TRUE(session.ok()) << session.status().ToString();
    const std::vector<TokenId> tokens = RandomTokens(*engine, kTokens);
    const int64_t planned = engine->stream()->cache_bytes();
    const KvCache kv = KvCache::Allocate(engine->shape(), options.k_type, options.v_type, kContext).value();
    std::vector<float> all;
    const auto keep = [&](int64_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); };
    for (size_t done = 0, n = 64; done < tokens.size(); done += n, n = n == 64 ? 1 : 64) {
      n = std::min(n, tokens.size() - done);
      const Status status = (*session)->FeedAll(std::span(tokens).subspan(done, n), keep);
      ASSERT_TRUE(status.ok()) << status.ToString();
      // Of keys and values what is not written, and of scratch what a short run does not need.
      const int64_t of_kv = kv.n_bytes() - kv.BytesFor(static_cast<int64_t>(done + n));
      if (n == 64) EXPECT_EQ(engine->stream()->cache_bytes(), planned + of_kv);
      else EXPECT_GT(engine->stream()->cache_bytes(), planned + of_kv);
    }
    EXPECT_TRUE(all.size() == expected.size() &&
                std::memcmp(all.data(), expected.data(), all.size() * sizeof(float)) == 0);

    // What was lent is back before another session is planned, and stays so while there are two.
    session->reset();
    auto first = engine->NewSession(options);
    EXPECT_EQ(engine->stream()->cache_bytes(), planned);
    ASSERT_TRUE((*first)->Feed(std::span(tokens).first(1)).ok());
    EXPECT_GT(engine->stream()->cache_bytes(), planned);
    const auto second = engine->NewSession(options);
    ASSERT_TRUE((*first)->Feed(std::span(tokens).first(1)).ok());
    EXPECT_EQ(engine->stream()->cache_bytes(), planned);
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

TEST_P(StreamingTest, ABadDiskGivesTheSameBits) {
  const std::vector<float> expected = Resident();
  const auto file = testing::OpenGguf(testing::TinyModel(GetParam()));
  for (const uint64_t seed : {1, 2}) {
    SCOPED_TRACE(seed);
    const DiskFaults faults = {.error_share = 0.02, .short_share = 0.3, .hold_share = 0.5, .seed = seed};
    ASSERT_TRUE(StreamedIs(expected, 7,
                           {.cache_share = 0.3,
                            .reader = FaultyBlockReader(*file, faults),
                            .row_reader = FaultyBlockReader(*file, faults)}));
  }
}

// A block of the last layer cannot be read: an error that names the file, no wrong logits, and what can be read still can.
TEST_P(StreamingTest, AnUnreadableBlockIsAnErrorAndNoMore) {
  const auto file = testing::OpenGguf(testing::TinyModel(GetParam()));
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

TEST_P(StreamingTest, AnUnreadableRowOfTheEmbeddingIsAnErrorAndNoMore) {
  const auto file = testing::OpenGguf(testing::TinyModel(GetParam()));
  if (file->FindTensor("output.weight") == nullptr) GTEST_SKIP() << "its embedding is always in memory";
  const TensorInfo& embedding = *file->FindTensor("token_embd.weight");
  const std::vector<float> expected = Resident();
  StreamSetup plain = {.cache_share = 0.5};
  const std::vector<TokenId> tokens = RandomTokens(*OpenEngine(GetParam(), &plain, log_), kTokens);
  DiskFaults faults;
  const auto row_bytes = embedding.n_bytes / static_cast<uint64_t>(embedding.n_rows());
  faults.bad_offset = embedding.offset + static_cast<uint64_t>(tokens[100]) * row_bytes;
  StreamSetup setup = {.cache_share = 0.5, .row_reader = FaultyBlockReader(*file, faults)};
  const auto engine = OpenEngine(GetParam(), &setup, log_);
  ASSERT_NE(engine, nullptr);
  std::vector<float> all;
  for (int round = 0; round < 2; ++round) {
    const Status status = AllLogits(*engine, 7, all);
    EXPECT_EQ(status.code(), StatusCode::kIoError);
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(GetParam()));
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("token_embd.weight"));
    EXPECT_LT(all.size(), expected.size());
    EXPECT_TRUE(std::equal(all.begin(), all.end(), expected.begin()));
  }
}

// Who waits for a prompt may stop at any layer; what was computed before stays, and the session goes on as if nothing had been.
TEST_P(StreamingTest, StopsBetweenTwoLayersAndGoesOnAfterwards) {
  const std::vector<float> expected = Resident();
  StreamSetup setup = {.cache_share = 0.3};
  const auto engine = OpenEngine(GetParam(), &setup, log_);
  ASSERT_NE(engine, nullptr);
  if (engine->stream()->placer().n_layers() < 2) GTEST_SKIP() << "only one layer is streamed";
  testing::StopsBetweenTwoLayersAndGoesOnAfterwards(*engine, kContext, kTokens, expected);
}

// Flips a bit in the middle of the blocks.
void Damage(const testing::TinyPack& pack) {
  const auto file = testing::OpenGguf(pack.path());
  const PackTable& table = *file->pack();
  pack.FlipBit(table.BlockOffset(BlockId(table.n_blocks() / 2)) + 5);
}

TEST_P(StreamingTest, ExpertsOfTheNextLayerAreReadAhead) {
  StreamSetup setup = {.cache_share = 0.5};
  const auto engine = OpenEngine(GetParam(), &setup, log_);
  const WeightPlacer& placer = engine->stream()->placer();
  if (!placer.has_experts() || placer.n_layers() < 2) GTEST_SKIP() << "no next layer with experts";
  std::vector<float> all;
  ASSERT_TRUE(AllLogits(*engine, 1, all).ok());
  EXPECT_GT(engine->stream()->stats().cache.n_guesses_used, 0);
}

TEST_P(StreamingTest, APackGivesTheSameBits) {
  const std::vector<float> expected = Resident();
  const testing::TinyPack pack(GetParam());
  std::vector<float> all;
  ASSERT_TRUE(AllLogits(*testing::OpenTinyEngine(pack.path(), nullptr, log_), 64, all).ok());
  EXPECT_TRUE(all == expected) << "resident";
  for (const double share : {0.0, 0.3, 1.0}) {
    for (const DiskAccess access : {DiskAccess::kUring, DiskAccess::kPread, DiskAccess::kPageCache}) {
      SCOPED_TRACE(fmt::format("share {} {}", share, DiskAccessName(access)));
      const bool is_there = StreamedIs(pack.path(), expected, 7,
                                       {.cache_share = share,
                                        .policy = PolicyKind::kCycle,
                                        .access = access,
                                        .matrix_block_bytes = WeightPlacer::kMatrixBlockBytes});
      EXPECT_TRUE(is_there || access == DiskAccess::kUring);
    }
  }
}

TEST_P(StreamingTest, ADamagedBlockOfAPackIsAnErrorAndNoMore) {
  const testing::TinyPack pack(GetParam());
  Damage(pack);
  StreamSetup setup = {.cache_share = 0.5, .matrix_block_bytes = WeightPlacer::kMatrixBlockBytes};
  const auto engine = testing::OpenTinyEngine(pack.path(), &setup, log_);
  ASSERT_NE(engine, nullptr);
  std::vector<float> all;
  const Status status = AllLogits(*engine, 64, all);
  EXPECT_EQ(status.code(), StatusCode::kCorruption) << status.ToString();
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("checksum"));
  EXPECT_TRUE(all.empty());

  const auto file = testing::OpenGguf(pack.path());
  ThreadPool pool(1);
  const Status resident = Model::Load(*file, BestIsa(), pool, log_, {}).status();
  EXPECT_EQ(resident.code(), StatusCode::kCorruption) << resident.ToString();
}

TEST(PackedModel, OfOtherKernelsIsRefusedWithARemedy) {
  const testing::TinyPack pack("tiny-qwen3moe-quantized");
  const auto file = testing::OpenGguf(pack.path());
  const Status status = PackedWeightBytes(*file, Isa::kScalar).status();
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_THAT(std::string(status.message()),
              ::testing::AllOf(::testing::HasSubstr("packed for"), ::testing::HasSubstr("pack the GGUF file again")));
}

TEST(PackedExperts, ThatGateByReluLieByNeuronUnlessAskedNotTo) {
  const bool has_kernels = FindMatMulKernel(TensorType::kQ4_0, BestIsa(), WeightOrder::kColumns) != nullptr;
  NullLogger log;
  std::vector<float> of_gguf, all;
  ASSERT_TRUE(AllLogits(*OpenEngine("tiny-turbosparse-quantized", nullptr, log), 64, of_gguf).ok());
  for (const NeuronPacking neurons : {NeuronPacking::kWhereWorthIt, NeuronPacking::kNever}) {
    const testing::TinyPack pack("tiny-turbosparse-quantized", neurons);
    const bool by_neuron = has_kernels && neurons != NeuronPacking::kNever;
    const auto file = testing::OpenGguf(pack.path());
    for (const PackGroup& group : file->pack()->groups()) {
      EXPECT_EQ(group.order, by_neuron ? PackOrder::kRowsAndColumns : PackOrder::kTiles);
    }
    StreamSetup streamed = {.cache_share = 0.4};
    for (StreamSetup* setup : {&streamed, static_cast<StreamSetup*>(nullptr)}) {
      const auto engine = testing::OpenTinyEngine(pack.path(), setup, log);
      ASSERT_NE(engine, nullptr);
      EXPECT_EQ(engine->model().experts()[0].layout.is_by_neuron(), by_neuron);
      ASSERT_TRUE(AllLogits(*engine, 1, all).ok());
      EXPECT_TRUE(all == of_gguf) << (setup != nullptr ? "streamed" : "resident");
    }
  }
}

// Nothing of a SiLU's rests, so a pack that says so would be computed wrongly.
TEST(PackedExperts, ByNeuronOfAnotherActivationAreRefused) {
  if (FindMatMulKernel(TensorType::kQ4_0, BestIsa(), WeightOrder::kColumns) == nullptr) GTEST_SKIP();
  const testing::TinyPack pack("tiny-turbosparse-quantized");
  std::string bytes = testing::ReadFile(pack.path());
  const size_t at = bytes.find("relu", bytes.find("feed_forward_activation"));
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, 4, "silu");
  std::ofstream(pack.path(), std::ios::binary) << bytes;
  const Status status = PackedWeightBytes(*testing::OpenGguf(pack.path()), BestIsa()).status();
  EXPECT_EQ(status.code(), StatusCode::kUnsupported) << status.ToString();
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("pack the GGUF file again"));
}

INSTANTIATE_TEST_SUITE_P(Models, StreamingTest, ::testing::ValuesIn(kModels), [](const auto& param) {
  std::string name = param.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace pantry
