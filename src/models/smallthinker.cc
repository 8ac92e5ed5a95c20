// SPDX-License-Identifier: Apache-2.0
// SmallThinker, made for weights that come from a disk. A layer's router reads what enters the layer, before its attention, so that the
// experts are known early; they gate by ReLU, so that most of their neurons rest. Some layers attend to everything and do not rotate.
// Source: Song et al. 2025.
#include <string>
#include <utility>
#include <vector>

#include "models/forward_pass.h"
#include "models/layer_weights.h"
#include "models/transformer_model.h"

namespace pantry {
namespace {

class SmallThinker final : public TransformerModel {
 public:
  explicit SmallThinker(ModelShape shape)
      : TransformerModel(std::move(shape)), layers_(static_cast<size_t>(shape_.n_layers)) {}
  void Bind(WeightLoader& loader) override;
  Status Prepare() override;
  Status Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const override;

 private:
  struct Layer : AttentionWeights, RoutedWeights {
    int64_t window = 0;  // 0: attends to everything
    bool is_rotated = true;
  };

  ModelEnds ends_;
  std::vector<Layer> layers_;
  RopeTable rope_, rope_local_;
};

void SmallThinker::Bind(WeightLoader& loader) {
  BindEnds(loader, shape_, &ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string block = fmt::format("blk.{}.", i);
    BindAttention(loader, block, shape_, {}, &layer);
    BindRouted(loader, block, shape_, &layer, &experts_[i]);
    layer.window = WindowOf(i);
    layer.is_rotated = shape_.layer_is_rotated[i];
  }
}

Status SmallThinker::Prepare() {
  rope_ = RopeTable(shape_.rope, nullptr);
  rope_local_ = RopeTable(shape_.rope_local, nullptr);
  return OkStatus();
}

Status SmallThinker::Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const {
  PANTRY_RETURN_IF_ERROR(CheckRun(run, workspace));
  ForwardPass p(shape_, isa_, run, pool, workspace);
  const int64_t n_embd = shape_.n_embd;

  PANTRY_RETURN_IF_ERROR(p.Embed(ends_.embedding));  // x [m, n_embd]
  p.PrepareRope(rope_, p.rope);                      // rope [m, head_dim]
  p.PrepareRope(rope_local_, p.rope_local);
  for (int32_t i = 0; i < shape_.n_layers; ++i) {
    const Layer& w = layers_[static_cast<size_t>(i)];

    p.RouteExperts(i, p.x, w.router);                               // chosen, mix [m, n_slots]
    p.RmsNorm(p.x, w.attn_norm, p.h);                               // h [m, n_embd]
    p.Project(p.h, {{w.q, p.q}, {w.k, p.k}, {w.v, p.v}}, p.n_qkv);  // qkv [m, n_qkv]
    p.ExpectExperts(i);                                             // they are read while attention is computed
    if (w.is_rotated) p.Rotate(shape_.rope, w.window > 0 ? p.rope_local : p.rope);
    p.StoreKv(i);
    p.Attend(i, w.window);                    // attn [m, n_q]
    p.Project(p.attn, {{w.o, p.h}}, n_embd);  // h [m, n_embd]
    p.Add(p.x, p.h);

    p.RmsNorm(p.x, w.ffn_norm, p.h);
    if (const Layer* next = LayerAfter(i, layers_)) p.GuessExperts(i + 1, nullptr, next->router);
    PANTRY_RETURN_IF_ERROR(p.ComputeExperts(i, ExpertsOf(i), p.h, p.shape_activation()));
    p.MixExperts(p.h);  // h [m, n_embd]
    p.Add(p.x, p.h);
  }
  p.Logits(ends_.output_norm, ends_.output());  // logits [rows, n_vocab]
  return OkStatus();
}

}  // namespace

std::unique_ptr<TransformerModel> MakeSmallThinker(ModelShape shape) {
  return std::make_unique<SmallThinker>(std::move(shape));
}

}  // namespace pantry
