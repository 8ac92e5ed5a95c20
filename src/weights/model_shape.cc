// SPDX-License-Identifier: Apache-2.0
// Keys, defaults and the rules that GGUF leaves to the program (windows, attention scale of the 27B models) are those
// of llama.cpp, so that a file means the same in both. One difference: the sliding window of phi3 and of llama
// (Mistral 7B v0.1) is honoured where it is shorter than the context, as the models' authors do; llama.cpp ignores it, and takes
// that of smallthinker for 4096 whatever the file says. And phimoe's experts are weighted by Sparsemixer, as its authors do. That of
// qwen2 and qwen3 is not read: their configurations name one that is switched off.
#include "weights/model_shape.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>

#include "weights/gguf/gguf_cursor.h"
#include "weights/gguf/metadata.h"
#include "weights/gguf/pack_table.h"
#include "weights/model_keys.h"

namespace pantry {
namespace {

// Bounds that no known model comes near; behind them later sizes could overflow or ask for absurd memory.
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxWidth = 1 << 18;  // n_embd, n_heads * head_dim
constexpr int64_t kMaxFf = 1 << 20;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 4096;
constexpr int64_t kMaxContext = 1 << 26;  // 67 million positions
constexpr int64_t kMaxVocab = 1 << 24;
constexpr int64_t kMaxExperts = 1024;

constexpr int32_t kUnrotatedPeriod = 4;  // smallthinker, where it has windows

enum class HasExperts : uint8_t { kNever, kSometimes, kAlways };

struct ArchitectureTraits {
  std::string_view name;
  RopeLayout rope_layout;
  HasExperts has_experts = HasExperts::kNever;
  bool normalizes_weights = false;  // of experts, where the metadata do not say
};
constexpr ArchitectureTraits kArchitectures[] = {
    {"deepseek2", RopeLayout::kInterleaved, HasExperts::kAlways},
    {"gemma2", RopeLayout::kHalves},
    {"gemma3", RopeLayout::kHalves},
    {"gpt-oss", RopeLayout::kHalves, HasExperts::kAlways},
    {"llama", RopeLayout::kInterleaved, HasExperts::kSometimes, true},
    {"olmoe", RopeLayout::kHalves, HasExperts::kAlways},
    {"phi3", RopeLayout::kHalves},
    {"phimoe", RopeLayout::kHalves, HasExperts::kAlways},
    {"qwen2", RopeLayout::kHalves},
    {"qwen2moe", RopeLayout::kHalves, HasExperts::kAlways},
    {"qwen3", RopeLayout::kHalves},
    {"qwen3moe", RopeLayout::kHalves, HasExperts::kAlways, true},
    {"smallthinker", RopeLayout::kHalves, HasExperts::kAlways, true},
};

const ArchitectureTraits* FindArchitecture(std::string_view name) {
  for (const ArchitectureTraits& traits : kArchitectures) {
    if (traits.name == name) return &traits;
  }
  return nullptr;
}

Status UnknownArchitecture(std::string_view name) {
  std::string supported;
  for (const ArchitectureTraits& traits : kArchitectures) {
    supported += supported.empty() ? "" : ", ";
    supported += traits.name;
  }
  return UnsupportedError("architecture '{}' is not supported (supported: {})", Printable(name, 64), supported);
}

class ShapeParser : ModelKeys {
 public:
  explicit ShapeParser(const Metadata& metadata) : ModelKeys(metadata) {}

  Result<ModelShape> Parse() {
    PANTRY_RETURN_IF_ERROR(ReadArchitecture());
    PANTRY_RETURN_IF_ERROR(ReadSizes());
    PANTRY_RETURN_IF_ERROR(ReadActivation());
    PANTRY_RETURN_IF_ERROR(ReadHeads());
    PANTRY_RETURN_IF_ERROR(ReadVocab());
    PANTRY_RETURN_IF_ERROR(ReadNorm());
    PANTRY_RETURN_IF_ERROR(ReadRope());
    PANTRY_RETURN_IF_ERROR(ReadSlidingWindow());
    PANTRY_RETURN_IF_ERROR(ReadGemma());
    return std::move(shape_);
  }

