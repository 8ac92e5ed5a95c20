// SPDX-License-Identifier: Apache-2.0
#include "policy/planner/expert_split.h"

#include <algorithm>
#include <cmath>

namespace pantry {
namespace {

constexpr int64_t kMostTried = 256;  // ways to divide; finer ones gain less than a token's noise

}  // namespace

int64_t ExpertSplit::BlockBytes(int64_t budget_bytes) const {
  const int64_t most = std::min(n_blocks, budget_bytes / slot_bytes);
  const auto all_neurons = static_cast<double>(n_blocks * n_neurons * neuron_bytes);
  const double firing_reads = firing.active_share(0) * static_cast<double>(n_neurons) * kReadBytes;
  const auto cost = [&](int64_t n) {  // of one expert
    const auto left = static_cast<double>(budget_bytes - n * slot_bytes);
    const double missed_gates = 1 - std::sqrt(static_cast<double>(n) / static_cast<double>(n_blocks));
    const double missed_neurons = 1 - firing.BestHits(std::clamp(left / all_neurons, 0.0, 1.0), 0);
    return missed_gates * static_cast<double>(slot_bytes) + missed_neurons * firing_reads;
  };
  int64_t best = std::min(kLeastBlocks, n_blocks);
  if (most <= best) return best * slot_bytes;
  double least = cost(best);
  const int64_t step = std::max<int64_t>(1, (most - best) / kMostTried);
  for (int64_t n = most; n > std::min(kLeastBlocks, n_blocks); n -= step) {
    const double of_n = cost(n);
    if (of_n >= least) continue;
    least = of_n;
    best = n;
  }
  return best * slot_bytes;
}

}  // namespace pantry
