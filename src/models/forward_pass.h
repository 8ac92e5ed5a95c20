// SPDX-License-Identifier: Apache-2.0
// A ForwardPass is one run of tokens on its way through a model: the buffers it lies in and the steps that take it further.
//
// A step does one thing to all rows (tokens) and names nothing of an architecture; a forward pass in llama.cc and its siblings is a
// sequence of steps. No step lets one row influence another, except Attend(), which reads the KV cache up to the row's own position.
// So a step that works row by row is only written down when it is called; the next step that needs whole matrices (Project, Attend,
// Logits) runs all that are waiting, row after row, while a row is in the L1 cache, and quantises it in the same loop: one parallel
// loop instead of up to four. A single row runs on the caller's thread, since waking another costs more than its steps do.
// Threads: one thread makes the calls; the pool helps inside.
// Layout: m rows; a row of `qkv` is [q: n_heads * head_dim | k: n_kv_heads * head_dim | v: same], of `gate_up` [gate: n_ff | up: n_ff].
#pragma once

#include <cstdint>
#include <initializer_list>
#include <new>
#include <type_traits>

#include "compute/kernels/vector_ops/vector_ops.h"
#include "compute/matmul.h"
#include "compute/neuron_matmul.h"
#include "models/forward_buffers.h"
#include "models/layer_weights.h"
#include "models/model.h"
#include "models/rope.h"
#include "models/weight_loader.h"
#include "models/weight_source.h"

namespace pantry {

class ForwardPass {
 public:
  // REQUIRES: run and workspace are checked (TransformerModel::CheckRun).
  ForwardPass(const ModelShape& shape, Isa isa, const ForwardRun& run, ThreadPool& pool, Workspace& workspace);

  int64_t m;          // rows: tokens of the run
  int64_t n_q;        // n_heads * head_dim
  int64_t n_kv;       // n_kv_heads * head_dim
  int64_t n_qkv;      // n_q + 2 n_kv
  float* x;           // [m, n_embd]        the residual stream
  float* h;           // [m, n_embd]        input or output of a block
  float* qkv;         // [m, n_qkv]
  float *q, *k, *v;   // its parts, in row 0
  float* attn;        // [m, n_q]           what attention gathered
  int64_t n_ff;       // of what every token passes: of the dense layers, or of the shared expert if that is larger
  float* gate_up;     // [m, 2 n_ff]
  float *gate, *up;   // its parts, in row 0
  float* ff;          // [m, n_ff]
  float* shared;      // [m, n_embd]        what it says besides experts
  float* rope;        // [m, head_dim]      cos_sin of each row's position
  float* rope_local;  // [m, head_dim]

  // Where there are experts: what each row chose. A row's k-th choice is its slot k, a (row, slot) a *pick*.
  int64_t n_slots;       // experts that a row uses
  float* router_logits;  // [m, n_experts]
  int32_t* chosen;       // [m, n_slots]
  float* mix;            // [m, n_slots]  weights of the chosen ones' results

  // x = embedding rows of the run's tokens, times shape.embedding_scale. An error is the source's.
  Status Embed(const WeightMatrix& embedding);
  // cos_sin = the table's rows for the run's positions.
  void PrepareRope(const RopeTable& table, float* cos_sin) { PrepareRope(table, table, cos_sin); }
  // The same where a timeline whose cache holds more than the model's original context has a table of its own.
  void PrepareRope(const RopeTable& table, const RopeTable& of_long, float* cos_sin);

  // Whether the source of the layers' matrices has given all of them so far.
  const Status& status() const { return status_; }

  // One matrix of a Project() and where its output columns begin.
  struct Output {
    const WeightMatrix& weights;
    float* y;  // in row 0
  };
  // Each output's row r = weights * (row r of in). in: [m, weights.cols]; `y_stride` is the length of an output row. Where the matrices
  // come from a source and it fails, status() says so, and whatever is computed after that means nothing.
  void Project(const float* in, std::initializer_list<Output> outputs, int64_t y_stride);
  // out = norm(in) * weight, by row of n_embd. out may be in.
  void RmsNorm(const float* in, const float* weight, float* out);
  // The same with LayerNorm, which takes the mean off and adds a bias.
  void LayerNorm(const float* in, const float* weight, const float* bias, float* out);
  // to += delta, [m, n_embd] each.
  void Add(float* to, const float* delta);
  // Adds a bias row to each row's `n` columns from y on. Null: nothing.
  void AddBias(float* y, const float* bias, int64_t n, int64_t y_stride);
  // The same to q, k and v.
  void AddQkvBias(const float* q_bias, const float* k_bias, const float* v_bias);