 private:
  bool Is(std::string_view architecture) const { return shape_.architecture == architecture; }
  bool IsGemma() const { return Is("gemma2") || Is("gemma3"); }
  Status ReadArchitecture() {
    PANTRY_ASSIGN_OR_RETURN(const std::string_view architecture, metadata_.GetString("general.architecture"));
    const ArchitectureTraits* traits = FindArchitecture(architecture);
    if (traits == nullptr) return UnknownArchitecture(architecture);
    traits_ = *traits;
    shape_.architecture = architecture;
    shape_.rope.layout = traits->rope_layout;
    PANTRY_ASSIGN_OR_RETURN(const std::string_view name, metadata_.GetStringOr("general.name", ""));
    shape_.name = name;
    PANTRY_ASSIGN_OR_RETURN(const bool is_causal, metadata_.GetBoolOr(Key("attention.causal"), true));
    if (!is_causal)
      return UnsupportedError("the model is an encoder ({} = false), not a text generator", Key("attention.causal"));
    return OkStatus();
  }

  Status ReadSizes() {
    PANTRY_RETURN_IF_ERROR(ReadInt("block_count", 1, kMaxLayers, &shape_.n_layers));
    PANTRY_RETURN_IF_ERROR(ReadInt("context_length", 1, kMaxContext, &shape_.n_ctx_train));
    PANTRY_RETURN_IF_ERROR(ReadInt("embedding_length", 1, kMaxWidth, &shape_.n_embd));
    PANTRY_RETURN_IF_ERROR(ReadOptionalInt("expert_count", 0, kMaxExperts, &shape_.n_experts));
    if (shape_.has_experts() != (traits_.has_experts == HasExperts::kAlways) &&
        traits_.has_experts != HasExperts::kSometimes) {
      return UnsupportedError("architecture '{}' is not supported {} experts ({} = {})", shape_.architecture,
                              shape_.has_experts() ? "with" : "without", Key("expert_count"), shape_.n_experts);
    }
    return shape_.has_experts() ? ReadExperts() : ReadPerLayer("feed_forward_length", kMaxFf, &shape_.n_ff);
  }

  // Bamboo's and TurboSparse's files are Mistral and Mixtral with this key; without it they would be run with SiLU, to nonsense.
  Status ReadActivation() {
    if (!Is("llama") && !Is("smallthinker")) return OkStatus();
    if (Is("smallthinker")) shape_.activation = GluActivation::kRelu;
    const std::string key = Key("feed_forward_activation");
    PANTRY_ASSIGN_OR_RETURN(const std::string_view name, metadata_.GetStringOr(key, ""));
    if (name.empty()) return OkStatus();
    struct Named {
      std::string_view name;
      GluActivation activation;
    };
    static constexpr Named kNames[] = {{"silu", GluActivation::kSilu},
                                       {"relu", GluActivation::kRelu},
                                       {"drelu", GluActivation::kDrelu},
                                       {"relu2", GluActivation::kRelu2}};
    for (const Named& named : kNames) {
      if (named.name != name) continue;
      if (!Is("llama") && named.activation != shape_.activation) break;
      shape_.activation = named.activation;
      return OkStatus();
    }
    return UnsupportedError("{} = '{}' is not supported for architecture '{}'; llama has silu, relu, drelu and relu2",
                            key, Printable(name, 64), shape_.architecture);
  }

  Status ReadExperts() {
    PANTRY_RETURN_IF_ERROR(ReadInt("expert_used_count", 1, shape_.n_experts, &shape_.n_experts_used));
    if (metadata_.Has(Key("expert_feed_forward_length"))) {
      PANTRY_RETURN_IF_ERROR(ReadPerLayer("expert_feed_forward_length", kMaxFf, &shape_.n_ff_expert));
    } else {
      // What an expert has is written there; in files of the qwen family what all used ones have together.
      PANTRY_RETURN_IF_ERROR(ReadPerLayer("feed_forward_length", kMaxFf, &shape_.n_ff_expert));
      if (shape_.architecture.starts_with("qwen")) {
        shape_.n_ff_expert = std::max(1, shape_.n_ff_expert / shape_.n_experts_used);
      }
    }
    if (Is("deepseek2")) PANTRY_RETURN_IF_ERROR(ReadDeepSeekExperts());
    if (Is("qwen2moe")) {  // a file that does not say has the width of a dense layer there
      constexpr std::string_view kKey = "expert_shared_feed_forward_length";
      PANTRY_RETURN_IF_ERROR(
          ReadPerLayer(metadata_.Has(Key(kKey)) ? kKey : "feed_forward_length", kMaxFf, &shape_.n_ff_shared));
    }
    return ReadMixing();
  }

