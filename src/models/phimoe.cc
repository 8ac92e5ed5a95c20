// SPDX-License-Identifier: Apache-2.0
// Phi 3.5 MoE. Norms take the mean off and have a bias, as all projections of attention and the output do; two experts a token, whose weights
// come from Sparsemixer (expert_routing.h). RoPE's factors as Phi 3's. Source: Abdin et al. 2024; Liu et al. 2024 (GRIN).
#include <string>
#include <utility>
#include <vector>

#include "models/forward_pass.h"
#include "models/layer_weights.h"
#include "models/transformer_model.h"

namespace pantry {
namespace {

class PhiMoe final : public TransformerModel {
 public:
  explicit PhiMoe(ModelShape shape)
      : TransformerModel(std::move(shape)), layers_(static_cast<size_t>(shape_.n_layers)) {}
  void Bind(WeightLoader& loader) override;
  Status Prepare() override;
  Status Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const override;

 private:
  struct Layer : AttentionWeights, RoutedWeights {
    const float *attn_norm_bias = nullptr, *ffn_norm_bias = nullptr;  // [n_embd]
  };

  WeightMatrix embedding_;  // [n_vocab, n_embd]
  std::vector<Layer> layers_;
  const float *output_norm_ = nullptr, *output_norm_bias_ = nullptr;
  WeightMatrix output_;                                             // [n_vocab, n_embd]
  const float* output_bias_ = nullptr;                              // [n_vocab]
  const float *short_factors_ = nullptr, *long_factors_ = nullptr;  // [rope.n_dims / 2]
  RopeTable rope_short_, rope_long_;
};

void PhiMoe::Bind(WeightLoader& loader) {
  const int64_t n_embd = shape_.n_embd, n_vocab = shape_.n_vocab;
  loader.Rows("token_embd.weight", n_vocab, n_embd, &embedding_);
  loader.Vector("output_norm.weight", n_embd, &output_norm_);
  loader.Vector("output_norm.bias", n_embd, &output_norm_bias_);
  loader.Matrix("output.weight", n_vocab, n_embd, &output_);
  loader.Vector("output.bias", n_vocab, &output_bias_);
  if (shape_.rope.scaling == RopeScaling::kLongRope) {
    loader.Vector("rope_factors_short.weight", shape_.rope.n_dims / 2, &short_factors_);
    loader.Vector("rope_factors_long.weight", shape_.rope.n_dims / 2, &long_factors_);
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string block = fmt::format("blk.{}.", i);
    loader.Vector(block + "attn_norm.bias", n_embd, &layer.attn_norm_bias);
    BindAttention(loader, block, shape_, {.qkv_biases = Biases::kRequired, .o_bias = Biases::kRequired}, &layer);
    loader.Vector(block + "ffn_norm.bias", n_embd, &layer.ffn_norm_bias);
    BindRouted(loader, block, shape_, &layer, &experts_[i]);
  }
}

Status PhiMoe::Prepare() {
  PANTRY_RETURN_IF_ERROR(CheckRopeFactors("rope_factors_short.weight", short_factors_, shape_.rope.n_dims / 2));
  PANTRY_RETURN_IF_ERROR(CheckRopeFactors("rope_factors_long.weight", long_factors_, shape_.rope.n_dims / 2));
  rope_short_ = RopeTable(shape_.rope, short_factors_);
  rope_long_ = RopeTable(shape_.rope, long_factors_);
  return OkStatus();
}

Status PhiMoe::Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const {
  PANTRY_RETURN_IF_ERROR(CheckRun(run, workspace));
  ForwardPass p(shape_, isa_, run, pool, workspace);
  const int64_t n_embd = shape_.n_embd;

  PANTRY_RETURN_IF_ERROR(p.Embed(embedding_));     // x [m, n_embd]
  p.PrepareRope(rope_short_, rope_long_, p.rope);  // rope [m, head_dim]
  for (int32_t i = 0; i < shape_.n_layers; ++i) {
    const Layer& w = layers_[static_cast<size_t>(i)];

    p.LayerNorm(p.x, w.attn_norm, w.attn_norm_bias, p.h);           // h [m, n_embd]
    p.Project(p.h, {{w.q, p.q}, {w.k, p.k}, {w.v, p.v}}, p.n_qkv);  // qkv [m, n_qkv]
    p.AddQkvBias(w.q_bias, w.k_bias, w.v_bias);
    p.Rotate(shape_.rope, p.rope);
    p.StoreKv(i);
    p.Attend(i, 0);                           // attn [m, n_q]
    p.Project(p.attn, {{w.o, p.h}}, n_embd);  // h [m, n_embd]
    p.AddBias(p.h, w.o_bias, n_embd, n_embd);
    p.Add(p.x, p.h);

    p.LayerNorm(p.x, w.ffn_norm, w.ffn_norm_bias, p.h);
    p.RouteExperts(i, p.h, w.router);  // chosen, mix [m, n_slots]
    if (const Layer* next = LayerAfter(i, layers_))
      p.GuessExperts(i + 1, next->ffn_norm, next->router, next->ffn_norm_bias);
    PANTRY_RETURN_IF_ERROR(p.ComputeExperts(i, ExpertsOf(i), p.h, p.ops().silu_mul));
    p.MixExperts(p.h);  // h [m, n_embd]
    p.Add(p.x, p.h);
  }
  p.Logits(output_norm_, output_, output_norm_bias_, output_bias_);  // logits [rows, n_vocab]
  return OkStatus();
}

}  // namespace

std::unique_ptr<TransformerModel> MakePhiMoe(ModelShape shape) { return std::make_unique<PhiMoe>(std::move(shape)); }

}  // namespace pantry
