// SPDX-License-Identifier: Apache-2.0
#include "sim/sim_router.h"

#include <algorithm>

namespace pantry {
namespace {

Status CheckLogits(const ExpertPolicyOptions& options, const SimModel& model, const RoutingTrace& trace) {
  const std::string policy = ExpertPolicyText(options.policy);
  int32_t n_tokens = 1;  // of the step
  for (size_t i = 0; i < trace.events.size(); ++i) {
    const RoutingTrace::Event& event = trace.events[i];
    if (event.layer >= model.n_layers()) {
      return InvalidArgumentError("the trace's event {} is of layer {}, model '{}' has {}", i, event.layer, model.name,
                                  model.n_layers());
    }
    if (i == 0 || event.begins_step) n_tokens = event.n_tokens;
    if (n_tokens > 1) {
      if (!options.in_prompts) continue;
      return InvalidArgumentError(
          "--expert-policy-prompts: the trace's event {} is of {} tokens that were computed at once, whose routers' "
          "logits are not recorded; record prompts token by token: pantry run --ubatch-size 1 --routing-trace FILE",
          i, n_tokens);
    }
    const size_t n_logits = trace.logits_of(i).size();
    if (n_logits == static_cast<size_t>(model.n_experts)) continue;
    if (n_logits > 0) {
      return InvalidArgumentError("the trace has {} logits of a layer, model '{}' has {} experts", n_logits, model.name,
                                  model.n_experts);
    }
    return InvalidArgumentError(
        "--expert-policy {}: the trace's event {} (layer {}) has no logits of its router to choose by; record them: "
        "pantry run -m MODEL -p TEXT --routing-trace FILE",
        policy, i, event.layer);
  }
  return OkStatus();
}

}  // namespace

SimRouter::SimRouter(const SimModel& model, const RoutingTrace& trace, const SimStream& stream)
    : trace_(trace),
      stream_(stream),
      n_experts_(static_cast<uint32_t>(model.n_experts)),
      chosen_(static_cast<size_t>(model.n_used)) {}

Result<std::unique_ptr<SimRouter>> SimRouter::Create(const ExpertPolicyOptions& options, const SimModel& model,
                                                     const RoutingTrace& trace, const SimStream& stream) {
  PANTRY_RETURN_IF_ERROR(CheckLogits(options, model, trace));
  auto router = std::unique_ptr<SimRouter>(new SimRouter(model, trace, stream));
  const CacheAwareRouterOptions chooser = {.policy = options.policy,
                                           .first_layer = 0,
                                           .n_layers = model.n_layers(),
                                           .n_experts = model.n_experts,
                                           .n_used = model.n_used,
                                           .n_spared_layers = options.n_spared_layers,
                                           .in_prompts = options.in_prompts};
  PANTRY_ASSIGN_OR_RETURN(router->chooser_, CacheAwareRouter::Create(chooser, *router));
  return router;
}

void SimRouter::Look(int32_t layer, std::span<uint8_t> is_near) const {
  stream_.cache().Look(BlockId(static_cast<uint32_t>(layer) * n_experts_), is_near);
}

// Blocks of chosen_, as the engine demands them.
void SimRouter::SetBlocks(int32_t layer, std::vector<BlockId>& blocks) const {
  blocks.clear();
  for (const int32_t expert : chosen_) {
    if (expert == ExpertChooser::kNone) break;
    blocks.emplace_back(static_cast<uint32_t>(layer) * n_experts_ + static_cast<uint32_t>(expert));
  }
  std::sort(blocks.begin(), blocks.end());
}

std::span<const BlockId> SimRouter::Choose(size_t event) {
  const int32_t layer = trace_.events[event].layer;
  chooser_->Choose(layer, 1, trace_.logits_of(event), chosen_);
  SetBlocks(layer, wanted_);
  return wanted_;
}

std::span<const BlockId> SimRouter::Guess(size_t event) {
  const int32_t layer = trace_.events[event].layer;
  chooser_->Guess(layer, trace_.logits_of(event), chosen_);
  SetBlocks(layer, guessed_);
  return guessed_;
}

void SimRouter::EndRun(int64_t n_tokens, double us) {
  if (us > 0) chooser_->EndRun(n_tokens, static_cast<double>(stream_.wait_us() - wait_us_) / us);
}

}  // namespace pantry
