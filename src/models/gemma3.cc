// SPDX-License-Identifier: Apache-2.0
// Gemma 3, text. As Gemma 2 without the soft caps; heads of q and k are normalised, five layers of six have a sliding window, and those
// turn by frequencies of their own. Source: Gemma Team 2025. GGUF stores Gemma's norm weights with their 1 added.
#include <string>
#include <utility>
#include <vector>

#include "models/forward_pass.h"
#include "models/layer_weights.h"
#include "models/transformer_model.h"

namespace pantry {
namespace {

class Gemma3 final : public TransformerModel {
 public:
  explicit Gemma3(ModelShape shape)
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
  RopeTable rope_, rope_local_;
};

void Gemma3::Bind(WeightLoader& loader) {
  const int64_t n_embd = shape_.n_embd;
  BindEnds(loader, shape_, &ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string block = fmt::format("blk.{}.", i);
    BindAttention(loader, block, shape_, {.qk_norms = QkNorms::kByHead}, &layer);
    loader.Vector(block + "post_attention_norm.weight", n_embd, &layer.attn_post_norm);
    BindDense(loader, block, shape_, &layer);
    loader.Vector(block + "post_ffw_norm.weight", n_embd, &layer.ffn_post_norm);
    layer.window = WindowOf(i);
  }
}

Status Gemma3::Prepare() {
  rope_ = RopeTable(shape_.rope, nullptr);
  rope_local_ = RopeTable(shape_.rope_local, nullptr);
  return OkStatus();
}

Status Gemma3::Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const {
  PANTRY_RETURN_IF_ERROR(CheckRun(run, workspace));
  ForwardPass p(shape_, isa_, run, pool, workspace);
  const int64_t n_embd = shape_.n_embd, n_ff = shape_.n_ff;

  PANTRY_RETURN_IF_ERROR(p.Embed(ends_.embedding));  // x [m, n_embd]
  p.PrepareRope(rope_, p.rope);                      // rope [m, head_dim]
  p.PrepareRope(rope_local_, p.rope_local);          // of the layers with a window
  for (int32_t i = 0; i < shape_.n_layers; ++i) {
    const Layer& w = layers_[static_cast<size_t>(i)];

    p.RmsNorm(p.x, w.attn_norm, p.h);                               // h [m, n_embd]
    p.Project(p.h, {{w.q, p.q}, {w.k, p.k}, {w.v, p.v}}, p.n_qkv);  // qkv [m, n_qkv]
    p.NormHeads(w.q_norm, w.k_norm);
    if (w.window > 0) p.Rotate(shape_.rope_local, p.rope_local);
    else p.Rotate(shape_.rope, p.rope);
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

std::unique_ptr<TransformerModel> MakeGemma3(ModelShape shape) { return std::make_unique<Gemma3>(std::move(shape)); }

}  // namespace pantry
