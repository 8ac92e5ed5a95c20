// SPDX-License-Identifier: Apache-2.0
// FiringGates tell from a neuron's gate whether it fires. One that rests counts as zero: nothing else of it needs to be computed.
//
// Gates of a ReLU fire above zero, and the result is the same. Gates of a SiLU hardly ever rest by themselves; with a threshold those do
// whose |silu(gate)| is below it, and the result is a little different (CATS). silu falls to -0.278 at -1.28 and rises to zero again on
// the left, so what fires is an interval on either side:
//
//   rests ... [low  fires  high] ... rests ... 0 ... rests ... [from  fires ...
//
// Comparing gates with the ends of intervals instead of silu(gate) with the threshold costs no exponential, and gives every instruction
// set the same neurons.
// Threads: a value.
// Source: Lee et al. 2024, arXiv 2404.08763 (CATS); Song et al. 2024 (ReLU).
#pragma once

#include <limits>

namespace pantry {

struct FiringGates {
  float from = std::numeric_limits<float>::denorm_min();
  float low = std::numeric_limits<float>::infinity();  // none below `from`
  float high = -std::numeric_limits<float>::infinity();

  static FiringGates Positive() { return {}; }
  // |silu(gate)| >= threshold. All where the threshold is not positive.
  static FiringGates OfSilu(float threshold);

  // NaN fires: a result that is nonsense must look like it. Without branches, which nobody could predict.
  bool Contain(float gate) const {
    const int is_between = static_cast<int>(gate >= low) & static_cast<int>(gate <= high);
    return (static_cast<int>(!(gate < from)) | is_between) != 0;
  }
};

}  // namespace pantry
