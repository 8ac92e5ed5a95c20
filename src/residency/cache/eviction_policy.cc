// SPDX-License-Identifier: Apache-2.0
#include "residency/cache/eviction_policy.h"

#include <cmath>
#include <string>

#include "base/parse_number.h"

namespace pantry {

std::string_view PolicyName(PolicyKind kind) {
  switch (kind) {
    case PolicyKind::kLru: return "lru";
    case PolicyKind::kLfu: return "lfu";
    case PolicyKind::kLrfu: return "lrfu";
    case PolicyKind::kCycle: return "cycle";
    case PolicyKind::kRotation: return "rotation";
  }
  return "?";
}

Result<PolicyKind> ParsePolicyName(std::string_view name) {
  std::string known;
  for (const PolicyKind kind : kPolicyKinds) {
    if (name == PolicyName(kind)) return kind;
    known += known.empty() ? "" : ", ";
    known += PolicyName(kind);
  }
  return InvalidArgumentError("cache policy: \"{}\" is not known; there are: {}", name, known);
}

Result<PolicyOptions> ParsePolicy(std::string_view text) {
  const size_t colon = text.find(':');
  PolicyOptions options;
  PANTRY_ASSIGN_OR_RETURN(options.kind, ParsePolicyName(text.substr(0, colon)));
  if (colon == std::string_view::npos) return options;
  const auto half_life = ParseNumber<double>(text.substr(colon + 1));
  if (!half_life || !(*half_life > 0)) {
    return InvalidArgumentError("cache policy: \"{}\": expected a half-life in tokens behind the colon", text);
  }
  options.half_life_tokens = *half_life;
  PANTRY_RETURN_IF_ERROR(options.Validate());
  return options;
}

double DefaultHalfLife(PolicyKind kind) {
  switch (kind) {
    case PolicyKind::kLru:
    case PolicyKind::kRotation: return 0;
    case PolicyKind::kLfu:
    case PolicyKind::kLrfu:
    case PolicyKind::kCycle: return 64;
  }
  return 0;
}

Status PolicyOptions::Validate() const {
  if (!std::isfinite(half_life_tokens) || half_life_tokens < 0 || half_life_tokens > 1e9) {
    return InvalidArgumentError("cache policy: half-life is {} tokens; it must lie in 0 (the policy's own) to 1e9",
                                half_life_tokens);
  }
  if (half_life_tokens > 0 && half_life_tokens < 0.01) {
    return InvalidArgumentError("cache policy: half-life is {} tokens; the shortest is 0.01, use lru instead",
                                half_life_tokens);
  }
  if (half_life_tokens > 0 && DefaultHalfLife(kind) == 0) {
    return InvalidArgumentError("cache policy: {} has no half-life; leave it out, or choose lfu, lrfu or cycle",
                                PolicyName(kind));
  }
  return OkStatus();
}

std::unique_ptr<EvictionPolicy> MakeEvictionPolicy(const PolicyOptions& options, std::span<const BlockInfo> blocks) {
  PANTRY_CHECK(options.Validate().ok());
  const double half_life = options.half_life_tokens > 0 ? options.half_life_tokens : DefaultHalfLife(options.kind);
  switch (options.kind) {
    case PolicyKind::kLru: return MakeLru(blocks.size());
    case PolicyKind::kLfu: return MakeLfu(blocks.size(), half_life);
    case PolicyKind::kLrfu: return MakeLrfu(blocks.size(), half_life);
    case PolicyKind::kCycle: return MakeCycle(blocks, half_life);
    case PolicyKind::kRotation: return MakeRotation(blocks.size());
  }
  return nullptr;
}

}  // namespace pantry
