// SPDX-License-Identifier: Apache-2.0
#include "policy/routing/policies.h"

namespace pantry {
namespace {

class MaxRank final : public WindowPolicy {
 public:
  MaxRank(size_t n_experts, size_t top_j, size_t window) : WindowPolicy(n_experts, top_j), window_(window) {}

 private:
  size_t WindowOf(const RouterView&, size_t, ExpertRanking&) const override { return window_; }

  size_t window_;
};

}  // namespace

std::unique_ptr<ExpertPolicy> MakeMaxRank(size_t n_experts, size_t top_j, size_t window) {
  return std::make_unique<MaxRank>(n_experts, top_j, window);
}

}  // namespace pantry
