// SPDX-License-Identifier: Apache-2.0
// A CacheAwareRouter chooses experts for a model's layers by a policy, knows what is near, and counts what that changed.
//
// It keeps each layer's running mean of the range of logits, over all tokens seen, and leaves alone what it is told to: prompts (several
// tokens at once), the first layers. The engine gives it the real cache to look at, evaluation and simulation theirs. Told what runs of
// tokens waited, it steers "auto" by a PriorController.
// Threads: thread-compatible. No allocation after construction.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "policy/routing/expert_chooser.h"
#include "policy/routing/expert_policy.h"
#include "policy/running_mean.h"

namespace pantry {

class CachePrior;
class PriorController;

// Says which experts of a layer are in memory or on their way.
class NearExperts {
 public:
  virtual ~NearExperts() = default;
  virtual void Look(int32_t layer, std::span<uint8_t> is_near) const = 0;  // [n_experts], all set
};

// What a user asks for, whatever the model.
struct ExpertPolicyOptions {
  ExpertPolicySpec policy;
  int32_t n_spared_layers = 0;  // the first ones choose exactly
  bool in_prompts = false;      // also where several tokens are computed at once

  bool is_exact() const { return policy.kind == ExpertPolicyKind::kExact; }
  Status Validate() const;
};

struct CacheAwareRouterOptions {
  ExpertPolicySpec policy;
  int32_t first_layer = 0;  // of the model's layers that have experts
  int32_t n_layers = 0;     // that have experts
  int32_t n_experts = 0;
  int32_t n_used = 0;
  int32_t n_spared_layers = 0;  // the first ones choose exactly
  bool in_prompts = false;      // runs of several tokens, too
};

// Sums over tokens and layers that a policy may have changed.
struct RoutingCounts {
  int64_t n_choices = 0;  // (token, layer) pairs
  int64_t n_picks = 0;    // of the router: n_used each
  int64_t n_agreed = 0;   // picks that the router would have made, too
  double share_kept = 0;  // of the chosen experts' softmax shares over those of the router's choice; n_choices at most
  double excess_kl = 0;   // nats, see mean_excess_kl()

  RoutingCounts operator-(const RoutingCounts& before) const {
    return {n_choices - before.n_choices, n_picks - before.n_picks, n_agreed - before.n_agreed,
            share_kept - before.share_kept, excess_kl - before.excess_kl};
  }
  RoutingCounts& operator+=(const RoutingCounts& more) {
    n_choices += more.n_choices;
    n_picks += more.n_picks;
    n_agreed += more.n_agreed;
    share_kept += more.share_kept;
    excess_kl += more.excess_kl;
    return *this;
  }
  // A choice and what the router's own would have been, each in descending order of logits.
  void Add(std::span<const float> logits, std::span<const int32_t> chosen, std::span<const int32_t> routers_own);
  double agreement() const { return n_picks > 0 ? static_cast<double>(n_agreed) / static_cast<double>(n_picks) : 1; }
  double gate_mass() const { return n_choices > 0 ? share_kept / static_cast<double>(n_choices) : 1; }
  // How much farther from the router's wish the gates are than exact routing's, in nats, mean over choices. The wish is p, the softmax over
  // all experts; the gates q are of softmax, normalised over what runs, whatever the model mixes by (sigmoids, or softmax left as it is):
  // p restricted to the chosen experts S and scaled to sum to 1, so
  //   KL(q || p) = sum over S of q log(q / p) = -log p(S).
  // (KL(p || q) is infinite for any S but all experts.) Exact routing has -log p(T) with T the router's own choice, its price for running
  // few, so the excess of a choice is log(p(T) / p(S)) = -log(share kept) >= 0: 0 for exact routing, and where S is a part of T the
  // divergence of q from the gates of T. By Jensen's inequality the mean is at least -log(gate_mass()), and is above it where few
  // choices lose much and most lose little. Infinite only where nothing that the router likes runs: never of a policy, since the best always do.
  double mean_excess_kl() const { return n_choices > 0 ? excess_kl / static_cast<double>(n_choices) : 0; }
};

class CacheAwareRouter final : public ExpertChooser {
 public:
  ~CacheAwareRouter() override;
  // `near` must outlive it. Errors as MakeExpertPolicy().
  static Result<std::unique_ptr<CacheAwareRouter>> Create(const CacheAwareRouterOptions& options,
                                                          const NearExperts& near);

  void Choose(int32_t layer, int64_t n_tokens, std::span<const float> logits, std::span<int32_t> chosen) override;
  void Guess(int32_t layer, std::span<const float> logits, std::span<int32_t> chosen) const override;

  // A run of n_tokens has succeeded, of whose time it waited this share for the disk: sets the next one's strength of auto. Only runs of a
  // single token say how an answer goes, though a prompt may end in one. What others lost counts towards the bound (in_prompts).
  void EndRun(int64_t n_tokens, double wait_share);

  const ExpertPolicySpec& policy() const { return options_.policy; }
  const RoutingCounts& counts() const { return counts_; }
  // Of cache-prior and auto: its strength from now on, cut to 0 .. 1. Others have none.
  void SetStrength(double lambda);
  double strength() const { return strength_; }

 private:
  CacheAwareRouter(const CacheAwareRouterOptions& options, const NearExperts& near);
  size_t IndexOf(int32_t layer) const;
  float MeanRange(size_t index) const { return static_cast<float>(ranges_[index].mean()); }
  bool IsSpared(size_t index) const { return index < static_cast<size_t>(options_.n_spared_layers); }

  CacheAwareRouterOptions options_;
  const NearExperts& near_;
  std::unique_ptr<ExpertPolicy> policy_;
  CachePrior* prior_ = nullptr;                  // policy_, where it has a strength
  std::unique_ptr<PriorController> controller_;  // of auto
  RoutingCounts counts_;
  double strength_ = 0;
  std::vector<RunningMean> ranges_;       // by layer, of the logits
  mutable std::vector<uint8_t> is_near_;  // [n_experts]  scratch, as is the next
  std::vector<int32_t> routers_own_;      // [n_used]
};

}  // namespace pantry
