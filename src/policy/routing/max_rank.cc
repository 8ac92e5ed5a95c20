// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "policy/routing/exact.h"
#include "policy/routing/policies.h"

namespace pantry {

void WindowChoice::Choose(const RouterView& view, size_t window, std::span<int32_t> chosen) {
  if (window <= chosen.size()) return ChooseExperts(view.logits, chosen);
  const auto preferred = std::span<uint8_t>(preferred_).first(ranking_.n_experts());
  std::ranges::copy(view.is_near.first(preferred.size()), preferred.begin());
  ranking_.KeepBest(window, preferred);
  ranking_.MarkBest(std::min(top_j_, chosen.size()), preferred);
  ranking_.ChooseWithBonus(preferred, ExpertRanking::kAlways, chosen);
}

namespace {

class MaxRank final : public ExpertPolicy {
 public:
  MaxRank(size_t n_experts, size_t top_j, size_t window) : window_(window), choice_(n_experts, top_j) {}
  void Choose(const RouterView& view, std::span<int32_t> chosen) override {
    choice_.ranking().Read(view.logits);
    choice_.Choose(view, window_, chosen);
  }

 private:
  size_t window_;
  WindowChoice choice_;
};

}  // namespace

std::unique_ptr<ExpertPolicy> MakeMaxRank(size_t n_experts, size_t top_j, size_t window) {
  return std::make_unique<MaxRank>(n_experts, top_j, window);
}

}  // namespace pantry
