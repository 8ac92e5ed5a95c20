// SPDX-License-Identifier: Apache-2.0
#include "models/transformer_model.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "models/forward_buffers.h"

namespace pantry {
namespace {

constexpr int64_t kMaxBatch = int64_t{1} << 20;

struct Architecture {
  std::string_view name;
  std::unique_ptr<TransformerModel> (*make)(ModelShape shape);               // null: has experts always
  std::unique_ptr<TransformerModel> (*make_with_experts)(ModelShape shape);  // null: never
};
constexpr Architecture kArchitectures[] = {
    {"llama", MakeLlama, MakeMixtral},
    {"qwen2", MakeQwen2, nullptr},
    {"qwen3", MakeQwen3, nullptr},
    {"phi3", MakePhi3, nullptr},
    {"gemma2", MakeGemma2, nullptr},
    {"gemma3", MakeGemma3, nullptr},
    {"qwen3moe", nullptr, MakeQwen3Moe},
    {"olmoe", nullptr, MakeOlmoe},
    {"smallthinker", nullptr, MakeSmallThinker},
    {"phimoe", nullptr, MakePhiMoe},
    {"gpt-oss", nullptr, MakeGptOss},
    {"qwen2moe", nullptr, MakeQwen2Moe},
    {"deepseek2", nullptr, MakeDeepSeek2},
};

// Rotations that the head cannot hold, or that have no meaning.
Status CheckRope(const RopeShape& rope, int32_t head_dim) {
  if (rope.n_dims < 2 || rope.n_dims % 2 != 0 || rope.n_dims > head_dim) {
    return CorruptionError("rope.dimension_count is {}: expected an even number up to the head's {}", rope.n_dims,
                           head_dim);
  }
  if (!(rope.freq_base > 1) || !(rope.scale_factor > 0) || !(rope.attn_factor > 0)) {
    return CorruptionError(
        "rope frequencies make no sense: base {} (expected > 1), scaling factor {} and attention factor {} (expected > "
        "0)",
        rope.freq_base, rope.scale_factor, rope.attn_factor);
  }
  if (rope.scaling == RopeScaling::kYarn && rope.original_context <= 0) {
    return CorruptionError("rope.scaling.original_context_length is {}: YaRN needs a positive one",
                           rope.original_context);
  }
  return OkStatus();
}

// What the arithmetic takes for granted. Every size is bounded by a tensor's dims later; the number of layers is bounded here.
Status CheckShape(const ModelShape& shape, size_t n_tensors) {
  const std::pair<const char*, int32_t> sizes[] = {
      {"block_count", shape.n_layers},          {"embedding_length", shape.n_embd},
      {"attention.head_count", shape.n_heads},  {"attention.head_count_kv", shape.n_kv_heads},
      {"attention.key_length", shape.head_dim}, {"vocabulary size", shape.n_vocab},
  };
  for (const auto& [what, value] : sizes) {
    if (value <= 0) return CorruptionError("{} is {}: expected a positive number", what, value);
  }
  if (static_cast<size_t>(shape.n_layers) > n_tensors) {
    return CorruptionError("block_count is {}, but the file has only {} tensors", shape.n_layers, n_tensors);
  }
  if (shape.n_heads % shape.n_kv_heads != 0) {
    return CorruptionError("{} query heads cannot share {} key-value heads evenly", shape.n_heads, shape.n_kv_heads);
  }
  if (shape.has_experts()) {
    if (shape.n_experts_used < 1 || shape.n_experts_used > shape.n_experts || shape.n_ff_expert < 1) {
      return CorruptionError("{} of {} experts of width {} are used: expected at least one and no more than there are",
                             shape.n_experts_used, shape.n_experts, shape.n_ff_expert);
    }
    if (shape.n_experts > static_cast<int64_t>(kMaxExpertTasks)) {
      return CorruptionError("{} experts: expected at most {}", shape.n_experts, kMaxExpertTasks);
    }
  }
  if (shape.n_ff <= 0 && shape.n_dense_layers >= (shape.has_experts() ? 1 : 0)) {
    return CorruptionError("feed_forward_length is {}: expected a positive number", shape.n_ff);
  }
  PANTRY_RETURN_IF_ERROR(CheckRope(shape.rope, shape.head_dim));
  const bool any_sliding =
      std::find(shape.layer_is_sliding.begin(), shape.layer_is_sliding.end(), true) != shape.layer_is_sliding.end();
  if (any_sliding && shape.layer_is_sliding.size() != static_cast<size_t>(shape.n_layers)) {
    return CorruptionError("the sliding-window pattern has {} entries for {} layers", shape.layer_is_sliding.size(),
                           shape.n_layers);
  }
  return any_sliding ? CheckRope(shape.rope_local, shape.head_dim) : OkStatus();
}

// The model of a file, not yet bound.
Result<std::unique_ptr<TransformerModel>> MakeModel(const GgufFile& file) {
  PANTRY_ASSIGN_OR_RETURN(ModelShape shape, ParseModelShape(file.metadata()));
  if (shape.n_vocab == 0) {
    const TensorInfo* embedding = file.FindTensor("token_embd.weight");
    if (embedding == nullptr)
      return CorruptionError("tensor 'token_embd.weight' is missing; nothing else tells the vocabulary's size");
    if (embedding->n_rows() > INT32_MAX)
      return CorruptionError("tensor 'token_embd.weight' has {} rows", embedding->n_rows());
    shape.n_vocab = static_cast<int32_t>(embedding->n_rows());
  }
  PANTRY_RETURN_IF_ERROR(CheckShape(shape, file.tensors().size()));
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name != shape.architecture) continue;
    const auto make = shape.has_experts() ? architecture.make_with_experts : architecture.make;
    if (make != nullptr) return make(std::move(shape));
  }
  return UnsupportedError("architecture '{}' {} experts has no forward pass here", shape.architecture,
                          shape.has_experts() ? "with" : "without");
}

