// SPDX-License-Identifier: Apache-2.0
#include "engine/expert_router.h"

namespace pantry {

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
  return router;
}

void ExpertRouter::Look(int32_t layer, std::span<uint8_t> is_near) const { stream_.Look(layer, is_near); }

void ExpertRouter::EndRun(int64_t n_tokens, int64_t us) {
  if (us <= 0) return;
  chooser_->EndRun(n_tokens, static_cast<double>(stream_.wait_us() - wait_us_) / static_cast<double>(us));
}

}  // namespace pantry
