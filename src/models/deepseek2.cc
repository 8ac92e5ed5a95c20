// SPDX-License-Identifier: Apache-2.0
// DeepSeek V2 Lite and what is built like it: latent attention (latent_step.cc), leading dense layers, then experts beside one that every
// token passes. YaRN scales scores, not cos and sin. Source: DeepSeek-AI 2024.
#include <string>
#include <utility>
#include <vector>

#include "models/forward_pass.h"
#include "models/layer_weights.h"
#include "models/transformer_model.h"

namespace pantry {
namespace {

class DeepSeek2 final : public TransformerModel {
 public:
  explicit DeepSeek2(ModelShape shape)
      : TransformerModel(std::move(shape)), layers_(static_cast<size_t>(shape_.n_layers)) {}
  void Bind(WeightLoader& loader) override;
  Status Prepare() override;
  Status Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const override;

 private:
  // The GLU is a dense layer's, n_ff wide, or the shared expert's, n_ff_shared.
  struct Layer : GluWeights {
    const float* attn_norm = nullptr;    // [n_embd]
    WeightMatrix q;                      // n_embd -> n_heads * (plain_dim + rotated)
    WeightMatrix latent;                 // n_embd -> n_latent + rotated
    const float* latent_norm = nullptr;  // [n_latent]
    WeightStack k;                       // of a head: plain_dim -> n_latent
    WeightStack v;                       // of a head: n_latent -> value_dim
    WeightMatrix o;                      // n_heads * value_dim -> n_embd
    const float* ffn_norm = nullptr;
    WeightMatrix router;  // n_embd -> n_experts; none in dense layers
  };

  ModelEnds ends_;
  std::vector<Layer> layers_;
  RopeTable rope_;
};

void DeepSeek2::Bind(WeightLoader& loader) {
  const LatentShape& latent = shape_.latent;
  const int64_t n_embd = shape_.n_embd, n_heads = shape_.n_heads, n_rotated = shape_.rope.n_dims;
  BindEnds(loader, shape_, &ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string block = fmt::format("blk.{}.", i);
    loader.Vector(block + "attn_norm.weight", n_embd, &layer.attn_norm);
    loader.Matrix(block + "attn_q.weight", n_heads * (latent.plain_dim + n_rotated), n_embd, &layer.q);
    loader.Matrix(block + "attn_kv_a_mqa.weight", latent.n_latent + n_rotated, n_embd, &layer.latent);
    loader.Vector(block + "attn_kv_a_norm.weight", latent.n_latent, &layer.latent_norm);
    loader.Stack(block + "attn_k_b.weight", n_heads, latent.n_latent, latent.plain_dim, &layer.k);
    loader.Stack(block + "attn_v_b.weight", n_heads, latent.value_dim, latent.n_latent, &layer.v);
    loader.Matrix(block + "attn_output.weight", n_embd, n_heads * latent.value_dim, &layer.o);
    loader.Vector(block + "ffn_norm.weight", n_embd, &layer.ffn_norm);
    const bool is_dense = i < static_cast<size_t>(shape_.n_dense_layers);
    const int64_t width = is_dense ? shape_.n_ff : shape_.n_ff_shared;
    if (width > 0) BindGlu(loader, block, is_dense ? "" : "_shexp", n_embd, width, &layer);
    if (is_dense) continue;
    loader.Matrix(block + "ffn_gate_inp.weight", shape_.n_experts, n_embd, &layer.router);
    loader.Experts(block, shape_.n_experts, n_embd, shape_.n_ff_expert, &experts_[i]);
  }
}

Status DeepSeek2::Prepare() {
  rope_ = RopeTable(shape_.rope, nullptr);
  return OkStatus();
}

Status DeepSeek2::Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const {
  PANTRY_RETURN_IF_ERROR(CheckRun(run, workspace));
  ForwardPass p(shape_, isa_, run, pool, workspace);
  const LatentShape& latent = shape_.latent;
  const int64_t n_embd = shape_.n_embd, n_rotated = shape_.rope.n_dims, head_dim = shape_.head_dim;
  const int64_t query_dim = latent.plain_dim + n_rotated, n_result = int64_t{shape_.n_heads} * latent.value_dim;

  PANTRY_RETURN_IF_ERROR(p.Embed(ends_.embedding));  // x [m, n_embd]
  p.PrepareRope(rope_, p.rope);                      // rope [m, n_rotated]
  for (int32_t i = 0; i < shape_.n_layers; ++i) {
    const Layer& w = layers_[static_cast<size_t>(i)];

    p.RmsNorm(p.x, w.attn_norm, p.h);                                                         // h [m, n_embd]
    p.Project(p.h, {{w.q, p.attn}, {w.latent, p.attn + shape_.n_heads * query_dim}}, p.n_q);  // attn, raw
    p.SplitLatents(w.latent_norm);
    p.ProjectHeads(w.k, {p.attn, query_dim, p.n_q}, {p.q + n_rotated, head_dim, p.n_qkv}, p.h);  // qkv [m, n_qkv]
    p.Rotate(shape_.rope, p.rope);
    p.StoreKv(i);
    p.Attend(i, 0);  // attn [m, n_q]
    p.ProjectHeads(w.v, {p.attn + n_rotated, head_dim, p.n_q}, {p.qkv, latent.value_dim, n_result},
                   p.qkv + p.m * n_result);  // qkv, now [m, n_result]
    p.Project(p.qkv, {{w.o, p.h}}, n_embd);  // h [m, n_embd]
    p.Add(p.x, p.h);

    p.RmsNorm(p.x, w.ffn_norm, p.h);
    if (w.router) {
      p.RouteExperts(i, p.h, w.router);  // chosen, mix [m, n_slots]
      p.ExpectExperts(i);                // they are read while the shared expert is computed
    }
    if (w.gate) {  // dense, or the shared expert
      const int64_t width = w.gate.rows;
      p.Project(p.h, {{w.gate, p.gate_up}, {w.up, p.gate_up + width}}, 2 * width);  // gate_up [m, 2 width]
      p.SiluMul(width);                                                             // ff [m, width]
      p.Project(p.ff, {{w.down, p.shared}}, n_embd);                                // shared [m, n_embd]
      p.Add(p.x, p.shared);
    }
    if (!w.router) continue;
    const Layer* const next = LayerAfter(i, layers_);
    if (next != nullptr && next->router) p.GuessExperts(i + 1, next->ffn_norm, next->router);
    PANTRY_RETURN_IF_ERROR(p.ComputeExperts(i, ExpertsOf(i), p.h, p.ops().silu_mul));
    p.MixExperts(p.h);  // h [m, n_embd]
    p.Add(p.x, p.h);
  }
  p.Logits(ends_.output_norm, ends_.output());  // logits [rows, n_vocab]
  return OkStatus();
}

}  // namespace

std::unique_ptr<TransformerModel> MakeDeepSeek2(ModelShape shape) {
  return std::make_unique<DeepSeek2>(std::move(shape));
}

}  // namespace pantry
