// SPDX-License-Identifier: Apache-2.0
// Qwen 3 with experts in every layer: Qwen 3's attention; a softmax over all experts, of which the best are used, their weights made to sum to 1.
// Source: Yang et al. 2025.
#include <string>
#include <utility>
#include <vector>

#include "models/forward_pass.h"
#include "models/transformer_model.h"

namespace pantry {
namespace {

class Qwen3Moe final : public TransformerModel {
 public:
  explicit Qwen3Moe(ModelShape shape)
      : TransformerModel(std::move(shape)), layers_(static_cast<size_t>(shape_.n_layers)) {}
  void Bind(WeightLoader& loader) override;
  Status Prepare() override;
  Status Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const override;

 private:
  struct Layer {
    const float* attn_norm = nullptr;                  // [n_embd]
    WeightMatrix q, k, v;                              // n_embd -> n_q, n_kv, n_kv
    const float *q_norm = nullptr, *k_norm = nullptr;  // [head_dim]
    WeightMatrix o;                                    // n_q -> n_embd
    const float* ffn_norm = nullptr;
    WeightMatrix router;  // n_embd -> n_experts
  };

  WeightMatrix embedding_;  // [n_vocab, n_embd]
  std::vector<Layer> layers_;
  const float* output_norm_ = nullptr;
  WeightMatrix output_;  // [n_vocab, n_embd]; none: the embedding is used for both
  RopeTable rope_;
};

void Qwen3Moe::Bind(WeightLoader& loader) {
  const int64_t n_embd = shape_.n_embd, n_vocab = shape_.n_vocab;
  const int64_t n_q = int64_t{shape_.n_heads} * shape_.head_dim, n_kv = int64_t{shape_.n_kv_heads} * shape_.head_dim;
  loader.Matrix("token_embd.weight", n_vocab, n_embd, &embedding_);
  loader.Vector("output_norm.weight", n_embd, &output_norm_);
  loader.OptionalMatrix("output.weight", n_vocab, n_embd, &output_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string block = fmt::format("blk.{}.", i);
    loader.Vector(block + "attn_norm.weight", n_embd, &layer.attn_norm);
    loader.Matrix(block + "attn_q.weight", n_q, n_embd, &layer.q);
    loader.Matrix(block + "attn_k.weight", n_kv, n_embd, &layer.k);
    loader.Matrix(block + "attn_v.weight", n_kv, n_embd, &layer.v);
    loader.Vector(block + "attn_q_norm.weight", shape_.head_dim, &layer.q_norm);
    loader.Vector(block + "attn_k_norm.weight", shape_.head_dim, &layer.k_norm);
    loader.Matrix(block + "attn_output.weight", n_embd, n_q, &layer.o);
    loader.Vector(block + "ffn_norm.weight", n_embd, &layer.ffn_norm);
    loader.Matrix(block + "ffn_gate_inp.weight", shape_.n_experts, n_embd, &layer.router);
    loader.Experts(block, shape_.n_experts, n_embd, shape_.n_ff_expert, &experts_[i]);
  }
}

Status Qwen3Moe::Prepare() {
  rope_ = RopeTable(shape_.rope, nullptr);
  return OkStatus();
}

Status Qwen3Moe::Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const {
  PANTRY_RETURN_IF_ERROR(CheckRun(run, workspace));
  ForwardPass p(shape_, isa_, run, pool, workspace);
  const int64_t n_embd = shape_.n_embd;

  p.Embed(embedding_);           // x [m, n_embd]
  p.PrepareRope(rope_, p.rope);  // rope [m, head_dim]
  for (int32_t i = 0; i < shape_.n_layers; ++i) {
    const Layer& w = layers_[static_cast<size_t>(i)];

    p.RmsNorm(p.x, w.attn_norm, p.h);                               // h [m, n_embd]
    p.Project(p.h, {{w.q, p.q}, {w.k, p.k}, {w.v, p.v}}, p.n_qkv);  // qkv [m, n_qkv]
    p.NormHeads(w.q_norm, w.k_norm);
    p.Rotate(shape_.rope, p.rope);
    p.StoreKv(i);
    p.Attend(i, 0);                           // attn [m, n_q]
    p.Project(p.attn, {{w.o, p.h}}, n_embd);  // h [m, n_embd]
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

std::unique_ptr<TransformerModel> MakeQwen3Moe(ModelShape shape) {
  return std::make_unique<Qwen3Moe>(std::move(shape));
}

}  // namespace pantry
