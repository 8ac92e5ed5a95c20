// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "policy/routing/exact.h"
#include "policy/routing/expert_chooser.h"
#include "policy/routing/policies.h"

namespace pantry {
namespace {

class Drop final : public ExpertPolicy {
 public:
  Drop(size_t top_j, double share) : top_j_(top_j), share_(share) {}

  void Choose(const RouterView& view, std::span<int32_t> chosen) override {
    ChooseExperts(view.logits, chosen);
    if (chosen.empty() || share_ <= 0) return;
    const auto liking = [&](int32_t expert) { return LikingOf(view.logits[static_cast<size_t>(expert)]); };
    const float largest = liking(chosen.front());
    const auto weight = [&](int32_t expert) { return std::exp(static_cast<double>(liking(expert)) - largest); };
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
  size_t top_j_;
  double share_;
};

}  // namespace

std::unique_ptr<ExpertPolicy> MakeDrop(size_t top_j, double share) { return std::make_unique<Drop>(top_j, share); }

}  // namespace pantry
