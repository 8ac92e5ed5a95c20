// SPDX-License-Identifier: Apache-2.0
// The policies themselves, one file each; expert_policy.h says what they do, MakeExpertPolicy() checks the values and makes them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "policy/routing/expert_policy.h"
#include "policy/routing/expert_ranking.h"

namespace pantry {

std::unique_ptr<ExpertPolicy> MakeExact();
std::unique_ptr<ExpertPolicy> MakeMaxRank(size_t n_experts, size_t top_j, size_t window);
std::unique_ptr<ExpertPolicy> MakeCumulative(size_t n_experts, size_t top_j, double share);
std::unique_ptr<ExpertPolicy> MakeMargin(size_t n_experts, size_t top_j, double share_of_range);
std::unique_ptr<ExpertPolicy> MakeDrop(size_t top_j, double share);

// cache-prior and factor: near experts and the J best get a bonus, which is a part of the layer's range of logits or the same everywhere.
class CachePrior final : public ExpertPolicy {
 public:
  CachePrior(size_t n_experts, size_t top_j, double strength, double fixed_bonus)
      : top_j_(top_j), strength_(strength), fixed_bonus_(fixed_bonus), preferred_(n_experts), ranking_(n_experts) {}
  void Choose(const RouterView& view, std::span<int32_t> chosen) override;
  void set_strength(double strength) { strength_ = strength; }

 private:
  size_t top_j_;
  double strength_;
  double fixed_bonus_;
  std::vector<uint8_t> preferred_;
  ExpertRanking ranking_;
};

// max-rank, cumulative and margin, which differ in how wide their window is: the J best, the near ones among the `window` best, the rest by
// rank. A window no wider than what is chosen is exact.
class WindowPolicy : public ExpertPolicy {
 public:
  WindowPolicy(size_t n_experts, size_t top_j) : top_j_(top_j), preferred_(n_experts), ranking_(n_experts) {}
  void Choose(const RouterView& view, std::span<int32_t> chosen) final;

 private:
  // `ranking` has read view.logits.
  virtual size_t WindowOf(const RouterView& view, size_t n_chosen, ExpertRanking& ranking) const = 0;

  size_t top_j_;
  std::vector<uint8_t> preferred_;
  ExpertRanking ranking_;
};

}  // namespace pantry