// The embedding is read row by row; as a whole only where it is the output matrix too. Of a layer's experts a token reads those it uses.
ModelCost CostOf(const WeightLoader& loader, const ModelShape& shape) {
  bool has_output = false;
  loader.ForEachMatrix(
      [&](const std::string& name, const WeightMatrix&, int64_t) { has_output |= name == "output.weight"; });
  ModelCost cost;
  loader.ForEachMatrix([&](const std::string& name, const WeightMatrix& matrix, int64_t n_matrices) {
    const bool is_embedding = name == "token_embd.weight";
    if (is_embedding && has_output) return;
    MatrixCost& part = is_embedding || name == "output.weight" ? cost.output : cost.layers;
    const int64_t n_read = name.ends_with("_exps.weight") ? shape.n_experts_used : n_matrices;
    part.n_bytes += n_read * WeightMatrix::PackedBytes(*matrix.kernel, matrix.rows, matrix.cols);
    (matrix.kernel->activation == ActivationFormat::kQ8 ? part.int8_macs : part.float_macs) +=
        n_read * matrix.rows * matrix.cols;
  });
  return cost;
}

WeightLoader::Left LeftOf(const ModelShape& shape) {
  return shape.has_experts() ? WeightLoader::Left::kExperts : WeightLoader::Left::kLayers;
}

}  // namespace

Result<std::unique_ptr<Model>> Model::Load(const GgufFile& file, Isa isa, ThreadPool& pool, Logger& log,
                                           const LoadProgress& progress, WeightPlacer* in_file, bool by_neuron,
                                           bool has_thresholds, bool has_predictors) {
  Result<std::unique_ptr<TransformerModel>> model = MakeModel(file);
  if (!model.ok()) return model.status().WithContext(file.path());
  WeightLoader loader(file, isa, in_file, LeftOf((*model)->shape()), by_neuron);
  if (has_thresholds) loader.RestByThreshold();
  if (has_predictors) loader.PredictGates();
  (*model)->Bind(loader);
  PANTRY_RETURN_IF_ERROR((*model)->LoadWeights(loader, isa, pool, log, progress));
  return std::unique_ptr<Model>(std::move(model).value());
}

Result<int64_t> PackedWeightBytes(const GgufFile& file, Isa isa, WeightPlacer* in_file, ModelCost* cost,
                                  bool by_neuron) {
  Result<std::unique_ptr<TransformerModel>> model = MakeModel(file);
  if (!model.ok()) return model.status().WithContext(file.path());
  WeightLoader loader(file, isa, in_file, LeftOf((*model)->shape()), by_neuron);
  (*model)->Bind(loader);
  PANTRY_RETURN_IF_ERROR(loader.EndBinding());
  if (cost != nullptr) *cost = CostOf(loader, (*model)->shape());
  return loader.n_bytes();
}

Status TransformerModel::LoadWeights(WeightLoader& loader, Isa isa, ThreadPool& pool, Logger& log,
                                     const LoadProgress& progress) {
  isa_ = isa;
  PANTRY_RETURN_IF_ERROR(loader.EndBinding());
  PANTRY_ASSIGN_OR_RETURN(weights_, loader.Load(pool, log, progress));
  weight_bytes_ = loader.n_bytes();
  layers_by_neuron_ = loader.n_by_neuron();
  needs_source_ = loader.in_file() != nullptr && loader.in_file()->n_blocks() > 0;
  needs_neurons_ = needs_source_ && loader.in_file()->neurons() != nullptr;
  needs_rows_ = loader.in_file() != nullptr && loader.in_file()->rows_in_file().has_value();
  cost_ = CostOf(loader, shape_);
  return Prepare().WithContext(loader.file().path());
}

Result<std::unique_ptr<Workspace>> TransformerModel::MakeWorkspace(int64_t max_tokens) const {
  if (max_tokens < 1 || max_tokens > kMaxBatch) {
    return InvalidArgumentError("a batch of {} tokens: expected 1 to {}", max_tokens, kMaxBatch);
  }
  PANTRY_ASSIGN_OR_RETURN(std::unique_ptr<Workspace> workspace, ForwardBuffers::Allocate(*this, max_tokens));
  return workspace;
}

