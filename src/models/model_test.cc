// SPDX-License-Identifier: Apache-2.0
#include "models/model.h"

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "models/test_models.h"
#include "models/weight_placer.h"

namespace pantry {
namespace {

using testing::AllLogits;
using testing::Golden;
using testing::GoldenModel;
using testing::KvMemory;
using testing::LoadTiny;
using testing::ReadGolden;

constexpr float kExactError = 1e-3f;  // largest difference of a logit, F32 weights
// Activations have 8 bits where weights are quantised; logits may differ by this share of their length.
constexpr double kQuantizedError = 0.05;

class GoldenTest : public ::testing::TestWithParam<std::tuple<GoldenModel, Isa>> {
 protected:
  void SetUp() override {
    if (!IsaSupported(isa())) GTEST_SKIP() << "this CPU has no " << IsaName(isa());
    golden_ = ReadGolden(std::get<0>(GetParam()).golden);
    auto model = LoadTiny(std::get<0>(GetParam()).model, isa(), pool_);
    ASSERT_TRUE(model.ok()) << model.status().ToString();
    model_ = std::move(model).value();
  }
  Isa isa() const { return std::get<1>(GetParam()); }

  ThreadPool pool_{2};
  Golden golden_;
  std::unique_ptr<Model> model_;
};

TEST_P(GoldenTest, LogitsMatchTransformers) {
  const size_t n_vocab = static_cast<size_t>(model_->shape().n_vocab);
  ASSERT_EQ(n_vocab, static_cast<size_t>(golden_.n_vocab));
  const std::vector<float> logits =
      AllLogits(*model_, pool_, KvType::kF32, golden_.kv_positions, golden_.tokens, {golden_.tokens.size()});
  float worst = 0;
  double sum_of_errors = 0, sum_of_logits = 0;  // of squares
  for (size_t i = 0; i < golden_.rows.size(); ++i) {
    for (size_t j = 0; j < n_vocab; ++j) {
      const float found = logits[static_cast<size_t>(golden_.rows[i]) * n_vocab + j];
      ASSERT_TRUE(std::isfinite(found));
      const float expected = golden_.logits[i * n_vocab + j];
      worst = std::max(worst, std::abs(found - expected));
      sum_of_errors += std::pow(found - expected, 2);
      sum_of_logits += std::pow(expected, 2);
    }
  }
  RecordProperty("worst_difference", std::to_string(worst));
  RecordProperty("relative_error", std::to_string(std::sqrt(sum_of_errors / sum_of_logits)));
  if (std::get<0>(GetParam()).is_quantized) {
    EXPECT_LE(std::sqrt(sum_of_errors / sum_of_logits), kQuantizedError);
  } else {
    EXPECT_LE(worst, kExactError);
  }
}

// The rule that prefix reuse, continuous batching and streaming stand on.
TEST_P(GoldenTest, LogitsDoNotDependOnRunsOrThreads) {
  const std::vector<TokenId>& tokens = golden_.tokens;
  for (const KvType type : kAllKvTypes) {
    if (model_->shape().head_dim % KvBlock(type) != 0) continue;
    const std::vector<float> whole = AllLogits(*model_, pool_, type, golden_.kv_positions, tokens, {tokens.size()});
    const auto expect_same = [&](const std::vector<size_t>& lengths, int n_threads) {
      ThreadPool pool(n_threads);
      const std::vector<float> split = AllLogits(*model_, pool, type, golden_.kv_positions, tokens, lengths);
      EXPECT_EQ(std::memcmp(whole.data(), split.data(), whole.size() * sizeof(float)), 0)
          << KvTypeName(type) << ", " << lengths.size() << " runs, " << n_threads << " threads";
    };
    expect_same(std::vector<size_t>(tokens.size(), 1), 1);
    expect_same(std::vector<size_t>(tokens.size(), 1), 3);
    for (int n_threads = 1; n_threads <= 4; ++n_threads) {
      Rng rng(static_cast<uint64_t>(n_threads));
      std::vector<size_t> lengths;
      for (size_t left = tokens.size(); left > 0; left -= lengths.back())
        lengths.push_back(1 + rng.NextU64() % std::min<size_t>(left, 20));
      expect_same(lengths, n_threads);
      expect_same({tokens.size()}, n_threads);
    }
  }
}

// Gives copies of a model's experts at other addresses, a few at a time, in another order each time.
class ScatteredExperts final : public ExpertSource {
 public:
  explicit ScatteredExperts(const Model& model) : model_(model) {}
  Status Provide(int32_t layer, std::span<ExpertTask> tasks, const ExpertSink& compute) override {
    const ExpertLayer& experts = model_.experts()[static_cast<size_t>(layer)];
    const auto n_bytes = static_cast<size_t>(experts.layout.n_bytes);
    for (size_t i = tasks.size() - 1; i > 0; --i) std::swap(tasks[i], tasks[rng_.NextU64() % (i + 1)]);
    while (!tasks.empty()) {
      const auto part = tasks.first(1 + rng_.NextU64() % tasks.size());
      auto slots = AlignedBuffer::Allocate(part.size() * n_bytes);
      PANTRY_RETURN_IF_ERROR(slots.status());
      for (size_t i = 0; i < part.size(); ++i) {
        std::memcpy(slots->data() + i * n_bytes, experts.Block(part[i].expert), n_bytes);
        part[i].block = slots->data() + i * n_bytes;
      }
      compute(part);
      tasks = tasks.subspan(part.size());
      ++n_parts_;
    }
    return OkStatus();
  }
  void Expect(int32_t, std::span<const int32_t>, double) override {}
  int64_t n_parts() const { return n_parts_; }

