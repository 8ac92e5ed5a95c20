// SPDX-License-Identifier: Apache-2.0
// A RoutingObserver is told which experts a model's routers chose.
//
// Models call it, and know nothing of who listens: a file for later study (sim/routing_file.h).
// Threads: called by the thread that runs the model.
#pragma once

#include <cstdint>
#include <span>

namespace pantry {

class RoutingObserver {
 public:
  virtual ~RoutingObserver() = default;
  // In layer `layer` of the model these run for each of the run's `n_tokens`. Layers come in ascending order.
  virtual void Routed(
      int32_t layer, int64_t n_tokens, std::span<const float> logits,  // [n_tokens, n_experts]: the router's
      std::span<const int32_t> chosen) = 0;  // [n_tokens, n_used], each token's likeliest first; -1: none
};

}  // namespace pantry