int64_t TransformerModel::WindowOf(size_t layer) const {
  return layer < shape_.layer_is_sliding.size() && shape_.layer_is_sliding[layer] ? shape_.sliding_window : 0;
}

Status TransformerModel::CheckRopeFactors(std::string_view tensor, const float* factors, int64_t n) {
  for (int64_t i = 0; factors != nullptr && i < n; ++i) {
    if (!(factors[i] > 0) || !std::isfinite(factors[i])) {
      return CorruptionError("tensor '{}': factor {} is {}; expected a positive number", tensor, i, factors[i]);
    }
  }
  return OkStatus();
}

Status TransformerModel::CheckPart(const RunPart& part) const {
  if (part.kv.size() != static_cast<size_t>(shape_.n_layers)) {
    return InvalidArgumentError("a KV cache of {} layers for a model of {}", part.kv.size(), shape_.n_layers);
  }
  for (const KvLayerView& kv : part.kv) {
    if (kv.n_kv_heads != shape_.n_kv_heads || kv.head_dim != shape_.head_dim || kv.k == nullptr || kv.v == nullptr) {
      return InvalidArgumentError("a KV cache of {} heads of {} for a model of {} heads of {}", kv.n_kv_heads,
                                  kv.head_dim, shape_.n_kv_heads, shape_.head_dim);
    }
    if (part.first_position < 0 || part.n_rows > kv.n_positions - part.first_position) {
      return InvalidArgumentError("{} positions from {} on do not fit in a KV cache of {}", part.n_rows,
                                  part.first_position, kv.n_positions);
    }
    for (const KvType type : {kv.k_type, kv.v_type}) {
      if (shape_.head_dim % KvBlock(type) == 0) continue;
      return InvalidArgumentError("a {} KV cache needs heads of a multiple of {} numbers, this model has {}",
                                  KvTypeName(type), KvBlock(type), shape_.head_dim);
    }
  }
  return OkStatus();
}

Status TransformerModel::CheckRun(const ForwardRun& run, const Workspace& workspace) const {
  const auto n_tokens = static_cast<int64_t>(run.tokens.size());
  const auto* buffers = dynamic_cast<const ForwardBuffers*>(&workspace);
  if (buffers == nullptr || buffers->owner() != this)
    return InvalidArgumentError("the workspace belongs to another model");
  if (needs_neurons_ && !shape_.has_experts() && run.neurons != nullptr) {  // up is not computed where a neuron rests
    return UnsupportedError(
        "the model is packed neuron by neuron, and a run that observes all neurons needs the GGUF file");
  }
  const bool has_neurons = !needs_neurons_ || run.neuron_source != nullptr;
  const bool has_source =
      has_neurons && (shape_.has_experts() ? run.experts != nullptr : needs_neurons_ || run.matrices != nullptr);
  if ((needs_source_ && !has_source) || (needs_rows_ && run.embedding == nullptr))
    return InvalidArgumentError("weights of the model are not in memory, and the run has no source of them");
  if (n_tokens < 1 || n_tokens > workspace.max_tokens()) {
    return InvalidArgumentError("a run of {} tokens: expected 1 to {}", n_tokens, workspace.max_tokens());
  }
  for (TokenId token : run.tokens) {
    if (token < 0 || token >= shape_.n_vocab)
      return InvalidArgumentError("token {} is not in the vocabulary of {}", token, shape_.n_vocab);
  }
  int64_t n_rows = 0;
  for (const RunPart& part : run.parts) {
    if (part.first_row != n_rows || part.n_rows < 1 || part.n_rows > n_tokens - n_rows) {
      return InvalidArgumentError("a part of {} rows from {} on, after {} of {} rows", part.n_rows, part.first_row,
                                  n_rows, n_tokens);
    }
    PANTRY_RETURN_IF_ERROR(CheckPart(part));
    n_rows += part.n_rows;
  }
  if (n_rows != n_tokens) return InvalidArgumentError("parts of {} rows for a run of {} tokens", n_rows, n_tokens);
  if (!run.firing.empty() && run.firing.size() != static_cast<size_t>(shape_.n_layers)) {
    return InvalidArgumentError("thresholds of {} layers for a model of {}", run.firing.size(), shape_.n_layers);
  }
  int64_t previous = -1;
  for (int32_t row : run.logit_rows) {
    if (row <= previous || row >= n_tokens)
      return InvalidArgumentError("logit row {} after {}, in a run of {} tokens", row, previous, n_tokens);
    previous = row;
  }
  if (run.logits.size() != run.logit_rows.size() * static_cast<size_t>(shape_.n_vocab)) {
    return InvalidArgumentError("room for {} logits: expected {} rows of {}", run.logits.size(), run.logit_rows.size(),
                                shape_.n_vocab);
  }
  return OkStatus();
}

}  // namespace pantry
