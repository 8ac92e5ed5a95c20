// SPDX-License-Identifier: Apache-2.0
// An ExpertSplit says how much of a cache holds experts' gates, and how much their single neurons, where these are read one by one.
//
// Pure. A token needs the gates of the experts that it uses, a block each, and of their neurons those that fire. Both are read when they are
// absent: a block in one long read, a neuron in a short one, which costs as much as kReadBytes of a long one. So with g of all gates held and
// the rest of the cache full of neurons
//
//   cost of a token in a layer = used * block * (1 - g) + used * firing * (1 - hits of neurons) * kReadBytes
//
// and the g with the least cost is taken, of those that fit. Neurons that fire often come first by that, then gates, then all other neurons.
// Which experts a router likes is not known before it runs, so gates hit as often as they are held.
// Threads: a value.
#pragma once

#include <cstdint>

#include "policy/planner/firing_curve.h"

namespace pantry {

struct ExpertSplit {
  // What a disk streams in the time of one short read: 2.4 GB/s against 55000 reads a second, 3.0 against 100000: 30 to 44 KiB.
  static constexpr double kReadBytes = 36 << 10;
  static constexpr int64_t kLeastBlocks = 2;  // one is computed while another is read

  int64_t slot_bytes = 0;  // of a gate's block in the cache
  int64_t n_blocks = 0;    // experts of all layers
  int64_t n_neurons = 0;   // of an expert
  int64_t bundle_bytes = 0;
  FiringCurve firing = FiringCurve::Guess();

  // Of so many bytes: those for blocks, whole slots. The least that works where there is less.
  int64_t BlockBytes(int64_t budget_bytes) const;
};

}  // namespace pantry