  Status ReadDeepSeekExperts() {
    PANTRY_RETURN_IF_ERROR(ReadOptionalInt("leading_dense_block_count", 0, shape_.n_layers, &shape_.n_dense_layers));
    if (shape_.n_dense_layers > 0) PANTRY_RETURN_IF_ERROR(ReadPerLayer("feed_forward_length", kMaxFf, &shape_.n_ff));
    int32_t n_shared = 0, n_groups = 0;
    PANTRY_RETURN_IF_ERROR(ReadOptionalInt("expert_shared_count", 0, kMaxFf / shape_.n_ff_expert, &n_shared));
    shape_.n_ff_shared = n_shared * shape_.n_ff_expert;
    PANTRY_RETURN_IF_ERROR(ReadOptionalInt("expert_group_count", 0, kMaxExperts, &n_groups));
    if (n_groups > 1) {
      return UnsupportedError("metadata key '{}' is {}: experts in groups are not supported by this version",
                              Key("expert_group_count"), n_groups);
    }
    return OkStatus();
  }

  Status ReadMixing() {
    ExpertMixing& mixing = shape_.expert_mixing;
    if (Is("phimoe")) mixing.gating = ExpertGating::kSparsemixer;
    if (Is("gpt-oss")) mixing.gating = ExpertGating::kSoftmaxOfChosen;
    int32_t gating = 0;  // 0: the file does not say
    PANTRY_RETURN_IF_ERROR(ReadOptionalInt("expert_gating_func", 0, 3, &gating));
    if (gating > 0) mixing.gating = static_cast<ExpertGating>(gating - 1);
    PANTRY_ASSIGN_OR_RETURN(mixing.normalized,
                            metadata_.GetBoolOr(Key("expert_weights_norm"), traits_.normalizes_weights));
    PANTRY_RETURN_IF_ERROR(ReadOptionalFloat("expert_weights_scale", 0, 1e3, &mixing.scale));
    if (mixing.scale == 0) mixing.scale = 1;  // "not set"
    return OkStatus();
  }

