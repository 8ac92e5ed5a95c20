// SPDX-License-Identifier: Apache-2.0
#include "policy/routing/expert_policy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>

#include "base/parse_number.h"
#include "policy/routing/policies.h"

namespace pantry {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

struct PolicyRow {
  ExpertPolicyKind kind;
  std::string_view name;
  std::string_view value;  // as it is written; empty: takes none
  std::string_view range;
  double least = 0;
  double most = 0;
};
constexpr std::array<PolicyRow, 8> kPolicies = {{
    {ExpertPolicyKind::kExact, "exact", "", "", 0, 0},
    {ExpertPolicyKind::kMaxRank, "max-rank", "M", "a whole number, at least the experts that a token uses", 1, 65536},
    {ExpertPolicyKind::kCumulative, "cumulative", "P", "a share of 0 to 1", 0, 1},
    {ExpertPolicyKind::kMargin, "margin", "D", "a share of 0 to 1 of the range of logits", 0, 1},
    {ExpertPolicyKind::kCachePrior, "cache-prior", "L", "a strength of 0 to 1", 0, 1},
    {ExpertPolicyKind::kFactor, "factor", "F", "a factor of at least 1", 1, kNoLimit},
    {ExpertPolicyKind::kDrop, "drop", "F", "a share of 0 to 1", 0, 1},
    {ExpertPolicyKind::kAuto, "auto", "MAX_PPL_COST", "a percentage of 0% to 100%, such as auto:1%", 0, 1},
}};

const PolicyRow& RowOf(ExpertPolicyKind kind) {
  for (const PolicyRow& row : kPolicies) {
    if (row.kind == kind) return row;
  }
  PANTRY_CHECK(false);
  return kPolicies.front();
}

std::string HowWritten(const PolicyRow& row) {
  return row.value.empty() ? std::string(row.name) : fmt::format("{}:{}", row.name, row.value);
}

// Also false for NaN.
bool IsInRange(const PolicyRow& row, double value) {
  if (!(value >= row.least && value <= row.most) || !std::isfinite(value)) return false;
  return row.kind != ExpertPolicyKind::kMaxRank || value == std::floor(value);
}

Status BadValue(const PolicyRow& row, std::string_view found) {
  return InvalidArgumentError("{}: expected {}, found '{}'", HowWritten(row), row.range, found);
}

Status UnknownPolicy(std::string_view found) {
  std::string known;
  for (const PolicyRow& row : kPolicies) known += (known.empty() ? "" : ", ") + HowWritten(row);
  return InvalidArgumentError("unknown expert policy '{}'. Expected one of: {}", found, known);
}

}  // namespace

Result<ExpertPolicySpec> ParseExpertPolicy(std::string_view text) {
  const size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  for (const PolicyRow& row : kPolicies) {
    if (row.name != name) continue;
    ExpertPolicySpec spec;
    spec.kind = row.kind;
    if (row.value.empty()) {
      if (colon != std::string_view::npos) return InvalidArgumentError("{}: takes no value, found '{}'", name, text);
      return spec;
    }
    std::string_view value = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
    // A cost of "1" could be meant as 1 % or as 100 %, so the sign is not optional.
    const bool is_percentage = row.kind == ExpertPolicyKind::kAuto;
    if (is_percentage && !value.ends_with('%')) return BadValue(row, value);
    const auto number = ParseNumber<double>(is_percentage ? value.substr(0, value.size() - 1) : value);
    if (!number) return BadValue(row, value);
    spec.value = is_percentage ? *number / 100 : *number;
    if (!IsInRange(row, spec.value)) return BadValue(row, value);
    return spec;
  }
  return UnknownPolicy(text);
}

std::string ExpertPolicyText(const ExpertPolicySpec& spec) {
  const PolicyRow& row = RowOf(spec.kind);
  if (row.value.empty()) return std::string(row.name);
  if (spec.kind == ExpertPolicyKind::kAuto) return fmt::format("{}:{:.10g}%", row.name, spec.value * 100);
  return fmt::format("{}:{}", row.name, spec.value);
}

int32_t DefaultTopJ(int32_t n_used) { return n_used <= 2 ? 1 : 2; }

Result<std::unique_ptr<ExpertPolicy>> MakeExpertPolicy(const ExpertPolicySpec& spec, int32_t n_experts,
                                                       int32_t n_used) {
  if (n_used < 1 || n_experts < n_used) {
    return InvalidArgumentError("expert policy: a token uses {} of {} experts", n_used, n_experts);
  }
  const PolicyRow& row = RowOf(spec.kind);
  if (!IsInRange(row, spec.value) && !row.value.empty()) return BadValue(row, fmt::format("{}", spec.value));
  const int32_t top_j = spec.top_j == 0 ? std::min(DefaultTopJ(n_used), n_used) : spec.top_j;
  if (top_j < 1 || top_j > n_used) {
    return InvalidArgumentError("{}: of the {} experts that a token uses, {} cannot always be chosen",
                                ExpertPolicyText(spec), n_used, top_j);
  }
  const auto n = static_cast<size_t>(n_experts), j = static_cast<size_t>(top_j);
  switch (spec.kind) {
    case ExpertPolicyKind::kExact: return MakeExact();
    case ExpertPolicyKind::kMaxRank:
      if (spec.value < n_used || spec.value > n_experts) {
        return InvalidArgumentError("{}: this model uses {} of {} experts, so M is one of {} to {}",
                                    ExpertPolicyText(spec), n_used, n_experts, n_used, n_experts);
      }
      return MakeMaxRank(n, j, static_cast<size_t>(spec.value));
    case ExpertPolicyKind::kCumulative: return MakeCumulative(n, j, spec.value);
    case ExpertPolicyKind::kMargin: return MakeMargin(n, j, spec.value);
    case ExpertPolicyKind::kCachePrior: return {std::make_unique<CachePrior>(n, j, spec.value, 0)};
    case ExpertPolicyKind::kFactor: return {std::make_unique<CachePrior>(n, j, 0, std::log(spec.value))};
    case ExpertPolicyKind::kDrop: return MakeDrop(j, spec.value);
    case ExpertPolicyKind::kAuto: return {std::make_unique<CachePrior>(n, j, 0, 0)};
  }
  return InternalError("expert policy: unknown kind");
}

}  // namespace pantry
