// SPDX-License-Identifier: Apache-2.0
// gpt-oss. Experts with biases and a clamped SwiGLU, their weights a softmax over the chosen ones alone; every second layer has a window,
// and each head a sink that may take its attention. RoPE scaled by YaRN. Source: OpenAI 2025.
#include <string>
#include <utility>
#include <vector>

#include "models/forward_pass.h"
#include "models/layer_weights.h"
#include "models/transformer_model.h"

namespace pantry {
namespace {

class GptOss final : public TransformerModel {
 public:
  explicit GptOss(ModelShape shape)
      : TransformerModel(std::move(shape)), layers_(static_cast<size_t>(shape_.n_layers)) {}
  void Bind(WeightLoader& loader) override;
  Status Prepare() override;
  Status Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const override;

 private:
  struct Layer : AttentionWeights {
    const float* sinks = nullptr;     // [n_heads]
    const float* ffn_norm = nullptr;  // [n_embd]
    WeightMatrix router;              // n_embd -> n_experts
    const float* router_bias = nullptr;
    int64_t window = 0;  // 0: attends to everything
  };

  ModelEnds ends_;
  std::vector<Layer> layers_;
  RopeTable rope_;
};

void GptOss::Bind(WeightLoader& loader) {
  const int64_t n_embd = shape_.n_embd;
  BindEnds(loader, shape_, &ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string block = fmt::format("blk.{}.", i);
    BindAttention(loader, block, shape_, {.qkv_biases = Biases::kRequired, .o_bias = Biases::kRequired}, &layer);
    loader.Vector(block + "attn_sinks.weight", shape_.n_heads, &layer.sinks);
    loader.Vector(block + "post_attention_norm.weight", n_embd, &layer.ffn_norm);
    loader.Matrix(block + "ffn_gate_inp.weight", shape_.n_experts, n_embd, &layer.router);
    loader.Vector(block + "ffn_gate_inp.bias", shape_.n_experts, &layer.router_bias);
    loader.Experts(block, shape_.n_experts, n_embd, shape_.n_ff_expert, &experts_[i]);
    layer.window = WindowOf(i);
  }
}

Status GptOss::Prepare() {
  rope_ = RopeTable(shape_.rope, nullptr);
  return OkStatus();
}

Status GptOss::Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const {
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
    p.Attend(i, w.window, w.sinks);           // attn [m, n_q]
    p.Project(p.attn, {{w.o, p.h}}, n_embd);  // h [m, n_embd]
    p.AddBias(p.h, w.o_bias, n_embd, n_embd);
    p.Add(p.x, p.h);

    p.RmsNorm(p.x, w.ffn_norm, p.h);
    p.RouteExperts(i, p.h, w.router, w.router_bias);  // chosen, mix [m, n_slots]
    if (const Layer* next = LayerAfter(i, layers_))
      p.GuessExperts(i + 1, next->ffn_norm, next->router, nullptr, next->router_bias);
    PANTRY_RETURN_IF_ERROR(p.ComputeExperts(i, ExpertsOf(i), p.h, p.ops().clamped_swiglu));
    p.MixExperts(p.h);  // h [m, n_embd]
    p.Add(p.x, p.h);
  }
  p.Logits(ends_.output_norm, ends_.output());  // logits [rows, n_vocab]
  return OkStatus();
}

}  // namespace

std::unique_ptr<TransformerModel> MakeGptOss(ModelShape shape) { return std::make_unique<GptOss>(std::move(shape)); }

}  // namespace pantry
