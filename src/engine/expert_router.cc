// SPDX-License-Identifier: Apache-2.0
#include "engine/expert_router.h"

namespace pantry {

Status ExpertPolicyOptions::Validate() const {
  if (n_spared_layers < 0) {
    return InvalidArgumentError("--expert-policy-skip {}: expected a number of layers, 0 or more", n_spared_layers);
  }
  if (policy.top_j < 0)
    return InvalidArgumentError("--expert-policy-top {}: expected 0 (by the model) or more", policy.top_j);
  return OkStatus();
}

Result<std::unique_ptr<ExpertRouter>> ExpertRouter::Create(const ExpertPolicyOptions& options, const ModelShape& shape,
                                                           const WeightStream& stream) {
  auto router = std::unique_ptr<ExpertRouter>(new ExpertRouter(stream));
  const CacheAwareRouterOptions chooser = {.policy = options.policy,
                                           .first_layer = stream.placer().first_layer(),
                                           .n_layers = stream.placer().n_layers(),
                                           .n_experts = shape.n_experts,
                                           .n_used = shape.n_experts_used,
                                           .n_spared_layers = options.n_spared_layers,
                                           .in_prompts = options.in_prompts};
  PANTRY_ASSIGN_OR_RETURN(router->chooser_, CacheAwareRouter::Create(chooser, *router));
  if (options.policy.kind == ExpertPolicyKind::kAuto) {
    PriorControllerOptions controller;
    controller.max_cost = options.policy.value;
    router->controller_.emplace(controller);
  }
  return router;
}

void ExpertRouter::Look(int32_t layer, std::span<uint8_t> is_near) const { stream_.Look(layer, is_near); }

void ExpertRouter::EndRun(int64_t n_tokens, int64_t us) {
  if (!controller_ || n_tokens > 1 || us <= 0) return;
  const double wait_share = static_cast<double>(stream_.wait_us() - wait_us_) / static_cast<double>(us);
  chooser_->SetStrength(controller_->Next(wait_share, chooser_->counts()));
}

}  // namespace pantry
