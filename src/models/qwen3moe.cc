// SPDX-License-Identifier: Apache-2.0
// Qwen 3 with experts in every layer: Qwen 3's attention; a softmax over all experts, of which the best are used, their weights made to sum to 1.
// Source: Yang et al. 2025.
#include <string>
#include <utility>
#include <vector>

#include "models/forward_pass.h"
#include "models/layer_weights.h"
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
  struct Layer : AttentionWeights, RoutedWeights {};

  ModelEnds ends_;
  std::vector<Layer> layers_;
  RopeTable rope_;
};

void Qwen3Moe::Bind(WeightLoader& loader) {
  BindEnds(loader, shape_, &ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string block = fmt::format("blk.{}.", i);
    BindAttention(loader, block, shape_, {.qk_norms = QkNorms::kByHead}, &layer);
    BindRouted(loader, block, shape_, &layer, &experts_[i]);
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

  PANTRY_RETURN_IF_ERROR(p.Embed(ends_.embedding));  // x [m, n_embd]
  p.PrepareRope(rope_, p.rope);                      // rope [m, head_dim]
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
    p.RouteExperts(i, p.h, w.router);  // chosen, mix [m, n_slots]
    if (const Layer* next = LayerAfter(i, layers_)) p.GuessExperts(i + 1, next->ffn_norm, next->router);
    PANTRY_RETURN_IF_ERROR(p.ComputeExperts(i, ExpertsOf(i), p.h, p.ops().silu_mul));
    p.MixExperts(p.h);  // h [m, n_embd]
    p.Add(p.x, p.h);
  }
  p.Logits(ends_.output_norm, ends_.output());  // logits [rows, n_vocab]
  return OkStatus();
}

}  // namespace

std::unique_ptr<TransformerModel> MakeQwen3Moe(ModelShape shape) {
  return std::make_unique<Qwen3Moe>(std::move(shape));
}

}  // namespace pantry
