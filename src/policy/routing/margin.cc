// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "policy/routing/policies.h"

namespace pantry {
namespace {

// The gate is on what stands in: the router must like it nearly as much as its last pick. What gives way is any far pick but the J best, the
// lowest first, and may have been liked much more than that last one. Production engines are said to have such a gate; a definition is
// not published, but for a margin of sigmoid scores (github.com/JustVugg/colibri, issue 119). This one is measured as cache-prior's
// bonus is, so that one strength suits all layers.
// Why from the last pick, and not from the very expert that gives way: that would be cache-prior itself, which lets the best near
// expert take the place of the lowest far pick, the next best that of the next lowest, while they are no farther apart than the bonus.
class Margin final : public WindowPolicy {
 public:
  Margin(size_t n_experts, size_t top_j, double share_of_range)
      : WindowPolicy(n_experts, top_j), share_of_range_(share_of_range) {}

 private:
  size_t WindowOf(const RouterView& view, size_t n_chosen, ExpertRanking& ranking) const override {
    const double margin = share_of_range_ * static_cast<double>(view.mean_range);
    // Without strength not even among equals. A window around none is none.
    return n_chosen > 0 && margin > 0 && std::isfinite(margin) ? ranking.CountWithin(margin, n_chosen) : n_chosen;
  }

  double share_of_range_;
};

}  // namespace

std::unique_ptr<ExpertPolicy> MakeMargin(size_t n_experts, size_t top_j, double share_of_range) {
  return std::make_unique<Margin>(n_experts, top_j, share_of_range);
}

}  // namespace pantry
