// SPDX-License-Identifier: Apache-2.0
#include "models/layer_weights.h"

#include <gmock/gmock.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/test_models.h"
#include "models/weight_placer.h"

namespace pantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TestData;

// A tiny model's file, and a loader that was told of one layer's attention.
struct BoundAttention {
  explicit BoundAttention(const std::string& name, const AttentionExtras& extras = {}) {
    file = GgufFile::Open(TestData("models/" + name + ".gguf")).value();
    shape = ParseModelShape(file->metadata()).value();
    loader.emplace(*file, Isa::kScalar);
    BindAttention(*loader, "blk.0.", shape, extras, &weights);
  }
  std::string error() const { return std::string(loader->status().message()); }

  std::unique_ptr<GgufFile> file;
  ModelShape shape;
  std::optional<WeightLoader> loader;
  AttentionWeights weights;
};

TEST(LayerWeights, BiasesAreBoundOnlyForAnArchitectureThatHasThem) {
  const int64_t none = BoundAttention("tiny-qwen2").loader->n_bytes();
  const int64_t optional = BoundAttention("tiny-qwen2", {.qkv_biases = Biases::kOptional}).loader->n_bytes();
  EXPECT_GT(optional, none);
  EXPECT_EQ(BoundAttention("tiny-qwen2", {.qkv_biases = Biases::kRequired}).loader->n_bytes(), optional);
}

TEST(LayerWeights, OnlyRequiredBiasesMayNotBeMissing) {
  EXPECT_EQ(BoundAttention("tiny-llama", {.o_bias = Biases::kOptional}).error(), "");
  EXPECT_THAT(BoundAttention("tiny-llama", {.o_bias = Biases::kRequired}).error(),
              HasSubstr("'blk.0.attn_output.bias' is missing"));
}

TEST(LayerWeights, NormsOfHeadsAreNotThoseOfAllTogether) {
  EXPECT_EQ(BoundAttention("tiny-qwen3", {.qk_norms = QkNorms::kByHead}).error(), "");
  EXPECT_THAT(BoundAttention("tiny-qwen3", {.qk_norms = QkNorms::kWhole}).error(), HasSubstr("wrong dims"));
  EXPECT_EQ(BoundAttention("tiny-olmoe", {.qk_norms = QkNorms::kWhole}).error(), "");
  EXPECT_THAT(BoundAttention("tiny-olmoe", {.qk_norms = QkNorms::kByHead}).error(), HasSubstr("wrong dims"));
}

TEST(LayerWeights, MatricesLieInTheOrderOfTheirUse) {
  BoundAttention model("tiny-llama");
  DenseWeights dense;
  BindDense(*model.loader, "blk.0.", model.shape, &dense);
  std::vector<std::string> names;
  model.loader->ForEachMatrix([&](const std::string& name, const WeightMatrix&, int64_t) { names.push_back(name); });
  EXPECT_THAT(names, ElementsAre("blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight",
                                 "blk.0.attn_output.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight",
                                 "blk.0.ffn_down.weight"));
}

TEST(LayerWeights, EmbeddingServesWhereThereIsNoOutput) {
  BoundAttention tied("tiny-gemma2"), untied("tiny-qwen3");
  ModelEnds tied_ends, untied_ends;
  BindEnds(*tied.loader, tied.shape, &tied_ends);
  BindEnds(*untied.loader, untied.shape, &untied_ends);
  EXPECT_EQ(&tied_ends.output(), &tied_ends.embedding);
  EXPECT_EQ(&untied_ends.output(), &untied_ends.own_output);
}

TEST(LayerWeights, EmbeddingStaysInTheFileWithTheOthersUnlessItServesAsOutput) {
  for (const auto& [name, is_left] : {std::pair("tiny-qwen3", true), {"tiny-gemma2", false}}) {
    SCOPED_TRACE(name);
    BoundAttention model(name);
    WeightPlacer placer;
    WeightLoader loader(*model.file, Isa::kScalar, &placer, WeightLoader::Left::kLayers);
    ModelEnds ends, resident;
    BindEnds(loader, model.shape, &ends);
    ASSERT_TRUE(loader.status().ok());
    ASSERT_EQ(placer.rows_in_file().has_value(), is_left);
    WeightLoader all(*model.file, Isa::kScalar);
    BindEnds(all, model.shape, &resident);
    EXPECT_EQ(all.n_bytes() - loader.n_bytes(), is_left ? placer.rows_in_file()->resident_bytes : 0);
    if (!is_left) continue;
    const TensorInfo& tensor = *model.file->FindTensor("token_embd.weight");
    EXPECT_EQ(placer.rows_in_file()->offset, tensor.offset);
    EXPECT_EQ(static_cast<uint64_t>(placer.rows_in_file()->row_bytes * tensor.n_rows()), tensor.n_bytes);
    EXPECT_EQ(placer.n_blocks(), 0);
  }
}

}  // namespace
}  // namespace pantry
