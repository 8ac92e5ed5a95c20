// SPDX-License-Identifier: Apache-2.0
#include "weights/model_shape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "weights/gguf/metadata.h"

namespace pantry {
namespace {

using ::testing::HasSubstr;

// Metadata of a model, key by key; a later value replaces an earlier one.
class Keys {
 public:
  Keys& Int(const std::string& key, int64_t value) { return Set(key, MetadataType::kI64, value); }
  Keys& Float(const std::string& key, double value) { return Set(key, MetadataType::kF64, value); }
  Keys& Bool(const std::string& key, bool value) { return Set(key, MetadataType::kBool, value); }
  Keys& Text(const std::string& key, std::string value) { return Set(key, MetadataType::kString, std::move(value)); }
  Keys& Ints(const std::string& key, std::vector<int64_t> values) {
    auto array = std::make_unique<MetadataArray>();
    array->element_type = MetadataType::kI64;
    array->integers = std::move(values);
    return Set(key, MetadataType::kArray, std::move(array));
  }
  Keys& Strings(const std::string& key, size_t n) {
    auto array = std::make_unique<MetadataArray>();
    array->element_type = MetadataType::kString;
    array->strings.resize(n);
    return Set(key, MetadataType::kArray, std::move(array));
  }
  Keys& Drop(const std::string& key) {
    std::erase_if(values_, [&](const auto& value) { return value.first == key; });
    return *this;
  }
  Result<ModelShape> Parse() {
    Metadata metadata;
    for (auto& [key, value] : values_) metadata.Add(key, std::move(value));
    return ParseModelShape(metadata);
  }

