// SPDX-License-Identifier: Apache-2.0
// ForwardBuffers is the scratch memory of forward passes: one allocation, cut for each pass into the parts that it works in.
//
// A pass of few rows takes the beginning of it only, so that memory is committed as rows need it, and what a long prompt took can be given
// back while an answer is written.
// The planner asks BytesFor() before anything is loaded, so sizes follow from the shape alone; forms of activations that a model's kernels
// do not use share memory with those that they do.
// Threads: one pass at a time.
#pragma once

#include <cstdint>
#include <memory>

#include "compute/expert_matmul.h"
#include "models/model.h"
#include "sys/aligned_buffer.h"

namespace pantry {

// Width of what every token passes: of dense layers or of a shared expert, whichever is wider.
inline int64_t WidestFf(const ModelShape& shape) {
  return shape.n_ff > shape.n_ff_shared ? shape.n_ff : shape.n_ff_shared;
}

// Rows of a run whose next layer's experts are guessed: those of several sequences, more want most of a layer anyway.
inline constexpr int64_t kGuessRows = 4;

// What the parts are for: forward_pass.h.
struct ForwardParts {
  float *x, *h, *qkv, *attn, *gate_up, *ff, *rope, *rope_local, *attention_scratch;
  uint8_t* quantized;
  float *shared, *router_logits, *routing, *guess, *mix, *expert_ff, *partials;
  int32_t *chosen, *pick_row, *pick_at;
  const uint8_t** columns;
  int32_t *firing, *near;
  uint16_t* n_firing;
  int32_t* n_firing_of;
  uint8_t *hidden, *gathered;
  ExpertTask* tasks;
};

class ForwardBuffers final : public Workspace {
 public:
  static Result<std::unique_ptr<ForwardBuffers>> Allocate(const Model& owner, int64_t max_tokens);
  static int64_t BytesFor(const ModelShape& shape, int64_t max_tokens);
  int64_t max_tokens() const override { return max_tokens_; }
  const Model* owner() const { return owner_; }
  ForwardParts PartsFor(int64_t n_tokens) const;  // REQUIRES: at most max_tokens()
  void Trim(int64_t n_tokens) override;

 private:
  const Model* owner_ = nullptr;
  int64_t max_tokens_ = 0;
  mutable AlignedBuffer memory_;  // scratch: a pass writes to it
};

}  // namespace pantry
