// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "policy/routing/exact.h"
#include "policy/routing/policies.h"

namespace pantry {

void WindowPolicy::Choose(const RouterView& view, std::span<int32_t> chosen) {
  ranking_.Read(view.logits);
  const size_t window = WindowOf(view, chosen.size(), ranking_);
  if (window <= chosen.size()) return ChooseExperts(view.logits, chosen);
  const auto preferred = std::span<uint8_t>(preferred_).first(view.logits.size());
  std::ranges::copy(view.is_near.first(preferred.size()), preferred.begin());
  ranking_.KeepBest(window, preferred);
  ranking_.MarkBest(std::min(top_j_, chosen.size()), preferred);
  ranking_.ChooseWithBonus(preferred, ExpertRanking::kAlways, chosen);
}

}  // namespace pantry
