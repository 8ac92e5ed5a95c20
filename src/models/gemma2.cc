// SPDX-License-Identifier: Apache-2.0
// Gemma 2. Norms before and after each block, GELU, soft-capped scores and logits, every second layer with a sliding window.
// Source: Gemma Team 2024. GGUF stores Gemma's norm weights with their 1 added.
#include <string>
#include <utility>
#include <vector>

#include "models/forward_pass.h"
#include "models/layer_weights.h"
#include "models/transformer_model.h"

namespace pantry {
namespace {

class Gemma2 final : public TransformerModel {
 public:
  explicit Gemma2(ModelShape shape)
      : TransformerModel(std::move(shape)), layers_(static_cast<size_t>(shape_.n_layers)) {}
  void Bind(WeightLoader& loader) override;
  Status Prepare() override;
  Status Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const override;

 private:
  struct Layer : AttentionWeights, DenseWeights {
    const float *attn_post_norm = nullptr, *ffn_post_norm = nullptr;  // [n_embd]
    int64_t window = 0;                                               // 0: attends to everything
  };

  ModelEnds ends_;
  std::vector<Layer> layers_;
  RopeTable rope_;
};

void Gemma2::Bind(WeightLoader& loader) {
  const int64_t n_embd = shape_.n_embd;
  BindEnds(loader, shape_, &ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string block = fmt::format("blk.{}.", i);
    BindAttention(loader, block, shape_, {}, &layer);
    loader.Vector(block + "post_attention_norm.weight", n_embd, &layer.attn_post_norm);
    BindDense(loader, block, shape_, &layer);
    loader.Vector(block + "post_ffw_norm.weight", n_embd, &layer.ffn_post_norm);
    layer.window = WindowOf(i);
  }
}

Status Gemma2::Prepare() {
  rope_ = RopeTable(shape_.rope, nullptr);
  return OkStatus();
}

Status Gemma2::Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const {
  PANTRY_RETURN_IF_ERROR(CheckRun(run, workspace));
  ForwardPass p(shape_, isa_, run, pool, workspace);
  const int64_t n_embd = shape_.n_embd, n_ff = shape_.n_ff;

  PANTRY_RETURN_IF_ERROR(p.Embed(ends_.embedding));  // x [m, n_embd]
  p.PrepareRope(rope_, p.rope);                      // rope [m, head_dim]
  for (int32_t i = 0; i < shape_.n_layers; ++i) {
    const Layer& w = layers_[static_cast<size_t>(i)];

    p.RmsNorm(p.x, w.attn_norm, p.h);                               // h [m, n_embd]
    p.Project(p.h, {{w.q, p.q}, {w.k, p.k}, {w.v, p.v}}, p.n_qkv);  // qkv [m, n_qkv]
    p.Rotate(shape_.rope, p.rope);
    p.StoreKv(i);
    p.Attend(i, w.window);                    // attn [m, n_q]
    p.Project(p.attn, {{w.o, p.h}}, n_embd);  // h [m, n_embd]
    p.RmsNorm(p.h, w.attn_post_norm, p.h);
    p.Add(p.x, p.h);

    p.RmsNorm(p.x, w.ffn_norm, p.h);
    p.Project(p.h, {{w.gate, p.gate}, {w.up, p.up}}, 2 * n_ff);  // gate_up [m, 2 n_ff]
    p.GeluMul();                                                 // ff [m, n_ff]
    p.Project(p.ff, {{w.down, p.h}}, n_embd);                    // h [m, n_embd]
    p.RmsNorm(p.h, w.ffn_post_norm, p.h);
    p.Add(p.x, p.h);
    PANTRY_RETURN_IF_ERROR(p.status());
  }
  p.Logits(ends_.output_norm, ends_.output());  // logits [rows, n_vocab]
  return OkStatus();
}

}  // namespace

std::unique_ptr<TransformerModel> MakeGemma2(ModelShape shape) { return std::make_unique<Gemma2>(std::move(shape)); }

}  // namespace pantry
