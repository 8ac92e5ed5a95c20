// SPDX-License-Identifier: Apache-2.0
#include "models/forward_pass.h"

#include <algorithm>
#include <array>
#include <utility>

#include "compute/activations.h"
#include "compute/kernels/attention/parallel_attention.h"

namespace pantry {
namespace {

// Keys lie lane = position, so each number of a position's key is on a cache line of its own. From so many on, which take some 10 us from DRAM,
// other threads help with a single row.
constexpr int64_t kManyKeyLines = 1024;

// Logits are soft-capped in pieces of this size in parallel, whatever the number of threads.
constexpr int64_t kSoftcapPiece = 4096;

}  // namespace

ForwardPass::ForwardPass(const ModelShape& shape, Isa isa, const ForwardRun& run, ThreadPool& pool,
                         Workspace& workspace)
    : m(static_cast<int64_t>(run.tokens.size())),
      n_q(int64_t{shape.n_heads} * shape.head_dim),
      n_kv(int64_t{shape.n_kv_heads} * shape.head_dim),
      n_qkv(n_q + 2 * n_kv),
      n_ff(WidestFf(shape)),
      n_slots(shape.n_experts_used),
      shape_(shape),
      run_(run),
      pool_(pool),
      ops_(VectorOpsFor(isa)),
      attention_(AttentionOpsFor(isa)) {
  const ForwardParts parts = static_cast<ForwardBuffers&>(workspace).PartsFor(m);
  x = parts.x;
  h = parts.h;
  qkv = parts.qkv;
  q = qkv;
  k = q + n_q;
  v = k + n_kv;
  attn = parts.attn;
  gate_up = parts.gate_up;
  gate = gate_up;
  up = gate + n_ff;
  ff = parts.ff;
  rope = parts.rope;
  rope_local = parts.rope_local;
  attention_scratch_ = parts.attention_scratch;
  quantized_ = parts.quantized;
  shared = parts.shared;
  router_logits = parts.router_logits;
  chosen = parts.chosen;
  mix = parts.mix;
  routing_ = parts.routing;
  guess_ = parts.guess;
  pick_row_ = parts.pick_row;
  pick_at_ = parts.pick_at;
  tasks_ = parts.tasks;
  expert_ff_ = parts.expert_ff;
  partials_ = parts.partials;
  columns_ = parts.columns;
  firing_ = parts.firing;
  near_ = parts.near;
  n_rows_firing_ = parts.n_firing;
  n_firing_of_ = parts.n_firing_of;
  hidden_ = parts.hidden;
  gathered_ = parts.gathered;
}

template <typename Body>
void ForwardPass::ForEach(int64_t n_items, bool in_parallel, const Body& body) {
  if (in_parallel) {
    pool_.ParallelFor(n_items, [&](int64_t item, int) { body(item); });
  } else {
    for (int64_t item = 0; item < n_items; ++item) body(item);
  }
}

void ForwardPass::RunRowSteps(int64_t row) const {
  for (int i = 0; i < n_row_steps_; ++i) row_steps_[i].run(row_steps_[i].body, row);
}

void ForwardPass::FlushRowSteps() {
  if (n_row_steps_ > 0) ForEach(m, m > 1, [this](int64_t row) { RunRowSteps(row); });
  n_row_steps_ = 0;
}

Status ForwardPass::Embed(const WeightMatrix& embedding) {
  const bool from_source = embedding.tiles == nullptr;
  if (from_source) PANTRY_RETURN_IF_ERROR(run_.embedding->Rows(run_.tokens, x));
  ByRow([this, &embedding, from_source](int64_t row) {
    float* x_row = x + row * shape_.n_embd;
    if (!from_source) embedding.UnpackRow(run_.tokens[static_cast<size_t>(row)], x_row);
    if (shape_.embedding_scale != 1.0f) ops_.scale(x_row, shape_.embedding_scale, shape_.n_embd);
  });
  return OkStatus();
}

const RunPart& ForwardPass::PartOf(int64_t row) const {
  const auto next = std::ranges::upper_bound(run_.parts, row, {}, &RunPart::first_row);
  return *(next - 1);
}

void ForwardPass::PrepareRope(const RopeTable& table, const RopeTable& of_long, float* cos_sin) {
  ByRow([this, &table, &of_long, cos_sin](int64_t row) {
    const RunPart& part = PartOf(row);
    const bool is_long = part.kv.front().n_positions > shape_.rope.original_context;
    (is_long ? of_long : table).Fill(part.first_position + row - part.first_row, cos_sin + row * shape_.head_dim);
  });
}

void ForwardPass::Project(const float* in, std::initializer_list<Output> outputs, int64_t y_stride) {
  std::array<MatMulTask, 4> all;
  size_t n_tasks = 0;
  for (const Output& output : outputs) all[n_tasks++] = {&output.weights, output.y, y_stride};
  const std::span<const MatMulTask> tasks(all.data(), n_tasks);
  const WeightMatrix& first = *tasks[0].weights;
  const ActivationRows rows = ActivationRows::InScratch(in, m, first.cols, quantized_);
  const auto run_steps = [this](int64_t row) { RunRowSteps(row); };
  const RowTask prepare = n_row_steps_ > 0 ? RowTask(run_steps) : RowTask();
  if (first.tiles != nullptr) {
    MatMul(pool_, tasks, rows, prepare);
  } else {
    ProjectFromSource(tasks, rows, prepare);
  }
  n_row_steps_ = 0;
}

void ForwardPass::ProjectFromSource(std::span<const MatMulTask> tasks, const ActivationRows& rows, RowTask prepare) {
  if (!status_.ok()) return;
  bool is_prepared = false;
  const auto compute = [&](std::span<const MatMulTask> parts) {
    MatMul(pool_, parts, rows, is_prepared ? RowTask() : prepare);
    is_prepared = true;
  };
  status_ = run_.matrices->Provide(tasks, MatrixSink(compute));
}

void ForwardPass::RmsNorm(const float* in, const float* weight, float* out) {
  const int64_t n = shape_.n_embd;
  ByRow([=, this](int64_t row) { ops_.rms_norm(in + row * n, weight, n, shape_.norm_eps, out + row * n); });
}

void ForwardPass::LayerNorm(const float* in, const float* weight, const float* bias, float* out) {
  const int64_t n = shape_.n_embd;
  ByRow([=, this](int64_t row) { ops_.layer_norm(in + row * n, weight, bias, n, shape_.norm_eps, out + row * n); });
}

void ForwardPass::Add(float* to, const float* delta) {
  const int64_t n = shape_.n_embd;
  ByRow([=, this](int64_t row) { ops_.add(to + row * n, delta + row * n, n); });
}

void ForwardPass::AddBias(float* y, const float* bias, int64_t n, int64_t y_stride) {
  if (bias == nullptr) return;
  ByRow([=, this](int64_t row) { ops_.add(y + row * y_stride, bias, n); });
}

void ForwardPass::AddQkvBias(const float* q_bias, const float* k_bias, const float* v_bias) {
  AddBias(q, q_bias, n_q, n_qkv);
  AddBias(k, k_bias, n_kv, n_qkv);
  AddBias(v, v_bias, n_kv, n_qkv);
}

void ForwardPass::NormHeads(const float* q_norm, const float* k_norm) {
  ByRow([this, q_norm, k_norm](int64_t row) {
    const int64_t d = shape_.head_dim;
    const auto norm = [&](float* heads, int32_t n_heads, const float* weight) {
      for (int32_t i = 0; i < n_heads; ++i) ops_.rms_norm(heads + i * d, weight, d, shape_.norm_eps, heads + i * d);
    };
    norm(q + row * n_qkv, shape_.n_heads, q_norm);
    norm(k + row * n_qkv, shape_.n_kv_heads, k_norm);
  });
}

void ForwardPass::NormWholeQk(const float* q_norm, const float* k_norm) {
  ByRow([this, q_norm, k_norm](int64_t row) {
    ops_.rms_norm(q + row * n_qkv, q_norm, n_q, shape_.norm_eps, q + row * n_qkv);
    ops_.rms_norm(k + row * n_qkv, k_norm, n_kv, shape_.norm_eps, k + row * n_qkv);
  });
}

void ForwardPass::Rotate(const RopeShape& rope_shape, const float* cos_sin) {
  const int64_t d = shape_.head_dim;
  const auto rotate = rope_shape.layout == RopeLayout::kInterleaved ? ops_.rope_interleaved : ops_.rope_halves;
  const int32_t n_rotated = shape_.n_heads + shape_.n_kv_heads;  // q and k lie side by side
  const int32_t n_dims = rope_shape.n_dims;
  ByRow([=, this](int64_t row) {
    for (int32_t i = 0; i < n_rotated; ++i) rotate(q + row * n_qkv + i * d, cos_sin + row * d, n_dims);
  });
}

void ForwardPass::StoreKv(int32_t layer) {
  FlushRowSteps();
  if (run_.parts.size() == 1) return StoreKv(run_.parts.front(), layer, m > 1 || n_kv >= kManyKeyLines);
  ForEach(static_cast<int64_t>(run_.parts.size()), true,
          [&](int64_t i) { StoreKv(run_.parts[static_cast<size_t>(i)], layer, false); });
}

void ForwardPass::StoreKv(const RunPart& part, int32_t layer, bool in_parallel) {
  const KvLayerView& kv = part.kv[static_cast<size_t>(layer)];
  const int64_t d = shape_.head_dim, begin = part.first_position, end = begin + part.n_rows;
  // Positions of a pack share cache lines, so a pack is one thread's.
  const int64_t first_pack = begin / kKvPack, n_packs = (end - 1) / kKvPack + 1 - first_pack;
  ForEach(shape_.n_kv_heads * n_packs, in_parallel, [&](int64_t item) {
    const auto head = static_cast<int32_t>(item / n_packs);
    const int64_t pack = (first_pack + item % n_packs) * kKvPack;
    for (int64_t position = std::max(begin, pack); position < std::min(end, pack + kKvPack); ++position) {
      const int64_t at = (part.first_row + position - begin) * n_qkv + head * d;
      attention_.store(kv, head, position, k + at, v + at);
    }
  });
}

void ForwardPass::Attend(int32_t layer, int64_t window, const float* sinks) {
  FlushRowSteps();
  if (!status_.ok()) return;
  const auto timeline = [&](int64_t i) -> AttentionTimeline {
    const RunPart& part = run_.parts[static_cast<size_t>(i)];
    return {&part.kv[static_cast<size_t>(layer)],
            {.q = q + part.first_row * n_qkv,
             .q_stride = n_qkv,
             .n_rows = part.n_rows,
             .n_heads = shape_.n_heads,
             .position = part.first_position,
             .window = window,
             .scale = shape_.attn_scale,
             .softcap = shape_.attn_softcap,
             .sinks = sinks,
             .out = attn + part.first_row * n_q,
             .out_stride = n_q}};
  };
  pantry::Attend(pool_, attention_, static_cast<int64_t>(run_.parts.size()),
                 FunctionRef<AttentionTimeline(int64_t)>(timeline), attention_scratch_);
}

GatedActivation ForwardPass::shape_activation() const {
  switch (shape_.activation) {
    case GluActivation::kSilu: return ops_.silu_mul;
    case GluActivation::kRelu: return ops_.relu_mul;
    case GluActivation::kDrelu: return ops_.drelu_mul;
    case GluActivation::kRelu2: return ops_.relu2_mul;
  }
  return nullptr;
}

void ForwardPass::FeedForward(const GluWeights& weights, const float* in, float* out) {
  if (weights.neurons.layout) return FeedForwardByNeuron(weights, in, out);
  const NeuronPredictor* const predictor = PredictorOf(weights.layer, 0);
  Project(in, {{weights.gate, gate}, {weights.up, up}}, 2 * n_ff);
  if (run_.neurons != nullptr && status_.ok()) {
    run_.neurons->Gated(weights.layer, m, n_ff, gate, up, 2 * n_ff);
    for (int64_t row = 0; row < m; ++row) {
      run_.neurons->Fed(weights.layer, 0, {in + row * shape_.n_embd, static_cast<size_t>(shape_.n_embd)},
                        {gate + row * 2 * n_ff, static_cast<size_t>(n_ff)});
    }
  }
  if (predictor != nullptr) KeepPredicted(*predictor, in);
  ByRow([this, activate = shape_activation()](int64_t row) {
    activate(gate + row * 2 * n_ff, up + row * 2 * n_ff, n_ff, ff + row * n_ff);
  });
  if (!run_.firing.empty()) KeepFiring(weights);
  Project(ff, {{weights.down, out}}, shape_.n_embd);
}

const NeuronPredictor* ForwardPass::PredictorOf(int32_t layer, int32_t expert) const {
  const PredictorRun* const prediction = run_.prediction;
  if (prediction == nullptr || layer < 0 || (m > 1 && !prediction->all_rows)) return nullptr;
  return prediction->Of(layer, expert);
}

void ForwardPass::KeepPredicted(const NeuronPredictor& predictor, const float* in) {
  ByRow([this, &predictor, in](int64_t row) {
    PredictorRun& prediction = *run_.prediction;
    float* const reduced = prediction.reduced + row * prediction.most_rank;
    predictor.Reduce({.n_rows = 1, .n_cols = shape_.n_embd, .f32 = in + row * shape_.n_embd}, reduced);
    for (int64_t begin = 0; begin < n_ff; begin += NeuronPredictor::kMostAtOnce) {
      const int64_t n = std::min(NeuronPredictor::kMostAtOnce, n_ff - begin);
      prediction.Count(n, predictor.Mask(reduced, begin, n, gate + row * 2 * n_ff + begin));
    }
  });
}

FiringGates ForwardPass::FiringOf(const GluWeights& weights) const {
  if (shape_.gates_by_relu()) return FiringGates::Positive();
  return run_.firing.empty() ? FiringGates::OfSilu(0) : run_.firing[static_cast<size_t>(weights.layer)];
}

void ForwardPass::KeepFiring(const GluWeights& weights) {
  ByRow([this, firing = FiringOf(weights)](int64_t row) {
    const float* const of_gate = gate + row * 2 * n_ff;
    float* const kept = ff + row * n_ff;
    int64_t n_firing = 0;
    for (int64_t i = 0; i < n_ff; ++i) {
      const bool fires = firing.Contain(of_gate[i]);
      n_firing += fires ? 1 : 0;
      kept[i] = fires ? kept[i] : 0.0f;
    }
    if (run_.n_firing != nullptr) run_.n_firing->fetch_add(n_firing, std::memory_order_relaxed);
  });
}

void ForwardPass::SiluMul(int64_t width) {
  ByRow([=, this](int64_t row) {
    const float* const both = gate_up + row * 2 * width;
    ops_.silu_mul(both, both + width, width, ff + row * width);
  });
}

void ForwardPass::GeluMul() {
  const int64_t n = n_ff;
  ByRow([=, this](int64_t row) { ops_.gelu_mul(gate + row * 2 * n, up + row * 2 * n, n, ff + row * n); });
}

void ForwardPass::Logits(const float* norm, const WeightMatrix& output, const float* norm_bias,
                         const float* output_bias) {
  FlushRowSteps();
  const int64_t n = shape_.n_embd;
  const auto n_rows = static_cast<int64_t>(run_.logit_rows.size());
  if (n_rows == 0 || !status_.ok()) return;
  ForEach(n_rows, n_rows > 1, [&](int64_t i) {
    const int64_t row = run_.logit_rows[static_cast<size_t>(i)];
    if (norm_bias == nullptr) ops_.rms_norm(x + row * n, norm, n, shape_.norm_eps, h + i * n);
    else ops_.layer_norm(x + row * n, norm, norm_bias, n, shape_.norm_eps, h + i * n);
  });
  const MatMulTask task = {&output, run_.logits.data(), shape_.n_vocab};
  MatMul(pool_, {&task, 1}, ActivationRows::InScratch(h, n_rows, n, quantized_));
  const int64_t n_vocab = shape_.n_vocab;
  if (output_bias != nullptr) {
    ForEach(n_rows, n_rows > 1, [&](int64_t i) { ops_.add(run_.logits.data() + i * n_vocab, output_bias, n_vocab); });
  }
  if (shape_.final_softcap == 0) return;
  const int64_t n_pieces =
      (n_vocab + kSoftcapPiece - 1) / kSoftcapPiece;  // of a row: where a piece begins must not depend on the batch
  ForEach(n_rows * n_pieces, n_rows * n_pieces > 1, [&](int64_t i) {
    const int64_t first = i % n_pieces * kSoftcapPiece;
    ops_.softcap(run_.logits.data() + i / n_pieces * n_vocab + first, std::min(kSoftcapPiece, n_vocab - first),
                 shape_.final_softcap);
  });
}

}  // namespace pantry
