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
//   in memory  nothing on flash, so that no core reads; the cores alone, and with the second executor
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
  double fires = 0.8;   // of these, the share whose gate is not zero: 80 % (4.4)
  double overread =
      1.37;  // bytes from memory for each of a sparse row: derived from another model in memory, Mistral-7B at 50 %: 43.9 GB/s
             // at 12.9 tok/s (table 2) are 3.40 GB a token, of which attention, head, KV and predictor are 1.23
  double skew = 0.736;  // 43 % of the neurons are 80 % of the activity (arXiv 2312.12456, of LLaMA(ReGLU)-70B)
  double stays = 0.85;  // fitted: +cache finds 95 % of what is named in memory (7.5)
  double hot =
      0.01;  // share of neurons in memory always, and dense in the second executor: highly active at batch 1 are
             // less than 1 % (2.2)
  double dense = 0.5;            // the same where all are in memory: 7168 of 14336 (4.1.2)
  double in_memory = 0.5;        // share of all FFN weights
  double predictor = 0.1;        // of a layer's FFN bytes, read by every token: 2.6 GB for 47 B (7.2.3)
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
  double found = 0;                // share of what was named that was in memory
  SimReport report;
};

// kInvalidArgument: the device has no second executor.
Result<std::vector<AblationStep>> NeuronAblation(const DeviceProfile& device, const NeuronOptions& options);

}  // namespace pantry
