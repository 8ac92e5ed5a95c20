// SPDX-License-Identifier: Apache-2.0
// How likely 0, 1 ... n of something are.
#pragma once

#include <cstddef>
#include <vector>

namespace pantry {

// [n + 1]; ratio(k): how much likelier k + 1 are than k. From the most likely number outwards, so that none is a product of many small ones: those
// far from it may be too small for a double.
template <typename Ratio>
std::vector<double> ChancesOf(int n, int most_likely, const Ratio& ratio) {
  std::vector<double> chances(static_cast<size_t>(n) + 1);
  const auto at = [&chances](int k) -> double& { return chances[static_cast<size_t>(k)]; };
  double sum = at(most_likely) = 1;
  for (int k = most_likely; k < n; ++k) sum += at(k + 1) = at(k) * ratio(k);
  for (int k = most_likely; k > 0; --k) sum += at(k - 1) = at(k) / ratio(k - 1);
  for (double& chance : chances) chance /= sum;
  return chances;
}

}  // namespace pantry
