// SPDX-License-Identifier: Apache-2.0
// Qwen 2 and 2.5, dense. Llama's arithmetic with biases on q, k and v, and RoPE over halves. Source: Yang et al. 2024.
#include <string>
#include <utility>
#include <vector>

#include "models/forward_pass.h"
#include "models/layer_weights.h"
#include "models/transformer_model.h"

namespace pantry {
namespace {

class Qwen2 final : public TransformerModel {
 public:
  explicit Qwen2(ModelShape shape)
      : TransformerModel(std::move(shape)), layers_(static_cast<size_t>(shape_.n_layers)) {}
  void Bind(WeightLoader& loader) override;
  Status Prepare() override;
  Status Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const override;

 private:
  struct Layer : AttentionWeights, DenseWeights {
    int64_t window = 0;  // 0: attends to everything
  };

  ModelEnds ends_;
  std::vector<Layer> layers_;
  RopeTable rope_;
};

void Qwen2::Bind(WeightLoader& loader) {
  BindEnds(loader, shape_, &ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string block = fmt::format("blk.{}.", i);
    BindAttention(loader, block, shape_, {.qkv_biases = Biases::kRequired}, &layer);
    BindDense(loader, block, shape_, &layer);
    layer.window = WindowOf(i);
  }
}

Status Qwen2::Prepare() {
  rope_ = RopeTable(shape_.rope, nullptr);
  return OkStatus();
}

Status Qwen2::Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const {
  PANTRY_RETURN_IF_ERROR(CheckRun(run, workspace));
  ForwardPass p(shape_, isa_, run, pool, workspace);
  const int64_t n_embd = shape_.n_embd, n_ff = shape_.n_ff;

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
    p.Add(p.x, p.h);

    p.RmsNorm(p.x, w.ffn_norm, p.h);
    p.Project(p.h, {{w.gate, p.gate}, {w.up, p.up}}, 2 * n_ff);  // gate_up [m, 2 n_ff]
    p.SiluMul();                                                 // ff [m, n_ff]
    p.Project(p.ff, {{w.down, p.h}}, n_embd);                    // h [m, n_embd]
    p.Add(p.x, p.h);
    PANTRY_RETURN_IF_ERROR(p.status());
  }
  p.Logits(ends_.output_norm, ends_.output());  // logits [rows, n_vocab]
  return OkStatus();
}

}  // namespace

std::unique_ptr<TransformerModel> MakeQwen2(ModelShape shape) { return std::make_unique<Qwen2>(std::move(shape)); }

}  // namespace pantry
