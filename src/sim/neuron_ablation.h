// SPDX-License-Identifier: Apache-2.0
// A NeuronAblation is PowerInfer-2's experiment on a simulated phone: a sparse model with half of its FFN weights on flash, in five steps, each
// of which adds one mechanism to the one before; and two checks with all of it in memory.
//
//   base       half of the neurons in memory, whichever; of the others, the rows of the three matrices lie apart: each is paged in
//              on demand, page by page, one at a time, and not kept
//   +bundle    the three rows of a neuron side by side in 8 KiB: 4 KiB with the gate, and 4 KiB with the others if the gate fires
//   +cache     what memory holds is what was wanted last: the hottest neurons always, the others by LRU
//   +pipeline  reads are under way together, and what is there is computed meanwhile
//   +unit      attention is divided between cores and second executor, which computes the hot neurons densely beside them
//   in memory  nothing on flash, so that no core reads; the cores alone, and with the second executor. A weak check: both sides of the
//              cores' comparison come from the 43.9 GB/s that cores reach, their rate here as well as `overread`
//
// Half of a neuron's bundle is a block. Which are wanted is made up: neuron i of a layer is named by the predictor with p(i) = c (i + 1)^-skew,
// at most 1, and keeps what it was for a token with likelihood `stays`. The order of the steps is nowhere in here; it follows.
// Not modelled: that some tokens want much more than others (the published P99 is 1.8 times the mean), that gates must be there before the
// others are asked for, outliers, best-of-N, energy.
// Source: arXiv 2406.06282v3, section 7.5, Bamboo-7B; the published speeds are the `published_tok_per_s`.
// Threads: free functions and values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "sim/device_profile.h"
#include "sim/simulator.h"

namespace pantry {

// Of arXiv 2406.06282v3 where nothing else is named. Only `stays` is fitted, to a hit rate; none is fitted to the five speeds.
struct NeuronOptions {
  double named = 0.27;  // share of neurons that the predictor names: "about 3 B activated parameters" (7.2.1) without
                        // attention and head are 1.53 B of the 5.64 B of all FFNs
  // Of these, the share whose gate is not zero. 80 % is what the paper gives for two-phase loading (4.4), but it is the figure of
  // co-activation within a bundle, and contradicts another: 27 % x 0.8 = 21.6 % fire, where about a tenth is said to (that were 0.37 of
  // those named). Unresolved; what 0.37 would change: src/sim/README.md.
  double fires = 0.8;
  double overread =
      1.37;  // bytes from memory for each of a sparse row: derived from another model in memory, Mistral-7B at 50 %: 43.9 GB/s
             // at 12.9 tok/s (table 2) are 3.40 GB a token, of which attention, head, KV and predictor are 1.23
  // Solved for the curve as it is, cut at 1 and `named` in the mean: 43 % of the neurons are 80 % of the activity (arXiv 2312.12456, of
  // LLaMA(ReGLU)-70B; of OPT-30B 26 % are, for which it would be 2.27).
  double skew = 1.19;
  double stays = 0.788;  // fitted: +cache finds 95 % of what is named in memory (7.5), over 20 tokens
  double hot =
      0.01;  // share of neurons in memory always, and dense in the second executor: highly active at batch 1 are
             // less than 1 % (2.2)
  double dense = 0.5;      // the same where all are in memory: 7168 of 14336 (4.1.2)
  double in_memory = 0.5;  // share of all FFN weights
  double predictor = 0.1;  // of a layer's FFN bytes, read by every token: 2.6 GB for 47 B (7.2.3)
  int32_t n_computing =
      4;  // cores, while one of the device's reads: its figure 6, an example. All, where nothing is read
  int64_t first_position = 576;  // 64 of a prompt, and half of 1024 that follow (7.1)
  int64_t n_tokens = 6;
  int64_t n_skipped = 2;  // of them, while the cache fills
  int64_t n_warm = 24;    // more of these for the steps with a cache
  uint64_t seed = 1;

  Status Validate() const;
};

struct AblationStep {
  std::string name;
  double published_tok_per_s = 0;  // of that phone, known by the profile's name; 0: another device
  bool is_derived = false;         // that is not in the paper, but follows from a figure that is
  double found = 0;                // share of what was named that was in memory
  SimReport report;
};

// How likely each of a layer's neurons is to be named for a token, the hottest first.
std::vector<double> NamingLikelihoods(int32_t n_neurons, const NeuronOptions& options);

// kInvalidArgument: the device has no second executor.
Result<std::vector<AblationStep>> NeuronAblation(const DeviceProfile& device, const NeuronOptions& options);

}  // namespace pantry