  Status ReadHeads() {
    PANTRY_RETURN_IF_ERROR(ReadPerLayer("attention.head_count", kMaxHeads, &shape_.n_heads));
    shape_.n_kv_heads = shape_.n_heads;
    if (metadata_.Has(Key("attention.head_count_kv"))) {
      PANTRY_RETURN_IF_ERROR(ReadPerLayer("attention.head_count_kv", kMaxHeads, &shape_.n_kv_heads));
    }
    if (shape_.n_heads % shape_.n_kv_heads != 0) {
      return CorruptionError("metadata key '{}' is {}, expected a divisor of {}, the head count",
                             Key("attention.head_count_kv"), shape_.n_kv_heads, shape_.n_heads);
    }
    if (metadata_.Has(Key("attention.key_length"))) {
      PANTRY_RETURN_IF_ERROR(ReadInt("attention.key_length", 2, kMaxHeadDim, &shape_.head_dim));
    } else {
      if (shape_.n_embd % shape_.n_heads != 0) {
        return CorruptionError("metadata key '{}' is {}, expected a multiple of {}, the head count",
                               Key("embedding_length"), shape_.n_embd, shape_.n_heads);
      }
      shape_.head_dim = shape_.n_embd / shape_.n_heads;
    }
    if (shape_.head_dim < 2 || shape_.head_dim > kMaxHeadDim || shape_.head_dim % 2 != 0) {
      return CorruptionError("heads are {} wide, expected an even number from 2 to {} ({})", shape_.head_dim,
                             kMaxHeadDim, Key("attention.key_length"));
    }
    if (int64_t{shape_.head_dim} * shape_.n_heads > kMaxWidth) {
      return CorruptionError("{} heads of {} are too wide, expected at most {} together ({})", shape_.n_heads,
                             shape_.head_dim, kMaxWidth, Key("attention.head_count"));
    }
    if (Is("deepseek2")) return ReadLatent();
    int32_t value_dim = shape_.head_dim;
    PANTRY_RETURN_IF_ERROR(ReadOptionalInt("attention.value_length", 1, kMaxHeadDim, &value_dim));
    if (value_dim != shape_.head_dim) {
      return UnsupportedError(
          "metadata key '{}' is {}: heads whose values are not as wide as their keys ({}) are not supported by this "
          "version",
          Key("attention.value_length"), value_dim, shape_.head_dim);
    }
    shape_.attn_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape_.head_dim)));
    return OkStatus();
  }

  Status ReadLatent() {
    if (metadata_.Has(Key("attention.q_lora_rank"))) {
      return UnsupportedError("metadata key '{}': compressed queries are not supported by this version",
                              Key("attention.q_lora_rank"));
    }
    if (!metadata_.Has(Key("attention.key_length_mla"))) {
      return UnsupportedError("metadata key '{}' is missing: convert the model again with a current converter",
                              Key("attention.key_length_mla"));
    }
    int32_t query_dim = 0, n_rotated = 0;
    PANTRY_RETURN_IF_ERROR(ReadInt("attention.kv_lora_rank", 1, shape_.head_dim, &shape_.latent.n_latent));
    PANTRY_RETURN_IF_ERROR(ReadInt("rope.dimension_count", 2, shape_.head_dim, &n_rotated));
    PANTRY_RETURN_IF_ERROR(ReadInt("attention.key_length_mla", n_rotated + 1, n_rotated + shape_.n_embd, &query_dim));
    PANTRY_RETURN_IF_ERROR(ReadInt("attention.value_length_mla", 1, shape_.head_dim, &shape_.latent.value_dim));
    shape_.latent.plain_dim = query_dim - n_rotated;
    // A row of queries and the latent behind it must fit where the heads' results go.
    if (shape_.n_kv_heads != 1 || shape_.head_dim != shape_.latent.n_latent + n_rotated ||
        int64_t{shape_.n_heads} * query_dim + shape_.head_dim > int64_t{shape_.n_heads} * shape_.head_dim) {
      return CorruptionError("{} heads of {} and {} for keys and values of {} do not fit a latent of {} ({})",
                             shape_.n_heads, query_dim, shape_.n_kv_heads, shape_.head_dim, shape_.latent.n_latent,
                             Key("attention.kv_lora_rank"));
    }
    shape_.attn_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(query_dim)));
    return OkStatus();
  }

  Status ReadVocab() {
    if (metadata_.Has(Key("vocab_size"))) return ReadInt("vocab_size", 1, kMaxVocab, &shape_.n_vocab);
    if (!metadata_.Has("tokenizer.ggml.tokens")) return OkStatus();
    PANTRY_ASSIGN_OR_RETURN(const MetadataArray* tokens, metadata_.GetArray("tokenizer.ggml.tokens"));
    if (tokens->size() > static_cast<size_t>(kMaxVocab)) {
      return CorruptionError("metadata key 'tokenizer.ggml.tokens' has {} tokens, expected at most {}", tokens->size(),
                             kMaxVocab);
    }
    shape_.n_vocab = static_cast<int32_t>(tokens->size());
    return OkStatus();
  }

  Status ReadNorm() {
    constexpr std::string_view kSuffix = "attention.layer_norm_rms_epsilon";
    if (!metadata_.Has(Key(kSuffix))) return NotFoundError("metadata key '{}' is missing", Key(kSuffix));
    return ReadOptionalFloat(kSuffix, 0.0, 1.0, &shape_.norm_eps);
  }

  Status ReadRope() {
    RopeShape& rope = shape_.rope;
    rope.n_dims = shape_.head_dim;
    PANTRY_RETURN_IF_ERROR(ReadOptionalInt("rope.dimension_count", 2, shape_.head_dim, &rope.n_dims));
    if (rope.n_dims % 2 != 0) {
      return CorruptionError("metadata key '{}' is {}, expected an even number", Key("rope.dimension_count"),
                             rope.n_dims);
    }
    PANTRY_RETURN_IF_ERROR(ReadOptionalFloat("rope.freq_base", 1.0 + 1e-6, 1e15, &rope.freq_base));
    rope.original_context = shape_.n_ctx_train;
    PANTRY_RETURN_IF_ERROR(
        ReadOptionalInt("rope.scaling.original_context_length", 1, kMaxContext, &rope.original_context));
    PANTRY_RETURN_IF_ERROR(ReadOptionalFloat("rope.scaling.attn_factor", 1e-3, 1e3, &rope.attn_factor));
    PANTRY_RETURN_IF_ERROR(ReadRopeScaling());
    if (Is("deepseek2") && rope.scaling == RopeScaling::kYarn) {  // scales scores where others scale cos and sin
      double log_factor = 0;
      PANTRY_RETURN_IF_ERROR(ReadOptionalFloat("rope.scaling.yarn_log_multiplier", 0, 10, &log_factor));
      const double log_scale = std::log(std::max(1.0, rope.scale_factor));
      rope.attn_factor /= 1 + 0.1 * log_scale;
      shape_.attn_scale *= static_cast<float>(std::pow(1 + log_factor * log_scale, 2));
    }
    // Layers with a window: gemma3 trains them unscaled with a base of their own; others do as everywhere.
    shape_.rope_local = rope;
    if (Is("gemma3")) {
      shape_.rope_local.freq_base = 10000.0;
      shape_.rope_local.scaling = RopeScaling::kNone;
      shape_.rope_local.scale_factor = 1.0;
    }
    if (IsGemma() || Is("smallthinker"))
      PANTRY_RETURN_IF_ERROR(ReadOptionalFloat("rope.freq_base_swa", 1.0 + 1e-6, 1e15, &shape_.rope_local.freq_base));
    return OkStatus();
  }

  Status ReadRopeScaling() {
    RopeShape& rope = shape_.rope;
    PANTRY_ASSIGN_OR_RETURN(const std::string_view type, metadata_.GetStringOr(Key("rope.scaling.type"), "linear"));
    // 0 stands for "not set" in files of old converters.
    double factor = 0.0;
    PANTRY_RETURN_IF_ERROR(ReadOptionalFloat("rope.scale_linear", 0.0, 1e6, &factor));
    PANTRY_RETURN_IF_ERROR(ReadOptionalFloat("rope.scaling.factor", 0.0, 1e6, &factor));
    if (factor != 0.0 && factor < 1e-6) {
      return CorruptionError("metadata key '{}' is {}, expected 0 or 0.000001 to 1000000", Key("rope.scaling.factor"),
                             factor);
    }
    if (factor == 0.0) factor = 1.0;
    if (type == "longrope" || ((Is("phi3") || Is("phimoe")) && rope.original_context < shape_.n_ctx_train)) {
      rope.scaling = RopeScaling::kLongRope;
    } else if (type == "yarn") {
      rope.scaling = factor == 1.0 ? RopeScaling::kNone : RopeScaling::kYarn;
      PANTRY_RETURN_IF_ERROR(ReadYarn());
    } else if (type == "linear") {
      rope.scaling = factor == 1.0 ? RopeScaling::kNone : RopeScaling::kLinear;
    } else if (type == "none") {
      factor = 1.0;
    } else {
      return UnsupportedError("metadata key '{}' is '{}', supported: none, linear, yarn, longrope",
                              Key("rope.scaling.type"), Printable(type, 64));
    }
    rope.scale_factor = factor;
    return OkStatus();
  }

  Status ReadYarn() {
    RopeShape& rope = shape_.rope;
    PANTRY_RETURN_IF_ERROR(ReadOptionalFloat("rope.scaling.yarn_beta_fast", 1e-3, 1e6, &rope.yarn_beta_fast));
    PANTRY_RETURN_IF_ERROR(ReadOptionalFloat("rope.scaling.yarn_beta_slow", 1e-3, 1e6, &rope.yarn_beta_slow));
    double ext_factor =
        1.0;  // the share of the correction that is applied; no model has another, negative means "not set"
    PANTRY_RETURN_IF_ERROR(ReadOptionalFloat("rope.scaling.yarn_ext_factor", -1e3, 1e3, &ext_factor));
    if (ext_factor >= 0.0 && ext_factor != 1.0) {
      return UnsupportedError("metadata key '{}' is {}, supported: 1", Key("rope.scaling.yarn_ext_factor"), ext_factor);
    }
    return OkStatus();
  }

  Status ReadSlidingWindow() {
    shape_.layer_is_sliding.assign(static_cast<size_t>(shape_.n_layers), false);
    shape_.layer_is_rotated.assign(static_cast<size_t>(shape_.n_layers), true);
    const bool in_all_layers = Is("phi3") || Is("llama");
    if (!IsGemma() && !in_all_layers && !Is("smallthinker") && !Is("gpt-oss")) return OkStatus();
    int32_t window = Is("gemma2") ? 4096 : 0;
    PANTRY_RETURN_IF_ERROR(ReadOptionalInt("attention.sliding_window", 0, kMaxContext, &window));
    if (window == 0 || (in_all_layers && window >= shape_.n_ctx_train)) return OkStatus();
    shape_.sliding_window = window;
    // Every n-th layer sees the whole context: gemma2 and gpt-oss each second, gemma3 each sixth, the last one of each group; smallthinker each
    // fourth, the first of each group, and there positions are not rotated in. Of phi3 and llama none does.
    int32_t period = Is("gemma2") || Is("gpt-oss") ? 2 : Is("gemma3") ? 6 : Is("smallthinker") ? kUnrotatedPeriod : 0;
    for (int32_t layer = 0; Is("smallthinker") && layer < shape_.n_layers; layer += kUnrotatedPeriod) {
      shape_.layer_is_rotated[static_cast<size_t>(layer)] = false;
    }
    const std::string pattern_suffix = "attention.sliding_window_pattern";
    const MetadataValue* pattern = metadata_.Find(Key(pattern_suffix));
    if (pattern != nullptr && pattern->type == MetadataType::kArray) return ReadPatternArray(Key(pattern_suffix));
    PANTRY_RETURN_IF_ERROR(ReadOptionalInt(pattern_suffix, 0, kMaxLayers, &period));
    const int32_t whole = Is("smallthinker") ? 0 : period - 1;  // which layer of a period
    for (int32_t layer = 0; layer < shape_.n_layers; ++layer) {
      shape_.layer_is_sliding[static_cast<size_t>(layer)] = period == 0 || layer % period != whole;
    }
    return OkStatus();
  }

  Status ReadPatternArray(const std::string& key) {
    PANTRY_ASSIGN_OR_RETURN(const MetadataArray* array, metadata_.GetArray(key));
    if (array->integers.size() != static_cast<size_t>(shape_.n_layers)) {
      return CorruptionError("metadata key '{}': expected {} bools, one per layer, found {} of {}", key,
                             shape_.n_layers, array->size(), MetadataTypeName(array->element_type));
    }
    for (size_t layer = 0; layer < array->integers.size(); ++layer)
      shape_.layer_is_sliding[layer] = array->integers[layer] != 0;
    return OkStatus();
  }

  Status ReadGemma() {
    if (!IsGemma()) return OkStatus();
    shape_.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(shape_.n_embd)));
    if (Is("gemma2")) {
      shape_.attn_softcap = 50.0f;
      shape_.final_softcap = 30.0f;
      PANTRY_RETURN_IF_ERROR(ReadOptionalFloat("attn_logit_softcapping", 0.0, 1e6, &shape_.attn_softcap));
    }
    PANTRY_RETURN_IF_ERROR(ReadOptionalFloat("final_logit_softcapping", 0.0, 1e6, &shape_.final_softcap));
    // The file does not say the scale of attention. Only the 27B models, known by their number of layers, differ from
    // 1/sqrt(head_dim).
    const bool is_27b = shape_.n_layers == (Is("gemma2") ? 46 : 62);
    const int32_t width_per_head = shape_.n_embd / shape_.n_heads;
    if (is_27b && width_per_head > 0) {
      shape_.attn_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(width_per_head)));
    }
    return OkStatus();
  }

  ArchitectureTraits traits_;
};

}  // namespace

Result<ModelShape> ParseModelShape(const Metadata& metadata) {
  PANTRY_ASSIGN_OR_RETURN(ModelShape shape, ShapeParser(metadata).Parse());
  const Result<const MetadataArray*> orders = metadata.GetArray(pack_keys::kGroupOrder);
  shape.reads_expert_neurons = shape.has_experts() && orders.ok() &&
                               std::count((*orders)->integers.begin(), (*orders)->integers.end(),
                                          static_cast<int64_t>(PackOrder::kGateAndNeurons)) > 0;
  return shape;
}

}  // namespace pantry
