// SPDX-License-Identifier: Apache-2.0
// A RoutingVariant is one way to choose experts that an evaluation tries: a policy, or what policies are judged by.
//
//   exact, max-rank:M, cumulative:P, margin:D, cache-prior:L, factor:F, drop:F    policy/routing/expert_policy.h
//   prune:N      the N best only, for every token: the price of simply running fewer
//   replace:R    the expert of rank R (from 1) gives way to a random one: how much the ranks matter
//   leave-out:R  the expert of rank R is left out
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "eval/routing/virtual_cache.h"
#include "policy/routing/expert_chooser.h"
#include "policy/routing/expert_policy.h"

namespace pantry {

enum class RoutingVariantKind : uint8_t { kPolicy, kPrune, kReplace, kLeaveOut };

struct RoutingVariant {
  RoutingVariantKind kind = RoutingVariantKind::kPolicy;
  ExpertPolicySpec policy;  // of kPolicy
  int32_t value = 0;        // of the others

  std::string name() const;     // "cache-prior"
  double strength() const;      // 0.3
  bool looks_at_cache() const;  // what it chooses depends on what is near
  bool operator==(const RoutingVariant&) const = default;
};

// Comma-separated, each with a value or without: then over the values that are worth trying for such a model. "all": all of them.
// kInvalidArgument names the one that is wrong.
Result<std::vector<RoutingVariant>> ParseRoutingVariants(std::string_view text, const ExpertLayers& layers);

// Chooses as `variant` says, and counts what that changed.
class VariantChooser : public ExpertChooser {
 public:
  // `near` must outlive it. kInvalidArgument: the variant does not suit the model.
  static Result<std::unique_ptr<VariantChooser>> Create(const RoutingVariant& variant, const ExpertLayers& layers,
                                                        int32_t n_spared_layers, const NearExperts& near);
  virtual const RoutingCounts& counts() const = 0;
};

}  // namespace pantry
