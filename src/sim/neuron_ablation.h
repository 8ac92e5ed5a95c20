// SPDX-License-Identifier: Apache-2.0
// A NeuronAblation is PowerInfer-2's experiment on a simulated phone: a sparse model with half of its FFN weights on flash, in five steps, each
// of which adds one mechanism to the one before.
//
//   base       rows of the three matrices lie apart; each is paged in on demand, page by page, one at a time; nothing is kept
//   +bundle    the three rows of a neuron side by side in 8 KiB, as two reads of 4 KiB
//   +cache     half of the FFN weights stay in memory: the hottest neurons always, the others by LRU
//   +pipeline  reads are under way together, and what is there is computed meanwhile
//   +unit      the hot neurons are computed densely by the second executor, beside the others
//
// A block is a neuron's bundle. Which are wanted is made up: neuron i of a layer is active with p(i) = c (i + 1)^-skew, at most 1, and keeps
// what it was for a token with likelihood `stays`. The order of the steps is nowhere in here; it follows.
// Not modelled: two phases of a load (gate first, the rest only where it fires), outliers, best-of-N, energy.
// Source: arXiv 2406.06282, its ablation on Bamboo-7B; the published speeds are the `published_tok_per_s`.
// Threads: free functions and values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "sim/device_profile.h"
#include "sim/simulator.h"

namespace pantry {

struct NeuronOptions {
  double active = 0.10;  // mean share of neurons: about 90 % rest in Bamboo-7B (arXiv 2406.05955)
  double skew = 0.834;   // 26 % of the neurons are 80 % of the activity (arXiv 2312.12456, of OPT-30B)
  double stays = 0.7;    // fitted: 95 % of activity is in memory with half of the weights there (arXiv 2406.06282)
  double hot =
      0.25;  // share of neurons that are always in memory and computed densely; half of what memory holds, assumed
  double in_memory = 0.5;   // share of all FFN weights
  double predictor = 0.12;  // of a layer's FFN bytes, read by every token: 2.6 GB for 47 B (arXiv 2406.06282)
  int64_t n_tokens = 10;
  int64_t n_skipped = 4;  // of them, while the cache fills
  int64_t n_warm = 40;    // more of these for the steps with a cache
  uint64_t seed = 1;

  Status Validate() const;
};

struct AblationStep {
  std::string name;
  double published_tok_per_s = 0;  // of that phone, known by the profile's name; 0: another device
  SimReport report;
};

// kInvalidArgument: the device has no second executor.
Result<std::vector<AblationStep>> NeuronAblation(const DeviceProfile& device, const NeuronOptions& options);

}  // namespace pantry
