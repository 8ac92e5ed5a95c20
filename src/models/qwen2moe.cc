// SPDX-License-Identifier: Apache-2.0
// Qwen 1.5 and 2 with experts in every layer, and an expert that every token passes, with a gate of its own.
// Source: Qwen Team 2024; Yang et al. 2024.
#include <string>
#include <utility>
#include <vector>

#include "models/forward_pass.h"
#include "models/layer_weights.h"
#include "models/transformer_model.h"

namespace pantry {
namespace {

class Qwen2Moe final : public TransformerModel {
 public:
  explicit Qwen2Moe(ModelShape shape)
      : TransformerModel(std::move(shape)), layers_(static_cast<size_t>(shape_.n_layers)) {}
  void Bind(WeightLoader& loader) override;
  Status Prepare() override;
  Status Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const override;

 private:
  struct Layer : AttentionWeights, RoutedWeights {
    GluWeights shared;                     // of width n_ff_shared
    const float* shared_switch = nullptr;  // [n_embd]
  };

  ModelEnds ends_;
  std::vector<Layer> layers_;
  RopeTable rope_;
};

void Qwen2Moe::Bind(WeightLoader& loader) {
  const int64_t n_embd = shape_.n_embd;
  BindEnds(loader, shape_, &ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string block = fmt::format("blk.{}.", i);
    BindAttention(loader, block, shape_, {.qkv_biases = Biases::kRequired}, &layer);
    BindRouted(loader, block, shape_, &layer, &experts_[i]);
    BindGlu(loader, block, "_shexp", n_embd, shape_.n_ff_shared, &layer.shared);
    loader.Vector(block + "ffn_gate_inp_shexp.weight", n_embd, &layer.shared_switch);
  }
}

Status Qwen2Moe::Prepare() {
  rope_ = RopeTable(shape_.rope, nullptr);
  return OkStatus();
}

Status Qwen2Moe::Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const {
  PANTRY_RETURN_IF_ERROR(CheckRun(run, workspace));
  ForwardPass p(shape_, isa_, run, pool, workspace);
  const int64_t n_embd = shape_.n_embd, n_shared = shape_.n_ff_shared;

  PANTRY_RETURN_IF_ERROR(p.Embed(ends_.embedding));  // x [m, n_embd]
  p.PrepareRope(rope_, p.rope);                      // rope [m, head_dim]
  for (int32_t i = 0; i < shape_.n_layers; ++i) {
    const Layer& w = layers_[static_cast<size_t>(i)];

    p.RmsNorm(p.x, w.attn_norm, p.h);                               // h [m, n_embd]
    p.Project(p.h, {{w.q, p.q}, {w.k, p.k}, {w.v, p.v}}, p.n_qkv);  // qkv [m, n_qkv]
    p.AddQkvBias(w.q_bias, w.k_bias, w.v_bias);
    p.Rotate(shape_.rope, p.rope);
    p.StoreKv(i);
    p.Attend(i, 0);                           // attn [m, n_q]
    p.Project(p.attn, {{w.o, p.h}}, n_embd);  // h [m, n_embd]
    p.Add(p.x, p.h);

    p.RmsNorm(p.x, w.ffn_norm, p.h);
    p.RouteExperts(i, p.h, w.router);  // chosen, mix [m, n_slots]
    p.ExpectExperts(i);                // they are read while the shared expert is computed
    p.Project(p.h, {{w.shared.gate, p.gate}, {w.shared.up, p.up}}, 2 * n_shared);  // gate_up [m, 2 n_shared]
    p.SiluMul();                                                                   // ff [m, n_shared]
    p.Project(p.ff, {{w.shared.down, p.shared}}, n_embd);                          // shared [m, n_embd]
    p.Switch(p.shared, p.h, w.shared_switch);
    if (const Layer* next = LayerAfter(i, layers_)) p.GuessExperts(i + 1, next->ffn_norm, next->router);
    PANTRY_RETURN_IF_ERROR(p.ComputeExperts(i, ExpertsOf(i), p.h, p.ops().silu_mul));
    p.MixExperts(p.h);  // h [m, n_embd]
    p.Add(p.h, p.shared);
    p.Add(p.x, p.h);
  }
  p.Logits(ends_.output_norm, ends_.output());  // logits [rows, n_vocab]
  return OkStatus();
}

}  // namespace

std::unique_ptr<TransformerModel> MakeQwen2Moe(ModelShape shape) {
  return std::make_unique<Qwen2Moe>(std::move(shape));
}

}  // namespace pantry
