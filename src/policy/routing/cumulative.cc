// SPDX-License-Identifier: Apache-2.0
#include "policy/routing/policies.h"

namespace pantry {
namespace {

// A router that is sure gets a narrow window, one that is not a wide one.
class Cumulative final : public ExpertPolicy {
 public:
  Cumulative(size_t n_experts, size_t top_j, double share) : share_(share), choice_(n_experts, top_j) {}
  void Choose(const RouterView& view, std::span<int32_t> chosen) override {
    choice_.ranking().Read(view.logits);
    choice_.Choose(view, choice_.ranking().CountForShare(share_), chosen);
  }

 private:
  double share_;
  WindowChoice choice_;
};

}  // namespace

std::unique_ptr<ExpertPolicy> MakeCumulative(size_t n_experts, size_t top_j, double share) {
  return std::make_unique<Cumulative>(n_experts, top_j, share);
}

}  // namespace pantry
