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

#include "compute/kernels/vector_ops/vector_ops.h"
#include "compute/matmul.h"
#include "models/model.h"
#include "models/rope.h"
#include "sys/aligned_buffer.h"

namespace pantry {

// The buffers of a forward pass, for up to max_tokens rows, in one allocation.
class ForwardBuffers final : public Workspace {
 public:
  static Result<std::unique_ptr<ForwardBuffers>> Allocate(const Model& owner, int64_t max_tokens);
  static int64_t BytesFor(const ModelShape& shape, int64_t max_tokens);
  int64_t max_tokens() const override { return max_tokens_; }
  const Model* owner() const { return owner_; }

 private:
  friend class ForwardPass;
  const Model* owner_ = nullptr;
  int64_t max_tokens_ = 0;
  AlignedBuffer memory_;
};

class ForwardPass {
 public:
  // REQUIRES: run and workspace are checked (DenseModel::CheckRun).
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
  float* gate_up;     // [m, 2 n_ff]
  float *gate, *up;   // its parts, in row 0
  float* ff;          // [m, n_ff]
  float* rope;        // [m, head_dim]      cos_sin of each row's position
  float* rope_local;  // [m, head_dim]

  // x = embedding rows of the run's tokens, times shape.embedding_scale.
  void Embed(const WeightMatrix& embedding);
  // cos_sin = the table's rows for the run's positions.
  void PrepareRope(const RopeTable& table, float* cos_sin);

  // One matrix of a Project() and where its output columns begin.
  struct Output {
    const WeightMatrix& weights;
    float* y;  // in row 0
  };
  // Each output's row r = weights * (row r of in). in: [m, weights.cols]; `y_stride` is the length of an output row.
  void Project(const float* in, std::initializer_list<Output> outputs, int64_t y_stride);
  // out = norm(in) * weight, by row of n_embd. out may be in.
  void RmsNorm(const float* in, const float* weight, float* out);
  // to += delta, [m, n_embd] each.
  void Add(float* to, const float* delta);
  // Adds a bias row to each row's `n` columns from y on. Null: nothing.
  void AddBias(float* y, const float* bias, int64_t n, int64_t y_stride);

  // qkv's heads: q = norm(q) * q_norm, k = norm(k) * k_norm, by head; weights [head_dim].
  void NormHeads(const float* q_norm, const float* k_norm);
  // Rotates q and k of each row by the row's cos_sin.
  void Rotate(const RopeShape& rope_shape, const float* cos_sin);
  // Writes k and v of each row to the layer's cache.
  void StoreKv(int32_t layer);
  // attn = attention of each row's q over the layer's cache. `window` positions; 0: all.
  void Attend(int32_t layer, int64_t window);

  void SiluMul();  // ff = silu(gate) * up
  void GeluMul();  // ff = gelu(gate) * up

  // logits = output * norm(x) of the wanted rows, soft-capped where the shape says so.
  void Logits(const float* norm, const WeightMatrix& output);

 private:
  // A step that waits for its rows: a small lambda without a destructor.
  struct RowStep {
    alignas(8) unsigned char body[64];
    void (*run)(const void* body, int64_t row);
  };
  static constexpr int kMaxRowSteps = 8;

  // Writes down body(row), which must hold what it needs by value.
  template <typename Body>
  void ByRow(Body body);
  void RunRowSteps(int64_t row) const;
  void FlushRowSteps();
  template <typename Body>
  void ForEach(int64_t n_items, bool in_parallel, const Body& body);

  const ModelShape& shape_;
  const ForwardRun& run_;
  ThreadPool& pool_;
  const VectorOps& ops_;
  const AttentionOps& attention_;
  float* attention_scratch_;
  uint8_t* quantized_;  // scratch of ActivationRows
  RowStep row_steps_[kMaxRowSteps];
  int n_row_steps_ = 0;
};

}  // namespace pantry