 private:
  const Model& model_;
  Rng rng_{17};
  int64_t n_parts_ = 0;
};

// What streaming stands on.
TEST_P(GoldenTest, ExpertsFromElsewhereInAnyOrderGiveTheSameBits) {
  if (!model_->shape().has_experts()) GTEST_SKIP() << "no experts";
  const std::vector<TokenId>& tokens = golden_.tokens;
  const auto logits = [&](const std::vector<size_t>& lengths, ExpertSource* experts) {
    return AllLogits(*model_, pool_, KvType::kF32, golden_.kv_positions, tokens, lengths, experts);
  };
  const std::vector<float> resident = logits({tokens.size()}, nullptr);
  ScatteredExperts scattered(*model_);
  EXPECT_EQ(logits({tokens.size()}, &scattered), resident);
  EXPECT_EQ(logits({40, 1, 1, 1, tokens.size() - 43}, &scattered), resident);
  EXPECT_GT(scattered.n_parts(), model_->shape().n_layers * 6);
}

// Of experts runs of few tokens compute what fires and longer ones everything, of dense networks all runs what fires for any token; in tiles all
// runs compute everything.
class NeuronsTest : public ::testing::TestWithParam<std::tuple<const char*, Isa>> {};
TEST_P(NeuronsTest, ThoseThatRestChangeNoBit) {
  const auto& [name, isa] = GetParam();
  if (!IsaSupported(isa)) GTEST_SKIP() << "this CPU has no " << IsaName(isa);
  ThreadPool pool(2);
  const auto by_neuron = LoadTiny(name, isa, pool), in_tiles = LoadTiny(name, isa, pool, false);
  ASSERT_TRUE(by_neuron.ok() && in_tiles.ok());
  EXPECT_LE((*by_neuron)->weight_bytes(), (*in_tiles)->weight_bytes());  // tiles of few rows are padded one by one
  const std::vector<TokenId> tokens = ReadGolden(name).tokens;
  const std::vector<float> expected =
      AllLogits(**in_tiles, pool, KvType::kF32, 256, tokens, std::vector<size_t>(tokens.size(), 1));
  for (const std::vector<size_t>& lengths : {std::vector<size_t>(tokens.size(), 1),
                                             std::vector<size_t>(tokens.size() / 2, 2),
                                             {tokens.size()},
                                             {3, 5, 1, 2, 61}}) {
    EXPECT_EQ(AllLogits(**by_neuron, pool, KvType::kF32, 256, tokens, lengths), expected) << lengths.size() << " runs";
  }
}
INSTANTIATE_TEST_SUITE_P(All, NeuronsTest,
                         ::testing::Combine(::testing::Values("tiny-bamboo-quantized", "tiny-turbosparse-quantized"),
                                            ::testing::ValuesIn(kBuildIsas)),
                         [](const auto& param) {
                           std::string name = std::string(std::get<0>(param.param)) + "_" +
                                              std::string(IsaName(std::get<1>(param.param)));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Neurons, LieByThemselvesWhereTheFormatsAllow) {
  ThreadPool pool(1);
  const auto model = LoadTiny("tiny-turbosparse-quantized", BestIsa(), pool);
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  const bool has_kernels = FindMatMulKernel(TensorType::kQ4_0, BestIsa(), WeightOrder::kColumns) != nullptr;
  for (const ExpertLayer& layer : (*model)->experts()) EXPECT_EQ(layer.layout.is_by_neuron(), has_kernels);
  const auto narrow = LoadTiny("tiny-smallthinker", BestIsa(), pool);
  ASSERT_TRUE(narrow.ok()) << narrow.status().ToString();
  for (const ExpertLayer& layer : (*narrow)->experts()) EXPECT_FALSE(layer.layout.is_by_neuron());
}

TEST(Experts, SourceThatFailsFailsTheRun) {
  class Failing final : public ExpertSource {
    Status Provide(int32_t, std::span<ExpertTask>, const ExpertSink&) override { return IoError("the disk is gone"); }
    void Expect(int32_t, std::span<const int32_t>, double) override {}
  };
  ThreadPool pool(1);
  const auto model = LoadTiny("tiny-qwen3moe", Isa::kScalar, pool);
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  auto workspace = (*model)->MakeWorkspace(4);
  ASSERT_TRUE(workspace.ok());
  const KvMemory kv((*model)->shape(), KvType::kF16, 8);
  Failing failing;
  const std::vector<TokenId> tokens = {1, 2};
  ForwardRun run;
  run.tokens = tokens;
  const RunPart part = {.n_rows = 2, .kv = kv.views()};
  run.parts = {&part, 1};
  run.experts = &failing;
  EXPECT_EQ((*model)->Forward(run, pool, **workspace).code(), StatusCode::kIoError);
}

TEST(Embedding, ThatIsLeftInTheFileWantsASourceAndItsErrorIsTheRuns) {
  class Source final : public EmbeddingSource {
   public:
    Status Rows(std::span<const TokenId>, float*) override { return IoError("no disk"); }
  };
  class Unwanted final : public MatrixSource {
   public:
    Status Provide(std::span<const MatMulTask>, const MatrixSink&) override { return InternalError("not yet"); }
  };
  const auto file = GgufFile::Open(testing::TestData("models/tiny-llama3.gguf"));
  ASSERT_TRUE(file.ok());
  ThreadPool pool(1);
  NullLogger log;
  WeightPlacer placer;
  const auto model = Model::Load(**file, Isa::kScalar, pool, log, {}, &placer);
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  auto workspace = (*model)->MakeWorkspace(4);
  ASSERT_TRUE(workspace.ok());
  const KvMemory kv((*model)->shape(), KvType::kF16, 8);
  Source embedding;
  Unwanted matrices;
  const std::vector<TokenId> tokens = {1, 2};
  ForwardRun run;
  run.tokens = tokens;
  const RunPart part = {.n_rows = 2, .kv = kv.views()};
  run.parts = {&part, 1};
  run.matrices = &matrices;
  EXPECT_EQ((*model)->Forward(run, pool, **workspace).code(), StatusCode::kInvalidArgument);
  run.embedding = &embedding;
  EXPECT_EQ((*model)->Forward(run, pool, **workspace).code(), StatusCode::kIoError);
}

TEST(Experts, PlannedBytesAreThoseOfTheModel) {
  ThreadPool pool(1);
  for (const char* name : {"tiny-qwen3moe-quantized", "tiny-gpt-oss", "tiny-qwen2moe", "tiny-deepseek2"}) {
    const auto file = GgufFile::Open(testing::TestData(fmt::format("models/{}.gguf", name)));
    ASSERT_TRUE(file.ok());
    const auto model = LoadTiny(name, BestIsa(), pool);
    ASSERT_TRUE(model.ok()) << model.status().ToString();
    const Result<int64_t> planned = PackedWeightBytes(**file, BestIsa());
    ASSERT_TRUE(planned.ok());
    EXPECT_EQ(*planned, (*model)->weight_bytes());
    EXPECT_EQ(ForwardWorkspaceBytes((*model)->shape(), 4), (*model)->WorkspaceBytes(4));
  }
}

// A token reads its own experts, not all.
TEST(Experts, CostCountsTheOnesThatATokenReads) {
  ThreadPool pool(1);
  const auto model = LoadTiny("tiny-qwen3moe", Isa::kScalar, pool);
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  const ModelShape& s = (*model)->shape();
  const int64_t n_q = s.n_heads * s.head_dim, n_kv = s.n_kv_heads * s.head_dim;
  const int64_t attention = s.n_embd * (2 * n_q + 2 * n_kv), router = s.n_embd * s.n_experts;
  const int64_t expert = 3 * s.n_embd * s.n_ff_expert;
  EXPECT_EQ((*model)->cost().layers.float_macs, s.n_layers * (attention + router + s.n_experts_used * expert));
  EXPECT_GT((*model)->weight_bytes(), s.n_layers * s.n_experts * expert * 4);
}

std::string GoldenTestName(const ::testing::TestParamInfo<GoldenTest::ParamType>& info) {
  std::string name = std::string(std::get<0>(info.param).golden) + "_" + std::string(IsaName(std::get<1>(info.param)));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(EveryModelAndIsa, GoldenTest,
                         ::testing::Combine(::testing::ValuesIn(testing::kGoldenModels),
                                            ::testing::ValuesIn(kBuildIsas)),
                         GoldenTestName);

// tiny-llama with attention.sliding_window in its metadata.
Result<std::unique_ptr<Model>> LoadTinyLlamaWithWindow(uint32_t window, ThreadPool& pool) {
  std::string bytes = testing::ReadFile(testing::TestData("models/tiny-llama.gguf"));
  std::string entries;
  const auto put = [](std::string& to, auto value) { to.append(reinterpret_cast<const char*>(&value), sizeof value); };
  const auto put_key = [&](std::string_view key, MetadataType type) {
    put(entries, uint64_t{key.size()});
    entries += key;
    put(entries, type);
  };
  put_key("llama.attention.sliding_window", MetadataType::kU32);
  put(entries, window);
  put_key("x.pad", MetadataType::kBool);
  put(entries, uint8_t{0});
  EXPECT_EQ(entries.size() % 32, 0u);  // keeps the tensors aligned
  uint64_t n_entries = 0;
  std::memcpy(&n_entries, bytes.data() + 16, sizeof n_entries);
  n_entries += 2;
  std::memcpy(bytes.data() + 16, &n_entries, sizeof n_entries);
  bytes.insert(24, entries);
  std::vector<std::unique_ptr<Reader>> shards;
  shards.push_back(MakeMemoryReader("window.gguf", {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}));
  PANTRY_ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> file, GgufFile::Open(std::move(shards)));
  NullLogger log;
  return Model::Load(*file, Isa::kScalar, pool, log, {});
}

TEST(LlamaWindow, PositionsBehindItSeeLess) {
  constexpr int64_t kWindow = 16;
  ThreadPool pool(2);
  const auto whole = LoadTiny("tiny-llama", Isa::kScalar, pool);
  const auto sliding = LoadTinyLlamaWithWindow(kWindow, pool);
  ASSERT_TRUE(whole.ok() && sliding.ok()) << sliding.status().ToString();
  const Golden golden = ReadGolden("tiny-llama");
  const auto logits = [&](const Model& model) {
    return AllLogits(model, pool, KvType::kF32, golden.kv_positions, golden.tokens, {golden.tokens.size()});
  };
  const std::vector<float> seen_all = logits(**whole), seen_window = logits(**sliding);
  ASSERT_EQ(seen_all.size(), seen_window.size());
  const size_t n_vocab = static_cast<size_t>(golden.n_vocab);
  const auto first = std::mismatch(seen_all.begin(), seen_all.end(), seen_window.begin()).first - seen_all.begin();
  EXPECT_EQ(first / static_cast<int64_t>(n_vocab), kWindow);  // the first position that does not see position 0
  for (size_t row = kWindow; row < golden.tokens.size(); ++row) {
    EXPECT_NE(std::memcmp(&seen_all[row * n_vocab], &seen_window[row * n_vocab], n_vocab * sizeof(float)), 0) << row;
  }
}

class TinyLlama : public ::testing::Test {
 protected:
  void SetUp() override {
    auto model = LoadTiny("tiny-llama", Isa::kScalar, pool_);
    ASSERT_TRUE(model.ok()) << model.status().ToString();
    model_ = std::move(model).value();
    auto workspace = model_->MakeWorkspace(4);
    ASSERT_TRUE(workspace.ok());
    workspace_ = std::move(workspace).value();
    kv_ = std::make_unique<KvMemory>(model_->shape(), KvType::kF16, 8);
    logits_.resize(static_cast<size_t>(model_->shape().n_vocab));
    run_.tokens = tokens_;
    part_ = {.n_rows = 3, .kv = kv_->views()};
    run_.parts = {&part_, 1};
    run_.logit_rows = rows_;
    run_.logits = logits_;
  }
  void ExpectRefused(const std::string& part_of_message) {
    const Status status = model_->Forward(run_, pool_, *workspace_);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(part_of_message), std::string_view::npos) << status.ToString();
  }

  ThreadPool pool_{1};
  std::unique_ptr<Model> model_;
  std::unique_ptr<Workspace> workspace_;
  std::unique_ptr<KvMemory> kv_;
  std::vector<TokenId> tokens_ = {5, 6, 7};
  std::vector<int32_t> rows_ = {2};
  std::vector<float> logits_;
  RunPart part_;
  ForwardRun run_;
};

TEST_F(TinyLlama, GoodRunPasses) { EXPECT_TRUE(model_->Forward(run_, pool_, *workspace_).ok()); }

TEST_F(TinyLlama, RunWithoutWantedLogitsPasses) {
  run_.logit_rows = {};
  run_.logits = {};
  EXPECT_TRUE(model_->Forward(run_, pool_, *workspace_).ok());
}

TEST_F(TinyLlama, RunLongerThanWorkspaceIsRefused) {
  tokens_.assign(5, 1);
  run_.tokens = tokens_;
  ExpectRefused("a run of 5 tokens: expected 1 to 4");
}

TEST_F(TinyLlama, EmptyRunIsRefused) {
  run_.tokens = {};
  ExpectRefused("a run of 0 tokens");
}

TEST_F(TinyLlama, TokenOutsideVocabularyIsRefused) {
  tokens_[1] = model_->shape().n_vocab;
  ExpectRefused("token 320 is not in the vocabulary of 320");
  tokens_[1] = -1;
  ExpectRefused("token -1");
}

TEST_F(TinyLlama, RunBehindTheCacheIsRefused) {
  part_.first_position = 6;
  ExpectRefused("3 positions from 6 on do not fit in a KV cache of 8");
  part_.first_position = INT64_MAX - 1;
  ExpectRefused("do not fit");
  part_.first_position = -1;
  ExpectRefused("do not fit");
}

TEST_F(TinyLlama, CacheOfAnotherShapeIsRefused) {
  part_.kv = part_.kv.first(1);
  ExpectRefused("a KV cache of 1 layers for a model of 2");
  std::vector<KvLayerView> views(kv_->views().begin(), kv_->views().end());
  views[1].head_dim = 32;
  part_.kv = views;
  ExpectRefused("heads of 32");
}

TEST_F(TinyLlama, QuantizedCacheNeedsHeadsOfWholeBlocks) {
  std::vector<KvLayerView> views(kv_->views().begin(), kv_->views().end());
  part_.kv = views;
  views[0].k_type = KvType::kQ8_0;
  ExpectRefused("a q8_0 KV cache needs heads of a multiple of 32 numbers, this model has 16");
  views[0].k_type = KvType::kF16;
  views[1].v_type = KvType::kQ4_0;
  ExpectRefused("a q4_0 KV cache needs heads of a multiple of 32 numbers, this model has 16");
}

TEST_F(TinyLlama, PartsThatAreNotAllRowsInOrderAreRefused) {
  const KvMemory other(model_->shape(), KvType::kF16, 8);
  std::vector<RunPart> parts = {{.n_rows = 2, .kv = kv_->views()},
                                {.first_row = 2, .n_rows = 1, .first_position = 5, .kv = other.views()}};
  run_.parts = parts;
  EXPECT_TRUE(model_->Forward(run_, pool_, *workspace_).ok());
  run_.parts = std::span(parts).first(1);
  ExpectRefused("parts of 2 rows for a run of 3 tokens");
  run_.parts = {};
  ExpectRefused("parts of 0 rows");
  run_.parts = parts;
  parts[1].first_row = 1;
  ExpectRefused("a part of 1 rows from 1 on, after 2 of 3 rows");
  parts[1] = {.first_row = 2, .n_rows = 2, .kv = other.views()};
  ExpectRefused("a part of 2 rows from 2 on");
  parts[1].n_rows = 0;
  ExpectRefused("a part of 0 rows");
  parts[1] = {.first_row = 2, .n_rows = 1, .first_position = 8, .kv = other.views()};
  ExpectRefused("1 positions from 8 on do not fit");
}

TEST_F(TinyLlama, WrongLogitRowsAreRefused) {
  rows_ = {3};
  ExpectRefused("logit row 3");
  rows_ = {1, 1};
  run_.logit_rows = rows_;
  ExpectRefused("logit row 1 after 1");
  rows_ = {1, 2};
  ExpectRefused("room for 320 logits: expected 2 rows of 320");
}

TEST_F(TinyLlama, WorkspaceOfAnotherModelIsRefused) {
  auto other = LoadTiny("tiny-llama", Isa::kScalar, pool_);
  ASSERT_TRUE(other.ok());
  auto workspace = (*other)->MakeWorkspace(4);
  ASSERT_TRUE(workspace.ok());
  workspace_ = std::move(workspace).value();
  ExpectRefused("another model");
}

TEST_F(TinyLlama, AbsurdWorkspaceIsRefused) {
  EXPECT_EQ(model_->MakeWorkspace(0).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(model_->MakeWorkspace(INT64_MAX / 2).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(TinyLlama, PlannedBytesAreThoseOfTheModel) {
  auto file = GgufFile::Open(testing::TestData("models/tiny-llama.gguf"));
  ASSERT_TRUE(file.ok());
  const Result<int64_t> planned = PackedWeightBytes(**file, Isa::kScalar);
  ASSERT_TRUE(planned.ok());
  EXPECT_EQ(*planned, model_->weight_bytes());
  EXPECT_EQ(ForwardWorkspaceBytes(model_->shape(), 4), model_->WorkspaceBytes(4));
}

}  // namespace
}  // namespace pantry
