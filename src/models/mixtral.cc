// SPDX-License-Identifier: Apache-2.0
// Llama with experts in every layer: Mixtral and what was merged from Llamas. GGUF calls both "llama". Source: Jiang et al. 2024.
#include <string>
#include <utility>
#include <vector>

#include "models/forward_pass.h"
#include "models/layer_weights.h"
#include "models/transformer_model.h"

namespace pantry {
namespace {

class Mixtral final : public TransformerModel {
 public:
  explicit Mixtral(ModelShape shape)
      : TransformerModel(std::move(shape)), layers_(static_cast<size_t>(shape_.n_layers)) {}
  void Bind(WeightLoader& loader) override;
  Status Prepare() override;
  Status Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const override;

 private:
  struct Layer : AttentionWeights, RoutedWeights {
    int64_t window = 0;  // 0: attends to everything
  };

  ModelEnds ends_;
  std::vector<Layer> layers_;
  const float* rope_factors_ = nullptr;
  RopeTable rope_;
};

void Mixtral::Bind(WeightLoader& loader) {
  BindEnds(loader, shape_, &ends_);
  loader.OptionalVector("rope_freqs.weight", shape_.rope.n_dims / 2, &rope_factors_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string block = fmt::format("blk.{}.", i);
    BindAttention(loader, block, shape_, {.qkv_biases = Biases::kOptional, .o_bias = Biases::kOptional}, &layer);
    BindRouted(loader, block, shape_, &layer, &experts_[i]);
    layer.window = WindowOf(i);
  }
}

Status Mixtral::Prepare() {
  PANTRY_RETURN_IF_ERROR(CheckRopeFactors("rope_freqs.weight", rope_factors_, shape_.rope.n_dims / 2));
  rope_ = RopeTable(shape_.rope, rope_factors_);
  return OkStatus();
}

Status Mixtral::Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const {
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
    p.RouteExperts(i, p.h, w.router);  // chosen, mix [m, n_slots]
    if (const Layer* next = LayerAfter(i, layers_)) p.GuessExperts(i + 1, next->ffn_norm, next->router);
    PANTRY_RETURN_IF_ERROR(p.ComputeExperts(i, ExpertsOf(i), p.h, p.shape_activation()));
    p.MixExperts(p.h);  // h [m, n_embd]
    p.Add(p.x, p.h);
  }
  p.Logits(ends_.output_norm, ends_.output());  // logits [rows, n_vocab]
  return OkStatus();
}

}  // namespace

std::unique_ptr<TransformerModel> MakeMixtral(ModelShape shape) { return std::make_unique<Mixtral>(std::move(shape)); }

}  // namespace pantry
