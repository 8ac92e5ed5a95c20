// SPDX-License-Identifier: Apache-2.0
#include "policy/routing/cache_aware_router.h"

#include <algorithm>
#include <cmath>

#include "policy/routing/exact.h"
#include "policy/routing/policies.h"
#include "policy/routing/prior_controller.h"

namespace pantry {
namespace {

double RangeOf(std::span<const float> logits) {
  float least = logits.front(), most = logits.front();
  for (const float logit : logits) {
    least = std::min(least, logit);
    most = std::max(most, logit);
  }
  return static_cast<double>(most) - least;
}

}  // namespace

Status ExpertPolicyOptions::Validate() const {
  if (n_spared_layers < 0) {
    return InvalidArgumentError("--expert-policy-skip {}: expected a number of layers, 0 or more", n_spared_layers);
  }
  if (policy.top_j < 0)
    return InvalidArgumentError("--expert-policy-top {}: expected 0 (by the model) or more", policy.top_j);
  return OkStatus();
}

CacheAwareRouter::~CacheAwareRouter() = default;

Result<std::unique_ptr<CacheAwareRouter>> CacheAwareRouter::Create(const CacheAwareRouterOptions& options,
                                                                   const NearExperts& near) {
  if (options.first_layer < 0 || options.n_layers < 1 || options.n_spared_layers < 0) {
    return InvalidArgumentError("expert policy: layers from {}, {} of them, the first {} spared", options.first_layer,
                                options.n_layers, options.n_spared_layers);
  }
  PANTRY_ASSIGN_OR_RETURN(std::unique_ptr<ExpertPolicy> policy,
                          MakeExpertPolicy(options.policy, options.n_experts, options.n_used));
  std::unique_ptr<CacheAwareRouter> router(new CacheAwareRouter(options, near));
  router->policy_ = std::move(policy);
  const ExpertPolicyKind kind = options.policy.kind;
  if (kind == ExpertPolicyKind::kCachePrior || kind == ExpertPolicyKind::kAuto) {
    router->prior_ = static_cast<CachePrior*>(router->policy_.get());
    router->strength_ = kind == ExpertPolicyKind::kCachePrior ? options.policy.value : 0;
  }
  if (kind == ExpertPolicyKind::kAuto) {
    PriorControllerOptions controller;
    controller.max_cost = options.policy.value;
    router->controller_ = std::make_unique<PriorController>(controller);
  }
  return router;
}

CacheAwareRouter::CacheAwareRouter(const CacheAwareRouterOptions& options, const NearExperts& near)
    : options_(options),
      near_(near),
      ranges_(static_cast<size_t>(options.n_layers)),
      is_near_(static_cast<size_t>(options.n_experts)),
      routers_own_(static_cast<size_t>(options.n_used)) {}

size_t CacheAwareRouter::IndexOf(int32_t layer) const {
  const int32_t index = layer - options_.first_layer;
  PANTRY_CHECK(index >= 0 && index < options_.n_layers);
  return static_cast<size_t>(index);
}

void CacheAwareRouter::Choose(int32_t layer, int64_t n_tokens, std::span<const float> logits,
                              std::span<int32_t> chosen) {
  const size_t index = IndexOf(layer), n_experts = is_near_.size(), n_used = routers_own_.size();
  const bool may_change = !IsSpared(index) && (n_tokens == 1 || options_.in_prompts);
  if (may_change) near_.Look(layer, is_near_);
  for (size_t token = 0; token < static_cast<size_t>(n_tokens); ++token) {
    const auto of_token = logits.subspan(token * n_experts, n_experts);
    const auto to = chosen.subspan(token * n_used, n_used);
    ranges_[index].Add(RangeOf(of_token));
    if (may_change) {
      policy_->Choose({.logits = of_token, .is_near = is_near_, .mean_range = MeanRange(index)}, to);
      ChooseExperts(of_token, routers_own_);
      counts_.Add(of_token, to, routers_own_);
    } else {
      ChooseExperts(of_token, to);
    }
  }
}

void CacheAwareRouter::Guess(int32_t layer, std::span<const float> logits, std::span<int32_t> chosen) const {
  const size_t index = IndexOf(layer);
  if (IsSpared(index)) return ChooseExperts(logits, chosen);
  near_.Look(layer, is_near_);
  policy_->Choose({.logits = logits, .is_near = is_near_, .mean_range = MeanRange(index)}, chosen);
}

void CacheAwareRouter::EndRun(int64_t n_tokens, double wait_share) {
  if (controller_ == nullptr) return;
  if (n_tokens == 1) SetStrength(controller_->Next(wait_share, counts_));
  else controller_->Note(counts_);
}

void RoutingCounts::Add(std::span<const float> logits, std::span<const int32_t> chosen,
                        std::span<const int32_t> routers_own) {
  const auto n_used = static_cast<int64_t>(routers_own.size());
  ++n_choices;
  n_picks += n_used;
  if (std::ranges::equal(chosen, routers_own)) {
    n_agreed += n_used;
    share_kept += 1;
    return;
  }
  const auto logit = [&logits](int32_t expert) { return static_cast<double>(logits[static_cast<size_t>(expert)]); };
  const double largest = logit(routers_own.front());
  double own = 0, kept = 0;
  for (const int32_t expert : routers_own) own += std::exp(logit(expert) - largest);
  int64_t n_same = 0;
  for (const int32_t expert : chosen) {
    if (expert == ExpertChooser::kNone) break;
    kept += std::exp(logit(expert) - largest);
    n_same += std::ranges::find(routers_own, expert) != routers_own.end() ? 1 : 0;
  }
  n_agreed += n_same;
  double share = kept / own;  // of nonsense NaN: then picks count alike
  share = share >= 0 ? std::min(share, 1.0) : static_cast<double>(n_same) / static_cast<double>(n_used);
  share_kept += share;
  excess_kl -= std::log(share);
}

void CacheAwareRouter::SetStrength(double lambda) {
  if (prior_ == nullptr) return;
  strength_ = lambda >= 0 ? std::min(lambda, 1.0) : 0;  // NaN, too
  prior_->set_strength(strength_);
}

}  // namespace pantry
