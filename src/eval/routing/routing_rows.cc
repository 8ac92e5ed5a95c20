// SPDX-License-Identifier: Apache-2.0
#include "eval/routing/routing_rows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace pantry {
namespace {

// That look at the cache; the others are yardsticks.
constexpr std::array<std::string_view, 6> kPolicies = {"max-rank",    "cumulative", "margin",
                                                       "cache-prior", "factor",     "drop"};

}  // namespace

CostFit FitCost(const std::vector<RoutingRow>& rows, std::string_view policy) {
  std::vector<std::pair<double, double>> points;  // mass lost, cost
  for (const RoutingRow& row : rows) {
    const bool is_of_fit =
        policy.empty() ? std::ranges::find(kPolicies, row.policy) != kPolicies.end() : row.policy == policy;
    if (is_of_fit && std::isfinite(row.cost)) points.emplace_back(1 - row.gate_mass, row.cost);
  }
  CostFit fit;
  fit.n_rows = static_cast<int64_t>(points.size());
  double xx = 0, xy = 0, y = 0, yy = 0;
  for (const auto& [lost, cost] : points) {
    xx += lost * lost;
    xy += lost * cost;
    y += cost;
    yy += cost * cost;
  }
  if (xx <= 0) return fit;
  fit.slope = xy / xx;
  double left = 0;
  for (const auto& [lost, cost] : points) {
    const double error = cost - fit.slope * lost;
    left += error * error;
    fit.largest_error = std::max(fit.largest_error, std::abs(error));
  }
  const double about_mean = yy - y * y / static_cast<double>(points.size());
  fit.r_squared = about_mean > 0 ? 1 - left / about_mean : 0;
  return fit;
}

}  // namespace pantry
