// SPDX-License-Identifier: Apache-2.0
// Llama and what is built like it: Llama 1-3, Mistral, TinyLlama, SmolLM. Source: Touvron et al. 2023; Jiang et al. 2023 (Mistral).
//
// Mistral 7B v0.1 has a sliding window in all layers. GGUF stores q and k with their rows permuted, so that RoPE turns
// neighbouring pairs. Llama 3 brings its frequency factors as a tensor.
#include <string>
#include <utility>
#include <vector>

#include "models/forward_pass.h"
#include "models/layer_weights.h"
#include "models/transformer_model.h"

namespace pantry {
namespace {

class Llama final : public TransformerModel {
 public:
  explicit Llama(ModelShape shape)
      : TransformerModel(std::move(shape)), layers_(static_cast<size_t>(shape_.n_layers)) {}
  void Bind(WeightLoader& loader) override;
  Status Prepare() override;
  Status Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const override;

 private:
  struct Layer : AttentionWeights, DenseWeights {
    int64_t window = 0;  // 0: attends to everything
  };

  ModelEnds ends_;
  std::vector<Layer> layers_;
  const float* rope_factors_ = nullptr;
  RopeTable rope_;
};

void Llama::Bind(WeightLoader& loader) {
  BindEnds(loader, shape_, &ends_);
  loader.OptionalVector("rope_freqs.weight", shape_.rope.n_dims / 2, &rope_factors_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string block = fmt::format("blk.{}.", i);
    BindAttention(loader, block, shape_, {.qkv_biases = Biases::kOptional, .o_bias = Biases::kOptional}, &layer);
    BindDense(loader, block, shape_, &layer, /*may_rest=*/true);
    layer.window = WindowOf(i);
  }
}

Status Llama::Prepare() {
  PANTRY_RETURN_IF_ERROR(CheckRopeFactors("rope_freqs.weight", rope_factors_, shape_.rope.n_dims / 2));
  rope_ = RopeTable(shape_.rope, rope_factors_);
  return OkStatus();
}

Status Llama::Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const {
  PANTRY_RETURN_IF_ERROR(CheckRun(run, workspace));
  ForwardPass p(shape_, isa_, run, pool, workspace);
  const int64_t n_embd = shape_.n_embd;

  PANTRY_RETURN_IF_ERROR(p.Embed(ends_.embedding));  // x [m, n_embd]
  p.PrepareRope(rope_, p.rope);                      // rope [m, head_dim]
  for (int32_t i = 0; i < shape_.n_layers; ++i) {
    const Layer& w = layers_[static_cast<size_t>(i)];

    p.RmsNorm(p.x, w.attn_norm, p.h);                               // h [m, n_embd]
    p.Project(p.h, {{w.q, p.q}, {w.k, p.k}, {w.v, p.v}}, p.n_qkv);  // qkv [m, n_qkv]
    p.AddQkvBias(w.q_bias, w.k_bias, w.v_bias);
    p.Rotate(shape_.rope, p.rope);
    p.StoreKv(i);
    p.Attend(i, w.window);                    // attn [m, n_q]
    p.Project(p.attn, {{w.o, p.h}}, n_embd);  // h [m, n_embd]
    p.AddBias(p.h, w.o_bias, n_embd, n_embd);
    p.Add(p.x, p.h);

    p.RmsNorm(p.x, w.ffn_norm, p.h);
    p.FeedForward(w, p.h, p.h);
    p.Add(p.x, p.h);
    PANTRY_RETURN_IF_ERROR(p.status());
  }
  p.Logits(ends_.output_norm, ends_.output());  // logits [rows, n_vocab]
  return OkStatus();
}

}  // namespace

std::unique_ptr<TransformerModel> MakeLlama(ModelShape shape) { return std::make_unique<Llama>(std::move(shape)); }

}  // namespace pantry
