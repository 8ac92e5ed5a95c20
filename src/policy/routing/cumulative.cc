// SPDX-License-Identifier: Apache-2.0
#include "policy/routing/policies.h"

namespace pantry {
namespace {

// A router that is sure gets a narrow window, one that is not a wide one.
class Cumulative final : public WindowPolicy {
 public:
  Cumulative(size_t n_experts, size_t top_j, double share) : WindowPolicy(n_experts, top_j), share_(share) {}

 private:
  size_t WindowOf(const RouterView&, size_t, ExpertRanking& ranking) const override {
    return ranking.CountForShare(share_);
  }

  double share_;
};

}  // namespace

std::unique_ptr<ExpertPolicy> MakeCumulative(size_t n_experts, size_t top_j, double share) {
  return std::make_unique<Cumulative>(n_experts, top_j, share);
}

}  // namespace pantry
