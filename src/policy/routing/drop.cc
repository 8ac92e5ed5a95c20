// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "policy/routing/expert_chooser.h"
#include "policy/routing/policies.h"

namespace pantry {
namespace {

class Drop final : public ExpertPolicy {
 public:
  Drop(size_t n_experts, size_t top_j, double share) : top_j_(top_j), share_(share), ranking_(n_experts) {}

  void Choose(const RouterView& view, std::span<int32_t> chosen) override {
    ranking_.Read(view.logits);
    ranking_.ChooseBest(chosen);
    if (chosen.empty() || share_ <= 0) return;
    const float largest = LogitOf(chosen.front());
    const auto weight = [&](int32_t expert) { return std::exp(static_cast<double>(LogitOf(expert)) - largest); };
    double all = 0;
    for (const int32_t expert : chosen) all += weight(expert);
    // Upwards from the least liked: weights grow, so where one does not fit, none further up does. Not for NaN: all comparisons fail.
    double dropped = 0;
    for (size_t rank = chosen.size(); rank-- > std::max(top_j_, size_t{1});) {
      int32_t& expert = chosen[rank];
      if (view.is_near[static_cast<size_t>(expert)] != 0) continue;
      dropped += weight(expert);
      if (!(dropped <= share_ * all)) break;
      expert = ExpertChooser::kNone;
    }
    std::ranges::fill(std::ranges::remove(chosen, ExpertChooser::kNone), ExpertChooser::kNone);
  }

 private:
  float LogitOf(int32_t expert) const { return ranking_.logit(static_cast<size_t>(expert)); }

  size_t top_j_;
  double share_;
  ExpertRanking ranking_;
};

}  // namespace

std::unique_ptr<ExpertPolicy> MakeDrop(size_t n_experts, size_t top_j, double share) {
  return std::make_unique<Drop>(n_experts, top_j, share);
}

}  // namespace pantry
