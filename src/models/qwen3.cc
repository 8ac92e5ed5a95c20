// SPDX-License-Identifier: Apache-2.0
// Qwen 3, dense. As Qwen 2 without biases; each head of q and k is normalised before it is rotated. Source: Yang et al. 2025.
#include <string>
#include <utility>
#include <vector>

#include "models/forward_pass.h"
#include "models/layer_weights.h"
#include "models/transformer_model.h"

namespace pantry {
namespace {

class Qwen3 final : public TransformerModel {
 public:
  explicit Qwen3(ModelShape shape)
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

void Qwen3::Bind(WeightLoader& loader) {
  BindEnds(loader, shape_, &ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string block = fmt::format("blk.{}.", i);
    BindAttention(loader, block, shape_, {.qk_norms = QkNorms::kByHead}, &layer);
    BindDense(loader, block, shape_, &layer);
    layer.window = WindowOf(i);
  }
}

Status Qwen3::Prepare() {
  rope_ = RopeTable(shape_.rope, nullptr);
  return OkStatus();
}

Status Qwen3::Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const {
  PANTRY_RETURN_IF_ERROR(CheckRun(run, workspace));
  ForwardPass p(shape_, isa_, run, pool, workspace);
  const int64_t n_embd = shape_.n_embd, n_ff = shape_.n_ff;

  PANTRY_RETURN_IF_ERROR(p.Embed(ends_.embedding));  // x [m, n_embd]
  p.PrepareRope(rope_, p.rope);                      // rope [m, head_dim]
  for (int32_t i = 0; i < shape_.n_layers; ++i) {
    const Layer& w = layers_[static_cast<size_t>(i)];

    p.RmsNorm(p.x, w.attn_norm, p.h);                               // h [m, n_embd]
    p.Project(p.h, {{w.q, p.q}, {w.k, p.k}, {w.v, p.v}}, p.n_qkv);  // qkv [m, n_qkv]
    p.NormHeads(w.q_norm, w.k_norm);
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

std::unique_ptr<TransformerModel> MakeQwen3(ModelShape shape) { return std::make_unique<Qwen3>(std::move(shape)); }

}  // namespace pantry