  // qkv's heads: q = norm(q) * q_norm, k = norm(k) * k_norm, by head; weights [head_dim].
  void NormHeads(const float* q_norm, const float* k_norm);
  // The same for all heads together; q_norm [n_q], k_norm [n_kv].
  void NormWholeQk(const float* q_norm, const float* k_norm);
  // Rotates q and k of each row by the row's cos_sin.
  void Rotate(const RopeShape& rope_shape, const float* cos_sin);
  // Writes k and v of each row to the layer's cache of its timeline.
  void StoreKv(int32_t layer);
  // attn = attention of each row's q over that cache. `window` positions; 0: all. `sinks` [n_heads] as AttentionQuery's.
  void Attend(int32_t layer, int64_t window, const float* sinks = nullptr);

  // out = down * (the shape's activation of gate * in and up * in), [m, n_embd] each; through gate_up and ff. out may be in. Of neurons
  // that lie one by one only those that fire are computed (neuron_step.cc).
  void FeedForward(const GluWeights& weights, const float* in, float* out);
  GatedActivation shape_activation() const;  // the shape's
  void SiluMul() { SiluMul(n_ff); }          // ff = silu(gate) * up
  void SiluMul(int64_t width);               // the same for gate_up [m, 2 width] and ff [m, width]
  void GeluMul();                            // ff = gelu(gate) * up

  // Latent attention (latent_step.cc). k and v from the latents behind the raw queries in attn, q's rotated part from these.
  void SplitLatents(const float* latent_norm);
  // A piece of each head in a row: head i of row r at first + r * row_stride + i * head_stride.
  struct HeadPieces {
    float* first;
    int64_t head_stride, row_stride;
  };
  // out's piece of head i = matrices.At(i) * in's piece of head i. `gathered`: scratch [m, cols].
  void ProjectHeads(const WeightStack& matrices, HeadPieces in, HeadPieces out, float* gathered);

  // Experts, in three steps (expert_step.cc). Route: chosen and mix from router * (row of in), [m, n_embd]. Compute: the chosen experts'
  // results for in, wherever their blocks come from. Mix: out = the sum of a row's results times their weights, in the order of slots.
  void RouteExperts(int32_t layer, const float* in, const WeightMatrix& router, const float* router_bias = nullptr);
  // Expect: where they come from a source, it begins to fetch what Route chose. For models that choose long before they compute.
  void ExpectExperts(int32_t layer);
  // Guess: what a later layer will choose if x stays as it is by then, for up to kGuessRows rows: its router on norm(x) * norm (null: on x).
  void GuessExperts(int32_t layer, const float* norm, const WeightMatrix& router, const float* norm_bias = nullptr,
                    const float* router_bias = nullptr);
  Status ComputeExperts(int32_t layer, const ExpertLayer& experts, const float* in, GatedActivation activation);
  void MixExperts(float* out);
  // y's row *= sigmoid(in's row . weight), [n_embd] each: the gate of a shared expert.
  void Switch(float* y, const float* in, const float* weight);
  const VectorOps& ops() const { return ops_; }

  // logits = output * norm(x) of the wanted rows, soft-capped where the shape says so. With a norm_bias the norm is a LayerNorm.
  void Logits(const float* norm, const WeightMatrix& output, const float* norm_bias = nullptr,
              const float* output_bias = nullptr);

 private:
  // A step that waits for its rows: a small lambda without a destructor.
  struct RowStep {
    alignas(8) unsigned char body[64];
    void (*run)(const void* body, int64_t row);
  };
  static constexpr int kMaxRowSteps = 8;

  // The timeline that a row belongs to.
  const RunPart& PartOf(int64_t row) const;
  void StoreKv(const RunPart& part, int32_t layer, bool in_parallel);

