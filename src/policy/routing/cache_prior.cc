// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "policy/routing/exact.h"
#include "policy/routing/policies.h"

namespace pantry {

void CachePrior::Choose(const RouterView& view, std::span<int32_t> chosen) {
  const double bonus = fixed_bonus_ + strength_ * static_cast<double>(view.mean_range);
  if (!(bonus > 0) || !std::isfinite(bonus)) return ChooseExperts(view.logits, chosen);
  ranking_.Read(view.logits);
  const auto preferred = std::span<uint8_t>(preferred_).first(view.logits.size());
  std::ranges::copy(view.is_near.first(preferred.size()), preferred.begin());
  ranking_.MarkBest(std::min(top_j_, chosen.size()), preferred);
  ranking_.ChooseWithBonus(preferred, bonus, chosen);
}

}  // namespace pantry
