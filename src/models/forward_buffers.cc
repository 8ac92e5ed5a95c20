// SPDX-License-Identifier: Apache-2.0
#include "models/forward_buffers.h"

#include <algorithm>
#include <utility>

#include "base/units.h"
#include "compute/activations.h"
#include "compute/kernels/attention/parallel_attention.h"

namespace pantry {
namespace {

// Hands out the parts of a workspace, 64-byte aligned; with a null base it only counts.
class Carver {
 public:
  explicit Carver(uint8_t* base) : base_(base) {}
  uint8_t* Take(int64_t n_bytes) {
    uint8_t* part = base_ == nullptr ? nullptr : base_ + used_;
    used_ += AlignUp(n_bytes, 64);
    return part;
  }
  template <typename T>
  T* Array(int64_t n) {
    return reinterpret_cast<T*>(Take(n * static_cast<int64_t>(sizeof(T))));
  }
  float* Floats(int64_t n) { return Array<float>(n); }
  int64_t used() const { return used_; }

 private:
  uint8_t* base_;
  int64_t used_ = 0;
};

ForwardParts Carve(Carver& carver, const ModelShape& shape, int64_t m) {
  const int64_t n_q = int64_t{shape.n_heads} * shape.head_dim;
  const int64_t n_kv = int64_t{shape.n_kv_heads} * shape.head_dim;
  const int64_t n_ff = WidestFf(shape), n_picks = m * shape.n_experts_used;
  const int64_t widest = std::max({int64_t{shape.n_embd}, n_q, n_ff});
  ForwardParts parts;
  parts.x = carver.Floats(m * shape.n_embd);
  parts.h = carver.Floats(m * shape.n_embd);
  parts.qkv = carver.Floats(m * (n_q + 2 * n_kv));
  parts.attn = carver.Floats(m * n_q);
  parts.gate_up = carver.Floats(m * 2 * n_ff);
  parts.ff = carver.Floats(std::max(m * n_ff, int64_t{64}));  // also for codes of few neurons
  parts.rope = carver.Floats(m * shape.head_dim);
  parts.rope_local = carver.Floats(m * shape.head_dim);
  parts.attention_scratch = carver.Floats(AttentionScratchFloats(shape.n_heads, shape.head_dim));
  parts.quantized = carver.Take(ActivationRows::ScratchBytes(m, AlignUp(widest, kActivationBlock)));
  parts.shared = carver.Floats(shape.has_experts() && n_ff > 0 ? m * shape.n_embd : 0);
  parts.router_logits = carver.Floats(m * shape.n_experts);
  parts.routing = carver.Floats(m * shape.n_experts);
  const int64_t of_guess = shape.n_embd + shape.n_experts + 2 * shape.n_experts_used;
  parts.guess = carver.Floats(shape.has_experts() ? std::min(m, kGuessRows) * of_guess : 0);
  parts.mix = carver.Floats(n_picks);
  parts.chosen = carver.Array<int32_t>(n_picks);
  parts.pick_row = carver.Array<int32_t>(n_picks);
  parts.pick_at = carver.Array<int32_t>(n_picks);
  parts.tasks = carver.Array<ExpertTask>(shape.n_experts);
  parts.expert_ff = carver.Floats(n_picks * ExpertRun::ScratchFloats(shape.n_ff_expert));
  parts.partials = carver.Floats(n_picks * ExpertRun::ScratchFloats(shape.n_embd));
  // Of neurons that lie one by one: dense ones where they rest, and experts' that come from a source.
  const bool has_neurons = !shape.has_experts() || (shape.gates_by_relu() && shape.reads_expert_neurons);
  const int64_t n_neurons = has_neurons ? shape.n_neurons() : 0;
  const int64_t n_of_experts = has_neurons ? shape.n_experts : 0;
  const int64_t n_of_layer = shape.gates_by_relu() ? n_neurons * std::max<int64_t>(n_of_experts, 1) : 0;
  parts.columns = carver.Array<const uint8_t*>(n_neurons);
  parts.firing = carver.Array<int32_t>(n_of_layer);
  parts.near = carver.Array<int32_t>(shape.gates_by_relu() ? n_neurons : 0);
  parts.n_firing = carver.Array<uint16_t>(n_of_layer);
  parts.n_firing_of = carver.Array<int32_t>(n_of_experts);
  const auto of_experts = [&](int64_t n_rows, int64_t n_cols) {
    const int64_t n_bytes = ActivationRows::ScratchBytes(n_rows, AlignUp(n_cols, kActivationBlock));
    return carver.Take(n_of_experts > 0 ? n_bytes : 0);
  };
  parts.hidden = of_experts(m, n_neurons);
  parts.gathered = of_experts(n_picks, shape.n_embd);
  return parts;
}

}  // namespace

int64_t ForwardBuffers::BytesFor(const ModelShape& shape, int64_t max_tokens) {
  Carver carver(nullptr);
  Carve(carver, shape, max_tokens);
  return carver.used();
}

Result<std::unique_ptr<ForwardBuffers>> ForwardBuffers::Allocate(const Model& owner, int64_t max_tokens) {
  const int64_t n_bytes = BytesFor(owner.shape(), max_tokens);
  Result<AlignedBuffer> memory = AlignedBuffer::Allocate(static_cast<size_t>(n_bytes));
  if (!memory.ok()) {
    return memory.status().WithContext(
        fmt::format("{} of scratch for batches of {} tokens", FormatBytes(n_bytes), max_tokens));
  }
  auto buffers = std::make_unique<ForwardBuffers>();
  buffers->owner_ = &owner;
  buffers->max_tokens_ = max_tokens;
  buffers->memory_ = std::move(memory).value();
  return buffers;
}

ForwardParts ForwardBuffers::PartsFor(int64_t n_tokens) const {
  Carver carver(memory_.data());
  return Carve(carver, owner_->shape(), n_tokens);
}

void ForwardBuffers::Trim(int64_t n_tokens) {
  const size_t page = AlignedBuffer::PageBytes();
  const auto begin = static_cast<size_t>(AlignUp(BytesFor(owner_->shape(), n_tokens), static_cast<int64_t>(page)));
  const size_t end = memory_.size() / page * page;
  if (begin < end) memory_.GiveBack(begin, end - begin);
}

int64_t ForwardWorkspaceBytes(const ModelShape& shape, int64_t max_tokens) {
  return ForwardBuffers::BytesFor(shape, max_tokens);
}

}  // namespace pantry