  // Writes down body(row), which must hold what it needs by value.
  template <typename Body>
  void ByRow(Body body);
  FiringGates FiringOf(const GluWeights& weights) const;  // of a dense layer
  // Null where this run does not predict what fires there.
  const NeuronPredictor* PredictorOf(int32_t layer, int32_t expert) const;
  void KeepPredicted(const NeuronPredictor& predictor,
                     const float* in);  // gates of neurons that are not predicted become zero
  void ObserveExperts(int32_t layer, const ExpertRun& run, std::span<const ExpertTask> tasks);
  void KeepFiring(const GluWeights& weights);  // ff's neurons that rest become zero
  std::span<const float> RouterLogits() const { return {router_logits, static_cast<size_t>(m * shape_.n_experts)}; }
  std::span<int32_t> Chosen() const { return {chosen, static_cast<size_t>(m * n_slots)}; }
  std::span<ExpertTask> GroupPicks();
  // Of neurons that lie one by one (neuron_step.cc), all in memory or from a source.
  void FeedForwardByNeuron(const GluWeights& weights, const float* in, float* out);
  void ComputeInMemory(const GluWeights& weights, const NeuronRun& run);
  Status ComputeFromSource(const GluWeights& weights, const NeuronRun& run);
  void ObserveNeurons(const GluWeights& weights, const NeuronRun& run);
  struct SourcedNetwork {
    int32_t number;     // in the layer
    WeightMatrix gate;  // in memory
    NeuronRun run;
  };
  size_t WantFiring(const SourcedNetwork& network, const FiringGates& fires, NeuronPrior* prior, int32_t* list,
                    uint16_t* n_uses);
  void ActivateNear(const SourcedNetwork& network, std::span<const int32_t> firing, uint16_t* is_activated);
  Status ComputeFiring(const SourcedNetwork& network, std::span<const int32_t> firing, uint16_t* is_activated);
  ActivationRows RowsOf(const ExpertTask& task, const ActivationRows& in) const;
  Status ComputeExpertNeurons(int32_t layer, const ExpertLayer& experts, const ActivationRows& in,
                              GatedActivation activation, std::span<const ExpertTask> tasks);
  Status ComputeExpertsFromSource(int32_t layer, const ExpertLayer& experts, const ActivationRows& x,
                                  GatedActivation activation, std::span<ExpertTask> tasks);
  void RunRowSteps(int64_t row) const;
  void FlushRowSteps();
  template <typename Body>
  void ForEach(int64_t n_items, bool in_parallel, const Body& body);

  void ProjectFromSource(std::span<const MatMulTask> tasks, const ActivationRows& rows, RowTask prepare);

  Status status_;
  const ModelShape& shape_;
  const ForwardRun& run_;
  ThreadPool& pool_;
  const VectorOps& ops_;
  const AttentionOps& attention_;
  float* attention_scratch_;
  uint8_t* quantized_;  // scratch of ActivationRows
  // Picks side by side by expert, in ascending order, an expert's by row.
  int32_t* pick_row_;  // [picks]
  int32_t* pick_at_;   // [m, n_slots]  where a row's picks are
  float* routing_;     // [m, n_experts] scratch
  float* guess_;       // [min(m, kGuessRows), n_embd + n_experts + 2 n_slots] scratch of GuessExperts()
  ExpertTask* tasks_;  // [n_experts]
  float* expert_ff_;   // [picks, ExpertRun::ScratchFloats(n_ff_expert)]
  float* partials_;    // [picks, ExpertRun::ScratchFloats(n_embd)]
  // Of neurons that lie one by one; n_ff: of a network, and networks: 1, or a layer's experts, whose neurons come from a source.
  const uint8_t** columns_;  // [n_ff] scratch
  int32_t* near_;            // [n_ff] scratch
  int32_t* firing_;          // [networks, n_ff] those that fire
  uint16_t* n_rows_firing_;  // [networks, n_ff] and in how many rows
  int32_t* n_firing_of_;     // [n_experts]
  uint8_t* hidden_;          // [m, n_ff] of experts, in the form that down reads
  uint8_t* gathered_;        // [picks, n_embd] in the form that gate and up read
  RowStep row_steps_[kMaxRowSteps];
  int n_row_steps_ = 0;
};

template <typename Body>
void ForwardPass::ByRow(Body body) {
  static_assert(sizeof(Body) <= sizeof(RowStep::body) && alignof(Body) <= 8 && std::is_trivially_copyable_v<Body>);
  if (n_row_steps_ == kMaxRowSteps) FlushRowSteps();
  RowStep& step = row_steps_[n_row_steps_++];
  new (step.body) Body(body);
  step.run = [](const void* at, int64_t row) { (*static_cast<const Body*>(at))(row); };
}

}  // namespace pantry
