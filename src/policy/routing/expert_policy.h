// SPDX-License-Identifier: Apache-2.0
// An ExpertPolicy chooses a token's experts from its router's logits and from what lies in memory already.
//
//   exact            those the router likes best
//   max-rank:M       the J best, then those of the M best that are near, then the rest by rank             (arXiv 2412.00099, Algorithm 1)
//   cumulative:P     the same with M the fewest whose shares come to P, token by token                     (Algorithm 2)
//   margin:D         the same with M as many as lie at most D * the layer's mean range of logits below the last that the router would run;
//                    what gives way may be any far pick outside the J best, not only that last one
//   cache-prior:L    the best of logit + L * the layer's mean range of logits for those that are near       (Eq. 9 and 10)
//   factor:F         the best of share * F for those that are near
//   drop:F           exact, less experts that are not near, the least liked first, while the shares of those left out come to at most F
//                    of the chosen ones' together
//
// All of them always choose the J best. M = n_used, P = 0, D = 0, L = 0, F = 1 and drop:0 are exact to the last expert. A *share* is the softmax of
// the logits over all experts of the layer.
// Pure functions of one token's numbers; no allocation.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace pantry {

enum class ExpertPolicyKind : uint8_t { kExact, kMaxRank, kCumulative, kMargin, kCachePrior, kFactor, kDrop, kAuto };

// "exact", "max-rank:12", "cumulative:0.7", "margin:0.1", "cache-prior:0.3", "factor:2", "drop:0.1", "auto:1%".
struct ExpertPolicySpec {
  ExpertPolicyKind kind = ExpertPolicyKind::kExact;
  double value = 0;   // M, P, D, L or F; of auto the cost in perplexity that is allowed, 0.01 for 1 %
  int32_t top_j = 0;  // experts that are always chosen; 0: DefaultTopJ()

  bool operator==(const ExpertPolicySpec&) const = default;
};

// kInvalidArgument: says what was expected, and the range of the value.
Result<ExpertPolicySpec> ParseExpertPolicy(std::string_view text);
std::string ExpertPolicyText(const ExpertPolicySpec& spec);  // as ParseExpertPolicy() reads it
// 1 where a token uses one or two experts, else 2: section 4 of the paper.
int32_t DefaultTopJ(int32_t n_used);

// What a policy sees of one token in one layer.
struct RouterView {
  std::span<const float> logits;     // [n_experts]
  std::span<const uint8_t> is_near;  // [n_experts]  1: in memory or on its way there, before the token
  float mean_range = 0;              // of the layer: mean over tokens of the largest less the smallest logit
};

class ExpertPolicy {
 public:
  virtual ~ExpertPolicy() = default;
  // Sets chosen[0 .. n) to distinct experts in descending order of logits (of equals the lower index first, NaN last), the rest to
  // ExpertChooser::kNone. REQUIRES: chosen.size() <= logits.size() <= the n_experts that it was made for.
  virtual void Choose(const RouterView& view, std::span<int32_t> chosen) = 0;
};

// kInvalidArgument where the value does not suit the model (M below n_used or above n_experts, J above n_used). kAuto: a cache-prior,
// whose strength a controller sets.
Result<std::unique_ptr<ExpertPolicy>> MakeExpertPolicy(const ExpertPolicySpec& spec, int32_t n_experts, int32_t n_used);

}  // namespace pantry
