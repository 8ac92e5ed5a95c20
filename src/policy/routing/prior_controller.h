// SPDX-License-Identifier: Apache-2.0
// A PriorController sets the strength of a cache-prior token by token: as much as the disk asks for, no more than the reader was promised.
//
// Told how much of a token's time was spent waiting for the disk and what its choices lost of the router's gate mass, it
//   - raises the strength, slowly, while waits are more than `waiting_above` of the time and the loss is below what is allowed,
//   - holds it between `hidden_below` and that, and lets it fall to 0 below: what the disk hides is not worth a wrong expert,
//   - lets it fall while recent tokens lose more than is allowed, and gives a token strength 0 where the next one could take the mean over
//     all tokens past the bound, at twice the worst loss of late.
// The cost in perplexity is not seen while a text is written. It is estimated: cost = cost_of_mass * (1 - gate mass kept).
// Pure: the same numbers give the same strengths.
#pragma once

#include <cstdint>

#include "policy/routing/cache_aware_router.h"

namespace pantry {

struct PriorControllerOptions {
  double max_cost = 0.01;  // of perplexity, as a share
  // Rise of perplexity, as a share, for the whole of the gate mass. Fits on a small trained model are 0.27 and 0.14 (docs/performance.md).
  double cost_of_mass = 0.3;
  double waiting_above = 0.10;  // share of a token's time
  double hidden_below = 0.03;
  double max_strength = 1;
};

class PriorController {
 public:
  explicit PriorController(const PriorControllerOptions& options = {}) : options_(options) {}

  // After each token: the share of its time spent waiting for the disk, and the router's counts so far. The next token's strength.
  double Next(double wait_share, const RoutingCounts& counts);
  // After several tokens at once: what they lost is lost, but they say nothing of how a token goes.
  void Note(const RoutingCounts& counts);
  // Of all tokens so far, as a share of perplexity.
  double EstimatedCost(const RoutingCounts& counts) const { return options_.cost_of_mass * (1 - counts.gate_mass()); }

 private:
  double Change(double aim) const;
  bool MayPassTheBound(const RoutingCounts& counts, int64_t n_of_token, double strength) const;

  PriorControllerOptions options_;
  int64_t n_choices_ = 0;  // of the counts, when they were last seen
  double share_kept_ = 0;
  double strength_ = 0;       // as it should be
  double last_strength_ = 0;  // as the last token had it: 0 where it was held back
  double wait_share_ = 0;     // these three smoothed over some tokens
  double loss_ = 0;
  double worst_loss_ = 0;
};

}  // namespace pantry
