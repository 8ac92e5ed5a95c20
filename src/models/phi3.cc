// SPDX-License-Identifier: Apache-2.0
// Phi 3, 3.5 and 4. Llama's arithmetic with q, k, v in one matrix and gate, up in one. Source: Abdin et al. 2024.
//
// The long-context variants have two lists of RoPE factors (LongRoPE): one for texts within the original context and one beyond. Which one
// holds must not change between two runs of one timeline, so the KV cache's capacity decides, as the length that the text may reach.
#include <string>
#include <utility>
#include <vector>

#include "models/forward_pass.h"
#include "models/layer_weights.h"
#include "models/transformer_model.h"

namespace pantry {
namespace {

class Phi3 final : public TransformerModel {
 public:
  explicit Phi3(ModelShape shape) : TransformerModel(std::move(shape)), layers_(static_cast<size_t>(shape_.n_layers)) {}
  void Bind(WeightLoader& loader) override;
  Status Prepare() override;
  Status Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const override;

 private:
  struct Layer {
    const float* attn_norm = nullptr;  // [n_embd]
    WeightMatrix qkv;                  // n_embd -> n_q + 2 n_kv
    WeightMatrix o;                    // n_q -> n_embd
    const float* ffn_norm = nullptr;
    WeightMatrix gate_up;  // n_embd -> 2 n_ff
    WeightMatrix down;     // n_ff -> n_embd
    int64_t window = 0;    // 0: attends to everything
  };

  ModelEnds ends_;
  std::vector<Layer> layers_;
  const float *short_factors_ = nullptr, *long_factors_ = nullptr;  // [rope.n_dims / 2]
  RopeTable rope_short_, rope_long_;
};

void Phi3::Bind(WeightLoader& loader) {
  const int64_t n_embd = shape_.n_embd, n_ff = shape_.n_ff;
  const int64_t n_q = int64_t{shape_.n_heads} * shape_.head_dim, n_kv = int64_t{shape_.n_kv_heads} * shape_.head_dim;
  BindEnds(loader, shape_, &ends_);
  if (shape_.rope.scaling == RopeScaling::kLongRope) {
    loader.Vector("rope_factors_short.weight", shape_.rope.n_dims / 2, &short_factors_);
    loader.Vector("rope_factors_long.weight", shape_.rope.n_dims / 2, &long_factors_);
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string block = fmt::format("blk.{}.", i);
    loader.Vector(block + "attn_norm.weight", n_embd, &layer.attn_norm);
    loader.Matrix(block + "attn_qkv.weight", n_q + 2 * n_kv, n_embd, &layer.qkv);
    loader.Matrix(block + "attn_output.weight", n_embd, n_q, &layer.o);
    loader.Vector(block + "ffn_norm.weight", n_embd, &layer.ffn_norm);
    loader.Matrix(block + "ffn_up.weight", 2 * n_ff, n_embd, &layer.gate_up);
    loader.Matrix(block + "ffn_down.weight", n_embd, n_ff, &layer.down);
    layer.window = WindowOf(i);
  }
}

Status Phi3::Prepare() {
  PANTRY_RETURN_IF_ERROR(CheckRopeFactors("rope_factors_short.weight", short_factors_, shape_.rope.n_dims / 2));
  PANTRY_RETURN_IF_ERROR(CheckRopeFactors("rope_factors_long.weight", long_factors_, shape_.rope.n_dims / 2));
  rope_short_ = RopeTable(shape_.rope, short_factors_);
  rope_long_ = RopeTable(shape_.rope, long_factors_);
  return OkStatus();
}

Status Phi3::Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const {
  PANTRY_RETURN_IF_ERROR(CheckRun(run, workspace));
  ForwardPass p(shape_, isa_, run, pool, workspace);
  const int64_t n_embd = shape_.n_embd, n_ff = shape_.n_ff;

  PANTRY_RETURN_IF_ERROR(p.Embed(ends_.embedding));  // x [m, n_embd]
  p.PrepareRope(rope_short_, rope_long_, p.rope);    // rope [m, head_dim]
  for (int32_t i = 0; i < shape_.n_layers; ++i) {
    const Layer& w = layers_[static_cast<size_t>(i)];

    p.RmsNorm(p.x, w.attn_norm, p.h);           // h [m, n_embd]
    p.Project(p.h, {{w.qkv, p.qkv}}, p.n_qkv);  // qkv [m, n_qkv]
    p.Rotate(shape_.rope, p.rope);
    p.StoreKv(i);
    p.Attend(i, w.window);                    // attn [m, n_q]
    p.Project(p.attn, {{w.o, p.h}}, n_embd);  // h [m, n_embd]
    p.Add(p.x, p.h);

    p.RmsNorm(p.x, w.ffn_norm, p.h);
    p.Project(p.h, {{w.gate_up, p.gate_up}}, 2 * n_ff);  // gate_up [m, 2 n_ff]
    p.SiluMul();                                         // ff [m, n_ff]
    p.Project(p.ff, {{w.down, p.h}}, n_embd);            // h [m, n_embd]
    p.Add(p.x, p.h);
    PANTRY_RETURN_IF_ERROR(p.status());
  }
  p.Logits(ends_.output_norm, ends_.output());  // logits [rows, n_vocab]
  return OkStatus();
}

}  // namespace

std::unique_ptr<TransformerModel> MakePhi3(ModelShape shape) { return std::make_unique<Phi3>(std::move(shape)); }

}  // namespace pantry
