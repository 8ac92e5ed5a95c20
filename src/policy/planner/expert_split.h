// SPDX-License-Identifier: Apache-2.0
// An ExpertSplit says how much of a cache holds experts' gates, and how much their single neurons, where these are read one by one.
//
// Pure. A token needs the gates of the experts that it uses, a block each, and of their neurons those that fire. Both are read when they are
// absent: a block in one long read, a neuron in a short one, which costs as much as kReadBytes of a long one. So with g of all gates held and
// the rest of the cache full of neurons
//
//   cost of a token in a layer = used * block * (1 - sqrt(g)) + used * firing * (1 - hits of neurons) * kReadBytes
//
// and the g with the least cost is taken, of those that fit. Neurons that fire often come first by that, then gates, then all other neurons.
// What gates hit follows from the router, which is not known before it runs. sqrt(g) lies between what was measured: a quarter of the experts
// hits .31 to .36 in a small trained model, .66 in shapes with made-up routers (residency/README.md), and .65 in that of the table below.
// Source: turbosparse-mixtral-47b (made-up weights) with 6.4 GB for both, one run each, ms a token: 16 gates 1495, 40 933, 64 695, 80 537, 110 499.
// Threads: a value.
#pragma once

#include <cstdint>

#include "policy/planner/firing_curve.h"

namespace pantry {

struct ExpertSplit {
  // What is streamed, checked and placed in the time that an absent neuron costs: 18 ms for a block of 36.7 MB against 6 to 10 us (the runs
  // above, a disk of 100000 reads a second): 12 to 20 KiB.
  static constexpr double kReadBytes = 16 << 10;
  static constexpr int64_t kLeastBlocks = 2;  // one is computed while another is read

  int64_t slot_bytes = 0;    // of a gate's block in the cache
  int64_t n_blocks = 0;      // experts of all layers
  int64_t n_neurons = 0;     // of an expert
  int64_t neuron_bytes = 0;  // in the cache
  FiringCurve firing = FiringCurve::Guess();

  // Of so many bytes: those for blocks, whole slots. The least that works where there is less.
  int64_t BlockBytes(int64_t budget_bytes) const;
};

}  // namespace pantry