 private:
  template <typename T>
  Keys& Set(const std::string& key, MetadataType type, T value) {
    Drop(key);
    MetadataValue out;
    out.type = type;
    out.value = std::move(value);
    values_.emplace_back(key, std::move(out));
    return *this;
  }
  std::vector<std::pair<std::string, MetadataValue>> values_;
};

Keys Base(const std::string& arch, int64_t n_layers, int64_t n_embd, int64_t n_ff, int64_t n_heads, int64_t n_kv_heads,
          int64_t n_ctx) {
  Keys keys;
  keys.Text("general.architecture", arch).Text("general.name", "a model");
  keys.Int(arch + ".block_count", n_layers)
      .Int(arch + ".embedding_length", n_embd)
      .Int(arch + ".feed_forward_length", n_ff);
  keys.Int(arch + ".attention.head_count", n_heads).Int(arch + ".attention.head_count_kv", n_kv_heads);
  keys.Int(arch + ".context_length", n_ctx).Float(arch + ".attention.layer_norm_rms_epsilon", 1e-6);
  return keys;
}
Keys Llama() { return Base("llama", 32, 4096, 14336, 32, 8, 8192); }
Keys Qwen3Moe() {
  return std::move(Base("qwen3moe", 48, 2048, 6144, 32, 4, 40960)
                       .Int("qwen3moe.attention.key_length", 128)
                       .Int("qwen3moe.expert_count", 128)
                       .Int("qwen3moe.expert_used_count", 8)
                       .Int("qwen3moe.expert_feed_forward_length", 768));
}
Keys DeepSeek2Lite() {
  return std::move(Base("deepseek2", 27, 2048, 10944, 16, 1, 163840)
                       .Int("deepseek2.attention.kv_lora_rank", 512)
                       .Int("deepseek2.attention.key_length", 576)
                       .Int("deepseek2.attention.value_length", 512)
                       .Int("deepseek2.attention.key_length_mla", 192)
                       .Int("deepseek2.attention.value_length_mla", 128)
                       .Int("deepseek2.rope.dimension_count", 64)
                       .Text("deepseek2.rope.scaling.type", "yarn")
                       .Float("deepseek2.rope.scaling.factor", 40)
                       .Float("deepseek2.rope.scaling.yarn_log_multiplier", 0.0707)
                       .Int("deepseek2.rope.scaling.original_context_length", 4096)
                       .Int("deepseek2.leading_dense_block_count", 1)
                       .Int("deepseek2.expert_count", 64)
                       .Int("deepseek2.expert_used_count", 6)
                       .Int("deepseek2.expert_shared_count", 2)
                       .Int("deepseek2.expert_feed_forward_length", 1408));
}
Keys Gemma2(int64_t n_layers = 26) {
  return std::move(Base("gemma2", n_layers, 2304, 9216, 8, 4, 8192)
                       .Int("gemma2.attention.key_length", 256)
                       .Int("gemma2.attention.value_length", 256));
}
Keys Gemma3(int64_t n_layers = 34) {
  return std::move(Base("gemma3", n_layers, 2560, 10240, 8, 4, 131072)
                       .Int("gemma3.attention.key_length", 256)
                       .Int("gemma3.attention.value_length", 256));
}
Keys Phi3(int64_t n_ctx) {
  return std::move(Base("phi3", 32, 3072, 8192, 32, 32, n_ctx).Int("phi3.rope.dimension_count", 96));
}

TEST(ModelShape, LlamaReadsItsKeys) {
  const auto shape = Llama()
                         .Float("llama.rope.freq_base", 500000)
                         .Int("llama.rope.dimension_count", 128)
                         .Int("llama.vocab_size", 128256)
                         .Parse();
  ASSERT_TRUE(shape.ok()) << shape.status().ToString();
  EXPECT_EQ(shape->architecture, "llama");
  EXPECT_EQ(shape->name, "a model");
  EXPECT_EQ(shape->n_layers, 32);
  EXPECT_EQ(shape->n_embd, 4096);
  EXPECT_EQ(shape->n_ff, 14336);
  EXPECT_EQ(shape->n_heads, 32);
  EXPECT_EQ(shape->n_kv_heads, 8);
  EXPECT_EQ(shape->head_dim, 128);
  EXPECT_EQ(shape->n_vocab, 128256);
  EXPECT_EQ(shape->n_ctx_train, 8192);
  EXPECT_FLOAT_EQ(shape->norm_eps, 1e-6f);
  EXPECT_EQ(shape->rope.layout, RopeLayout::kInterleaved);
  EXPECT_EQ(shape->rope.n_dims, 128);
  EXPECT_EQ(shape->rope.freq_base, 500000.0);
  EXPECT_EQ(shape->rope.scaling, RopeScaling::kNone);
  EXPECT_EQ(shape->sliding_window, 0);
  EXPECT_EQ(shape->layer_is_sliding, std::vector<bool>(32, false));
  EXPECT_FLOAT_EQ(shape->attn_scale, 1.0f / std::sqrt(128.0f));
  EXPECT_EQ(shape->embedding_scale, 1.0f);
  EXPECT_EQ(shape->attn_softcap, 0.0f);
  EXPECT_EQ(shape->n_experts, 0);
}

TEST(ModelShape, AbsentKeysTakeTheirDefaults) {
  const auto shape =
      Llama().Drop("llama.attention.head_count_kv").Drop("general.name").Strings("tokenizer.ggml.tokens", 777).Parse();
  ASSERT_TRUE(shape.ok()) << shape.status().ToString();
  EXPECT_EQ(shape->n_kv_heads, 32);
  EXPECT_EQ(shape->name, "");
  EXPECT_EQ(shape->n_vocab, 777);
  EXPECT_EQ(shape->rope.freq_base, 10000.0);
  EXPECT_EQ(shape->rope.original_context, 8192);
  EXPECT_EQ(Llama().Parse()->n_vocab, 0);
}

TEST(ModelShape, Qwen2AndQwen3RotateHalvesAndMayHaveWideHeads) {
  const auto qwen2 = Base("qwen2", 24, 896, 4864, 14, 2, 32768).Float("qwen2.rope.freq_base", 1e6).Parse();
  ASSERT_TRUE(qwen2.ok()) << qwen2.status().ToString();
  EXPECT_EQ(qwen2->rope.layout, RopeLayout::kHalves);
  EXPECT_EQ(qwen2->head_dim, 64);
  const auto qwen3 = Base("qwen3", 28, 1024, 3072, 16, 8, 40960)
                         .Int("qwen3.attention.key_length", 128)
                         .Int("qwen3.attention.value_length", 128)
                         .Parse();
  ASSERT_TRUE(qwen3.ok()) << qwen3.status().ToString();
  EXPECT_EQ(qwen3->rope.layout, RopeLayout::kHalves);
  EXPECT_EQ(qwen3->head_dim, 128);  // not 1024 / 16
  EXPECT_EQ(qwen3->rope.n_dims, 128);
}

TEST(ModelShape, ExpertsAreRead) {
  const auto shape = Qwen3Moe().Parse();
  ASSERT_TRUE(shape.ok()) << shape.status().ToString();
  EXPECT_EQ(shape->n_experts, 128);
  EXPECT_EQ(shape->n_experts_used, 8);
  EXPECT_EQ(shape->n_ff_expert, 768);
  EXPECT_EQ(shape->n_ff, 0);  // no dense layers
  EXPECT_EQ(shape->n_dense_layers, 0);
  EXPECT_EQ(shape->expert_mixing.gating, ExpertGating::kSoftmax);
  EXPECT_TRUE(shape->expert_mixing.normalized);
  EXPECT_EQ(shape->expert_mixing.scale, 1.0f);
  EXPECT_EQ(Qwen3Moe().Drop("qwen3moe.expert_feed_forward_length").Parse()->n_ff_expert, 6144 / 8);
}

TEST(ModelShape, MixingOfExpertsIsWhatTheFileSays) {
  const auto shape = Qwen3Moe()
                         .Int("qwen3moe.expert_gating_func", 2)
                         .Bool("qwen3moe.expert_weights_norm", false)
                         .Float("qwen3moe.expert_weights_scale", 2.5)
                         .Parse();
  ASSERT_TRUE(shape.ok()) << shape.status().ToString();
  EXPECT_EQ(shape->expert_mixing.gating, ExpertGating::kSigmoid);
  EXPECT_FALSE(shape->expert_mixing.normalized);
  EXPECT_EQ(shape->expert_mixing.scale, 2.5f);
}

TEST(ModelShape, LlamaMayHaveExperts) {
  const auto shape = Llama().Int("llama.expert_count", 8).Int("llama.expert_used_count", 2).Parse();
  ASSERT_TRUE(shape.ok()) << shape.status().ToString();
  EXPECT_EQ(shape->n_experts, 8);
  EXPECT_EQ(shape->n_ff_expert, 14336);
  EXPECT_EQ(shape->n_ff, 0);
  EXPECT_TRUE(shape->expert_mixing.normalized);
}

TEST(ModelShape, Qwen2MoeHasASharedExpert) {
  const auto keys = [] {
    return std::move(Base("qwen2moe", 24, 2048, 5632, 16, 16, 32768)
                         .Int("qwen2moe.expert_count", 60)
                         .Int("qwen2moe.expert_used_count", 4)
                         .Int("qwen2moe.expert_feed_forward_length", 1408));
  };
  const auto shape = keys().Int("qwen2moe.expert_shared_feed_forward_length", 5000).Parse();
  ASSERT_TRUE(shape.ok()) << shape.status().ToString();
  EXPECT_EQ(shape->n_ff_expert, 1408);
  EXPECT_EQ(shape->n_ff_shared, 5000);
  EXPECT_FALSE(shape->expert_mixing.normalized);
  EXPECT_EQ(keys().Parse()->n_ff_shared, 5632);
}

TEST(ModelShape, SmallThinkerRotatesOnlyWhereItHasWindowsIfItHasAny) {
  const auto keys = [] {
    return std::move(Base("smallthinker", 6, 1536, 768, 12, 2, 16384)
                         .Int("smallthinker.expert_count", 32)
                         .Int("smallthinker.expert_used_count", 4)
                         .Int("smallthinker.expert_gating_func", 2));
  };
  const auto whole = keys().Parse();
  ASSERT_TRUE(whole.ok()) << whole.status().ToString();
  EXPECT_EQ(whole->layer_is_sliding, std::vector<bool>(6, false));
  EXPECT_EQ(whole->layer_is_rotated, std::vector<bool>(6, true));
  EXPECT_EQ(whole->expert_mixing.gating, ExpertGating::kSigmoid);
  const std::vector<bool> pattern = {false, true, true, true, false, true};
  const auto sliding = keys().Int("smallthinker.attention.sliding_window", 64).Parse();
  EXPECT_EQ(sliding->sliding_window, 64);
  EXPECT_EQ(sliding->layer_is_sliding, pattern);
  EXPECT_EQ(sliding->layer_is_rotated, pattern);
}

TEST(ModelShape, DeepSeekCachesItsLatents) {
  const auto shape = DeepSeek2Lite().Parse();
  ASSERT_TRUE(shape.ok()) << shape.status().ToString();
  EXPECT_EQ(shape->head_dim, 576);
  EXPECT_EQ(shape->n_kv_heads, 1);
  EXPECT_EQ(shape->latent.n_latent, 512);
  EXPECT_EQ(shape->latent.plain_dim, 128);
  EXPECT_EQ(shape->latent.value_dim, 128);
  EXPECT_EQ(shape->rope.n_dims, 64);
  EXPECT_EQ(shape->n_dense_layers, 1);
  EXPECT_EQ(shape->n_ff, 10944);
  EXPECT_EQ(shape->n_ff_shared, 2 * 1408);
  // YaRN scales scores by (1 + 0.0707 ln 40)^2 and leaves the rotation alone.
  EXPECT_NEAR(shape->attn_scale, std::pow(1 + 0.0707 * std::log(40), 2) / std::sqrt(192.0), 1e-6);
  EXPECT_NEAR(shape->rope.attn_factor * (1 + 0.1 * std::log(40)), 1, 1e-9);
}

TEST(ModelShape, RopeScalingTypesAreRead) {
  const auto linear = Llama().Text("llama.rope.scaling.type", "linear").Float("llama.rope.scaling.factor", 4).Parse();
  EXPECT_EQ(linear->rope.scaling, RopeScaling::kLinear);
  EXPECT_EQ(linear->rope.scale_factor, 4.0);
  const auto old = Llama().Float("llama.rope.scale_linear", 2).Parse();
  EXPECT_EQ(old->rope.scaling, RopeScaling::kLinear);
  EXPECT_EQ(old->rope.scale_factor, 2.0);
  const auto none = Llama().Text("llama.rope.scaling.type", "none").Float("llama.rope.scaling.factor", 4).Parse();
  EXPECT_EQ(none->rope.scaling, RopeScaling::kNone);
  EXPECT_EQ(none->rope.scale_factor, 1.0);
  const auto zero = Llama().Float("llama.rope.scaling.factor", 0).Parse();
  EXPECT_EQ(zero->rope.scaling, RopeScaling::kNone);
  const auto yarn = Base("qwen2", 28, 3584, 18944, 28, 4, 131072)
                        .Text("qwen2.rope.scaling.type", "yarn")
                        .Float("qwen2.rope.scaling.factor", 4)
                        .Int("qwen2.rope.scaling.original_context_length", 32768)
                        .Float("qwen2.rope.scaling.yarn_beta_fast", 16)
                        .Parse();
  ASSERT_TRUE(yarn.ok()) << yarn.status().ToString();
  EXPECT_EQ(yarn->rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(yarn->rope.scale_factor, 4.0);
  EXPECT_EQ(yarn->rope.original_context, 32768);
  EXPECT_EQ(yarn->rope.attn_factor, 1.0);
  EXPECT_EQ(yarn->rope.yarn_beta_fast, 16.0);
  EXPECT_EQ(yarn->rope.yarn_beta_slow, 1.0);
}

TEST(ModelShape, Phi3ScalesOnlyBeyondItsOriginalContext) {
  const auto long_context = Phi3(131072)
                                .Int("phi3.rope.scaling.original_context_length", 4096)
                                .Float("phi3.rope.scaling.attn_factor", 1.19)
                                .Int("phi3.attention.sliding_window", 262144)
                                .Parse();
  ASSERT_TRUE(long_context.ok()) << long_context.status().ToString();
  EXPECT_EQ(long_context->rope.scaling, RopeScaling::kLongRope);
  EXPECT_EQ(long_context->rope.original_context, 4096);
  EXPECT_EQ(long_context->rope.attn_factor, 1.19);
  EXPECT_EQ(long_context->sliding_window, 0);  // longer than the context
  const auto short_context = Phi3(4096)
                                 .Int("phi3.rope.scaling.original_context_length", 4096)
                                 .Int("phi3.attention.sliding_window", 2047)
                                 .Parse();
  ASSERT_TRUE(short_context.ok()) << short_context.status().ToString();
  EXPECT_EQ(short_context->rope.scaling, RopeScaling::kNone);
  EXPECT_EQ(short_context->sliding_window, 2047);
  EXPECT_EQ(short_context->layer_is_sliding, std::vector<bool>(32, true));
}

TEST(ModelShape, Gemma2AlternatesWindowsAndCapsLogits) {
  const auto shape = Gemma2().Parse();
  ASSERT_TRUE(shape.ok()) << shape.status().ToString();
  EXPECT_EQ(shape->sliding_window, 4096);
  for (int layer = 0; layer < 26; ++layer) EXPECT_EQ(shape->layer_is_sliding[layer], layer % 2 == 0) << layer;
  EXPECT_EQ(shape->attn_softcap, 50.0f);
  EXPECT_EQ(shape->final_softcap, 30.0f);
  EXPECT_FLOAT_EQ(shape->embedding_scale, std::sqrt(2304.0f));
  EXPECT_FLOAT_EQ(shape->attn_scale, 1.0f / 16);
  EXPECT_EQ(shape->rope_local.freq_base, shape->rope.freq_base);
  const auto other = Gemma2()
                         .Float("gemma2.attn_logit_softcapping", 20)
                         .Float("gemma2.final_logit_softcapping", 0)
                         .Int("gemma2.attention.sliding_window", 512)
                         .Parse();
  EXPECT_EQ(other->attn_softcap, 20.0f);
  EXPECT_EQ(other->final_softcap, 0.0f);
  EXPECT_EQ(other->sliding_window, 512);
}

TEST(ModelShape, Gemma3HasFiveLocalLayersPerGlobalOneWithARopeOfTheirOwn) {
  const auto shape = Gemma3()
                         .Int("gemma3.attention.sliding_window", 1024)
                         .Float("gemma3.rope.freq_base", 1e6)
                         .Text("gemma3.rope.scaling.type", "linear")
                         .Float("gemma3.rope.scaling.factor", 8)
                         .Parse();
  ASSERT_TRUE(shape.ok()) << shape.status().ToString();
  for (int layer = 0; layer < 34; ++layer) EXPECT_EQ(shape->layer_is_sliding[layer], layer % 6 != 5) << layer;
  EXPECT_EQ(shape->rope.freq_base, 1e6);
  EXPECT_EQ(shape->rope.scaling, RopeScaling::kLinear);
  EXPECT_EQ(shape->rope.scale_factor, 8.0);
  EXPECT_EQ(shape->rope_local.freq_base, 10000.0);
  EXPECT_EQ(shape->rope_local.scaling, RopeScaling::kNone);
  EXPECT_EQ(shape->rope_local.n_dims, 256);
  EXPECT_EQ(shape->attn_softcap, 0.0f);
  EXPECT_EQ(shape->final_softcap, 0.0f);
  EXPECT_EQ(Gemma3()
                .Int("gemma3.attention.sliding_window", 1024)
                .Float("gemma3.rope.freq_base_swa", 20000)
                .Parse()
                ->rope_local.freq_base,
            20000.0);
  EXPECT_EQ(Gemma3().Parse()->layer_is_sliding, std::vector<bool>(34, false));  // no window, no pattern
}

// Mistral 7B v0.1 is a llama with a window in all layers.
TEST(ModelShape, LlamaHasTheWindowOfItsFile) {
  const auto shape = Base("llama", 32, 4096, 14336, 32, 8, 32768).Int("llama.attention.sliding_window", 4096).Parse();
  ASSERT_TRUE(shape.ok()) << shape.status().ToString();
  EXPECT_EQ(shape->sliding_window, 4096);
  EXPECT_EQ(shape->layer_is_sliding, std::vector<bool>(32, true));
  for (const int64_t no_window : {0, 8192, 131072}) {
    const auto whole = Llama().Int("llama.attention.sliding_window", no_window).Parse();
    ASSERT_TRUE(whole.ok()) << whole.status().ToString();
    EXPECT_EQ(whole->sliding_window, 0) << no_window;
    EXPECT_EQ(whole->layer_is_sliding, std::vector<bool>(32, false)) << no_window;
  }
}

TEST(ModelShape, WindowPatternOfTheFileOverridesTheArchitectures) {
  const auto period =
      Gemma3(4).Int("gemma3.attention.sliding_window", 512).Int("gemma3.attention.sliding_window_pattern", 2).Parse();
  EXPECT_EQ(period->layer_is_sliding, (std::vector<bool>{true, false, true, false}));
  const auto array = Gemma3(4)
                         .Int("gemma3.attention.sliding_window", 512)
                         .Ints("gemma3.attention.sliding_window_pattern", {0, 0, 1, 1})
                         .Parse();
  EXPECT_EQ(array->layer_is_sliding, (std::vector<bool>{false, false, true, true}));
}

TEST(ModelShape, The27bGemmasScaleAttentionByWidthPerHead) {
  const auto gemma2 = Base("gemma2", 46, 4608, 36864, 32, 16, 8192)
                          .Int("gemma2.attention.key_length", 128)
                          .Int("gemma2.attention.value_length", 128)
                          .Parse();
  ASSERT_TRUE(gemma2.ok()) << gemma2.status().ToString();
  EXPECT_FLOAT_EQ(gemma2->attn_scale, 1.0f / 12);  // 1/sqrt(4608 / 32)
  const auto gemma3 = Base("gemma3", 62, 5376, 21504, 32, 16, 131072)
                          .Int("gemma3.attention.key_length", 128)
                          .Int("gemma3.attention.value_length", 128)
                          .Parse();
  EXPECT_FLOAT_EQ(gemma3->attn_scale, 1.0f / std::sqrt(168.0f));
  EXPECT_FLOAT_EQ(Gemma3(46).Parse()->attn_scale, 1.0f / 16);
}

TEST(ModelShape, PerLayerArraysAreReadWhereAllLayersAgree) {
  const auto equal = Base("llama", 3, 512, 1024, 8, 8, 512)
                         .Ints("llama.attention.head_count_kv", {4, 4, 4})
                         .Ints("llama.feed_forward_length", {99, 99, 99})
                         .Parse();
  ASSERT_TRUE(equal.ok()) << equal.status().ToString();
  EXPECT_EQ(equal->n_kv_heads, 4);
  EXPECT_EQ(equal->n_ff, 99);
}

struct BadShape {
  const char* name;
  std::function<Result<ModelShape>()> parse;
  StatusCode code;
  const char* message;
};
std::ostream& operator<<(std::ostream& out, const BadShape& bad) { return out << bad.name; }

constexpr StatusCode kBad = StatusCode::kCorruption;
constexpr StatusCode kUnsupported = StatusCode::kUnsupported;
const BadShape kBadShapes[] = {
    {"NoArchitecture", [] { return Keys().Parse(); }, StatusCode::kNotFound, "'general.architecture' is missing"},
    {"ArchitectureOfWrongType", [] { return Llama().Int("general.architecture", 1).Parse(); }, kBad,
     "expected string, found i64"},
    {"UnknownArchitecture", [] { return Llama().Text("general.architecture", "foo\n").Parse(); }, kUnsupported,
     "architecture 'foo\\n' is not supported (supported: deepseek2, gemma2, gemma3, gpt-oss, llama, olmoe, phi3, "
     "phimoe, qwen2, "
     "qwen2moe, "
     "qwen3, qwen3moe, smallthinker)"},
    {"ExpertsWhereNoneBelong", [] { return Gemma2().Int("gemma2.expert_count", 8).Parse(); }, kUnsupported,
     "architecture 'gemma2' is not supported with experts (gemma2.expert_count = 8)"},
    {"NoExperts", [] { return Qwen3Moe().Drop("qwen3moe.expert_count").Parse(); }, kUnsupported,
     "architecture 'qwen3moe' is not supported without experts"},
    {"MoreExpertsUsedThanThereAre", [] { return Qwen3Moe().Int("qwen3moe.expert_used_count", 129).Parse(); }, kBad,
     "'qwen3moe.expert_used_count' is 129, expected 1 to 128"},
    {"NoExpertsUsed", [] { return Qwen3Moe().Int("qwen3moe.expert_used_count", 0).Parse(); }, kBad,
     "'qwen3moe.expert_used_count' is 0"},
    {"ManyExperts", [] { return Qwen3Moe().Int("qwen3moe.expert_count", 1 << 20).Parse(); }, kBad,
     "'qwen3moe.expert_count' is 1048576, expected 0 to 1024"},
    {"ExpertsWithoutWidth", [] { return Qwen3Moe().Int("qwen3moe.expert_feed_forward_length", 0).Parse(); }, kBad,
     "'qwen3moe.expert_feed_forward_length' is 0"},
    {"CompressedQueries", [] { return DeepSeek2Lite().Int("deepseek2.attention.q_lora_rank", 1536).Parse(); },
     kUnsupported, "'deepseek2.attention.q_lora_rank'"},
    {"OldLatents", [] { return DeepSeek2Lite().Drop("deepseek2.attention.key_length_mla").Parse(); }, kUnsupported,
     "convert the model again"},
    {"LatentDoesNotFitItsHead", [] { return DeepSeek2Lite().Int("deepseek2.attention.kv_lora_rank", 500).Parse(); },
     kBad, "do not fit a latent of 500"},
    {"QueryWithoutPlainPart", [] { return DeepSeek2Lite().Int("deepseek2.attention.key_length_mla", 64).Parse(); },
     kBad, "'deepseek2.attention.key_length_mla' is 64, expected 65 to 2112"},
    {"ManySharedExperts", [] { return DeepSeek2Lite().Int("deepseek2.expert_shared_count", 1 << 20).Parse(); }, kBad,
     "'deepseek2.expert_shared_count' is 1048576"},
    {"GroupsOfExperts", [] { return DeepSeek2Lite().Int("deepseek2.expert_group_count", 8).Parse(); }, kUnsupported,
     "experts in groups"},
    {"ManyDenseLayers", [] { return DeepSeek2Lite().Int("deepseek2.leading_dense_block_count", 28).Parse(); }, kBad,
     "'deepseek2.leading_dense_block_count' is 28, expected 0 to 27"},
    {"UnknownGating", [] { return Qwen3Moe().Int("qwen3moe.expert_gating_func", 4).Parse(); }, kBad,
     "'qwen3moe.expert_gating_func' is 4"},
    {"NegativeExperts", [] { return Llama().Int("llama.expert_count", -1).Parse(); }, kBad,
     "'llama.expert_count' is -1"},
    {"Encoder", [] { return Llama().Bool("llama.attention.causal", false).Parse(); }, kUnsupported, "an encoder"},
    {"NoLayers", [] { return Llama().Int("llama.block_count", 0).Parse(); }, kBad,
     "'llama.block_count' is 0, expected 1 to 1024"},
    {"ManyLayers", [] { return Llama().Int("llama.block_count", 1 << 30).Parse(); }, kBad,
     "'llama.block_count' is 1073741824"},
    {"LayersMissing", [] { return Llama().Drop("llama.block_count").Parse(); }, StatusCode::kNotFound,
     "'llama.block_count' is missing"},
    {"NegativeWidth", [] { return Llama().Int("llama.embedding_length", -4096).Parse(); }, kBad,
     "'llama.embedding_length' is -4096"},
    {"HugeWidth", [] { return Llama().Int("llama.embedding_length", int64_t{1} << 40).Parse(); }, kBad,
     "'llama.embedding_length' is 1099511627776"},
    {"HugeFf", [] { return Llama().Int("llama.feed_forward_length", int64_t{1} << 33).Parse(); }, kBad,
     "'llama.feed_forward_length' is"},
    {"NoContext", [] { return Llama().Int("llama.context_length", 0).Parse(); }, kBad, "'llama.context_length' is 0"},
    {"NoHeads", [] { return Llama().Int("llama.attention.head_count", 0).Parse(); }, kBad,
     "'llama.attention.head_count' is 0"},
    {"NoKvHeads", [] { return Llama().Int("llama.attention.head_count_kv", 0).Parse(); }, kBad,
     "'llama.attention.head_count_kv' is 0"},
    {"KvHeadsDoNotDivide", [] { return Llama().Int("llama.attention.head_count_kv", 5).Parse(); }, kBad,
     "is 5, expected a divisor of 32"},
    {"WidthNotOfWholeHeads", [] { return Llama().Int("llama.embedding_length", 4100).Parse(); }, kBad,
     "is 4100, expected a multiple of 32"},
    {"OddHeadDim", [] { return Llama().Int("llama.attention.key_length", 127).Parse(); }, kBad,
     "heads are 127 wide, expected an even number"},
    {"HeadDimOne", [] { return Llama().Int("llama.embedding_length", 32).Parse(); }, kBad, "heads are 1 wide"},
    {"HeadsTooWideTogether",
     [] {
       return Llama()
           .Int("llama.attention.head_count", 4096)
           .Int("llama.attention.head_count_kv", 4096)
           .Int("llama.attention.key_length", 4096)
           .Parse();
     },
     kBad, "too wide"},
    {"ValuesOfOtherWidth", [] { return Llama().Int("llama.attention.value_length", 64).Parse(); }, kUnsupported,
     "'llama.attention.value_length' is 64"},
    {"LayersDiffer",
     [] { return Base("llama", 2, 512, 1024, 8, 8, 512).Ints("llama.attention.head_count_kv", {4, 8}).Parse(); },
     kUnsupported, "'llama.attention.head_count_kv' differs between layers (4 and 8)"},
    {"PerLayerOfWrongLength", [] { return Llama().Ints("llama.attention.head_count", {32, 32}).Parse(); }, kBad,
     "expected 32 integers, one per layer, found 2"},
    {"PerLayerOfWrongType", [] { return Llama().Strings("llama.attention.head_count", 32).Parse(); }, kBad,
     "expected 32 integers, one per layer, found 32 of string"},
    {"PerLayerZero",
     [] { return Base("llama", 2, 512, 1024, 8, 8, 512).Ints("llama.attention.head_count", {0, 0}).Parse(); }, kBad,
     "is 0, expected 1 to 4096"},
    {"NoVocab", [] { return Llama().Int("llama.vocab_size", 0).Parse(); }, kBad, "'llama.vocab_size' is 0"},
    {"NoEpsilon", [] { return Llama().Drop("llama.attention.layer_norm_rms_epsilon").Parse(); }, StatusCode::kNotFound,
     "layer_norm_rms_epsilon' is missing"},
    {"EpsilonNan", [] { return Llama().Float("llama.attention.layer_norm_rms_epsilon", std::nan("")).Parse(); }, kBad,
     "layer_norm_rms_epsilon' is nan"},
    {"EpsilonNegative", [] { return Llama().Float("llama.attention.layer_norm_rms_epsilon", -1e-5).Parse(); }, kBad,
     "layer_norm_rms_epsilon' is -1e-05"},
    {"RopeDimsOdd", [] { return Llama().Int("llama.rope.dimension_count", 63).Parse(); }, kBad,
     "is 63, expected an even number"},
    {"RopeDimsWiderThanHeads", [] { return Llama().Int("llama.rope.dimension_count", 256).Parse(); }, kBad,
     "is 256, expected 2 to 128"},
    {"RopeBaseZero", [] { return Llama().Float("llama.rope.freq_base", 0).Parse(); }, kBad,
     "'llama.rope.freq_base' is 0"},
    {"RopeBaseInfinite", [] { return Llama().Float("llama.rope.freq_base", INFINITY).Parse(); }, kBad,
     "'llama.rope.freq_base' is inf"},
    {"RopeFactorNegative", [] { return Llama().Float("llama.rope.scaling.factor", -2).Parse(); }, kBad,
     "'llama.rope.scaling.factor' is -2"},
    {"RopeFactorTiny", [] { return Llama().Float("llama.rope.scaling.factor", 1e-30).Parse(); }, kBad,
     "'llama.rope.scaling.factor' is 1e-30"},
    {"RopeTypeUnknown", [] { return Llama().Text("llama.rope.scaling.type", "magic").Parse(); }, kUnsupported,
     "is 'magic', supported: none, linear, yarn, longrope"},
    {"YarnExtFactor",
     [] {
       return Llama().Text("llama.rope.scaling.type", "yarn").Float("llama.rope.scaling.yarn_ext_factor", 0.5).Parse();
     },
     kUnsupported, "yarn_ext_factor' is 0.5"},
    {"NegativeWindow", [] { return Gemma2().Int("gemma2.attention.sliding_window", -1).Parse(); }, kBad,
     "sliding_window' is -1"},
    {"PatternOfWrongLength", [] { return Gemma2().Ints("gemma2.attention.sliding_window_pattern", {1, 0}).Parse(); },
     kBad, "expected 26 bools, one per layer, found 2"},
    {"NegativeSoftcap", [] { return Gemma2().Float("gemma2.final_logit_softcapping", -1).Parse(); }, kBad,
     "final_logit_softcapping' is -1"},
};

class BadModelShape : public ::testing::TestWithParam<BadShape> {};

TEST_P(BadModelShape, IsRefusedAndNamesTheKey) {
  const auto shape = GetParam().parse();
  ASSERT_FALSE(shape.ok());
  EXPECT_EQ(shape.status().code(), GetParam().code) << shape.status().ToString();
  EXPECT_THAT(std::string(shape.status().message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(Table, BadModelShape, ::testing::ValuesIn(kBadShapes),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace pantry
