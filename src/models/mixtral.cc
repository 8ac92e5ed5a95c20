// SPDX-License-Identifier: Apache-2.0
// Llama with experts in every layer: Mixtral and what was merged from Llamas. GGUF calls both "llama". Source: Jiang et al. 2024.
#include <string>
#include <utility>
#include <vector>

#include "models/forward_pass.h"
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
  struct Layer {
    const float* attn_norm = nullptr;                                     // [n_embd]
    WeightMatrix q, k, v;                                                 // n_embd -> n_q, n_kv, n_kv
    const float *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr;  // of some fine-tunes
    WeightMatrix o;                                                       // n_q -> n_embd
    const float* o_bias = nullptr;
    const float* ffn_norm = nullptr;
    WeightMatrix router;  // n_embd -> n_experts
    int64_t window = 0;   // 0: attends to everything
  };

  WeightMatrix embedding_;  // [n_vocab, n_embd]
  std::vector<Layer> layers_;
  const float* output_norm_ = nullptr;
  WeightMatrix output_;  // [n_vocab, n_embd]; none: the embedding is used for both
  const float* rope_factors_ = nullptr;
  RopeTable rope_;
};

void Mixtral::Bind(WeightLoader& loader) {
  const int64_t n_embd = shape_.n_embd, n_vocab = shape_.n_vocab;
  const int64_t n_q = int64_t{shape_.n_heads} * shape_.head_dim, n_kv = int64_t{shape_.n_kv_heads} * shape_.head_dim;
  loader.Matrix("token_embd.weight", n_vocab, n_embd, &embedding_);
  loader.Vector("output_norm.weight", n_embd, &output_norm_);
  loader.OptionalMatrix("output.weight", n_vocab, n_embd, &output_);
  loader.OptionalVector("rope_freqs.weight", shape_.rope.n_dims / 2, &rope_factors_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string block = fmt::format("blk.{}.", i);
    loader.Vector(block + "attn_norm.weight", n_embd, &layer.attn_norm);
    loader.Matrix(block + "attn_q.weight", n_q, n_embd, &layer.q);
    loader.Matrix(block + "attn_k.weight", n_kv, n_embd, &layer.k);
    loader.Matrix(block + "attn_v.weight", n_kv, n_embd, &layer.v);
    loader.OptionalVector(block + "attn_q.bias", n_q, &layer.q_bias);
    loader.OptionalVector(block + "attn_k.bias", n_kv, &layer.k_bias);
    loader.OptionalVector(block + "attn_v.bias", n_kv, &layer.v_bias);
    loader.Matrix(block + "attn_output.weight", n_embd, n_q, &layer.o);
    loader.OptionalVector(block + "attn_output.bias", n_embd, &layer.o_bias);
    loader.Vector(block + "ffn_norm.weight", n_embd, &layer.ffn_norm);
    loader.Matrix(block + "ffn_gate_inp.weight", shape_.n_experts, n_embd, &layer.router);
    loader.Experts(block, shape_.n_experts, n_embd, shape_.n_ff_expert, &experts_[i]);
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

  p.Embed(embedding_);           // x [m, n_embd]
  p.PrepareRope(rope_, p.rope);  // rope [m, head_dim]
  for (int32_t i = 0; i < shape_.n_layers; ++i) {
    const Layer& w = layers_[static_cast<size_t>(i)];

    p.RmsNorm(p.x, w.attn_norm, p.h);                               // h [m, n_embd]
    p.Project(p.h, {{w.q, p.q}, {w.k, p.k}, {w.v, p.v}}, p.n_qkv);  // qkv [m, n_qkv]
    p.AddBias(p.q, w.q_bias, p.n_q, p.n_qkv);
    p.AddBias(p.k, w.k_bias, p.n_kv, p.n_qkv);
    p.AddBias(p.v, w.v_bias, p.n_kv, p.n_qkv);
    p.Rotate(shape_.rope, p.rope);
    p.StoreKv(i);
    p.Attend(i, w.window);                    // attn [m, n_q]
    p.Project(p.attn, {{w.o, p.h}}, n_embd);  // h [m, n_embd]
    p.AddBias(p.h, w.o_bias, n_embd, n_embd);
    p.Add(p.x, p.h);

    p.RmsNorm(p.x, w.ffn_norm, p.h);
    p.RouteExperts(p.h, w.router);  // chosen, mix [m, n_slots]
    if (i + 1 < shape_.n_layers) {
      const Layer& next = layers_[static_cast<size_t>(i) + 1];
      p.GuessExperts(i + 1, next.ffn_norm, next.router);
    }
    PANTRY_RETURN_IF_ERROR(p.ComputeExperts(i, ExpertsOf(i), p.h, p.ops().silu_mul));
    p.MixExperts(p.h);  // h [m, n_embd]
    p.Add(p.x, p.h);
  }
  p.Logits(output_norm_, output_ ? output_ : embedding_);  // logits [rows, n_vocab]
  return OkStatus();
}

}  // namespace

std::unique_ptr<TransformerModel> MakeMixtral(ModelShape shape) { return std::make_unique<Mixtral>(std::move(shape)); }

}  // namespace pantry
