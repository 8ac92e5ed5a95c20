// SPDX-License-Identifier: Apache-2.0
#include "policy/routing/exact.h"

#include "policy/routing/policies.h"

namespace pantry {
namespace {

class Exact final : public ExpertPolicy {
 public:
  void Choose(const RouterView& view, std::span<int32_t> chosen) override { ChooseExperts(view.logits, chosen); }
};

}  // namespace

// Each expert is put in its place in a list whose last one falls out; few get past the first comparison.
void ChooseExperts(std::span<const float> logits, std::span<int32_t> chosen) {
  if (chosen.empty()) return;
  const auto liking_of = [logits](int32_t expert) { return LikingOf(logits[static_cast<size_t>(expert)]); };
  size_t n_chosen = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const float liking = LikingOf(logits[i]);
    if (n_chosen == chosen.size() && !(liking > liking_of(chosen.back()))) continue;
    size_t rank = n_chosen < chosen.size() ? n_chosen++ : n_chosen - 1;
    for (; rank > 0 && liking_of(chosen[rank - 1]) < liking; --rank) chosen[rank] = chosen[rank - 1];
    chosen[rank] = static_cast<int32_t>(i);
  }
}

std::unique_ptr<ExpertPolicy> MakeExact() { return std::make_unique<Exact>(); }

}  // namespace pantry
