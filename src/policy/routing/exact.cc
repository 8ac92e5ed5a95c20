// SPDX-License-Identifier: Apache-2.0
#include "policy/routing/policies.h"

namespace pantry {
namespace {

class Exact final : public ExpertPolicy {
 public:
  explicit Exact(size_t n_experts) : ranking_(n_experts) {}
  void Choose(const RouterView& view, std::span<int32_t> chosen) override {
    ranking_.Read(view.logits);
    ranking_.ChooseBest(chosen);
  }

 private:
  ExpertRanking ranking_;
};

}  // namespace

std::unique_ptr<ExpertPolicy> MakeExact(size_t n_experts) { return std::make_unique<Exact>(n_experts); }

}  // namespace pantry
