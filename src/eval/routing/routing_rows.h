// SPDX-License-Identifier: Apache-2.0
// What a routing sweep finds: a row for each variant and cache size, and how perplexity's cost follows from what routing gave up.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "eval/routing/virtual_cache.h"

namespace pantry {

// One variant with one cache size. What is not known is NaN.
struct RoutingRow {
  std::string policy;  // "exact", "belady", "cache-prior", ...
  double value = 0;
  double cache_share = 0;
  int32_t capacity = 0;  // experts a layer
  double miss_rate = 0;  // misses over n_used, mean of tokens and layers
  double lifetime = 0;   // tokens that an expert stays in the cache
  double ppl = 0;
  double ppl_stderr = 0;
  double cost = 0;  // rise of perplexity over exact, as a share
  double cost_stderr = 0;
  double agreement = 1;
  double gate_mass = 1;
  double excess_kl = 0;  // of the gates, nats (RoutingCounts::mean_excess_kl())
};

// cost = slope * (1 - gate mass), fitted through the origin over rows of policies that look at the cache.
struct CostFit {
  double slope = 0;
  double r_squared = 0;      // 1 - what the line leaves unexplained, of the variance about the mean
  double largest_error = 0;  // of a cost
  int64_t n_rows = 0;        // 0: nothing to fit
};
CostFit FitCost(const std::vector<RoutingRow>& rows, std::string_view policy = {});  // of one policy; empty: all

struct RoutingSweep {
  ExpertLayers layers;
  int64_t n_ctx = 0;
  int64_t n_windows = 0;  // that count
  int64_t n_windows_planned = 0;
  int64_t n_tokens = 0;  // scored
  double seconds = 0;
  std::vector<RoutingRow> rows;
  bool is_complete() const { return n_windows == n_windows_planned; }
};

}  // namespace pantry
