// SPDX-License-Identifier: Apache-2.0
#include "policy/planner/expert_split.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace pantry {
namespace {

constexpr int64_t kMB = 1'000'000;

// TurboSparse-Mixtral-47B: 32 layers of 8 experts, gates of 36.7 MB, bundles of 4.6 KB.
ExpertSplit Mixtral() {
  ExpertSplit split;
  split.slot_bytes = 36'700'160;
  split.n_blocks = 256;
  split.n_neurons = 14336;
  split.neuron_bytes = 4608;
  return split;
}

int64_t AllBytes(const ExpertSplit& split) {
  return split.n_blocks * (split.slot_bytes + split.n_neurons * split.neuron_bytes);
}

TEST(ExpertSplit, IsOfWholeSlotsAndNeverMoreThanThereIs) {
  const ExpertSplit split = Mixtral();
  for (int64_t budget = 0; budget < AllBytes(split) + 1000 * kMB; budget += 333 * kMB) {
    const int64_t n_bytes = split.BlockBytes(budget);
    EXPECT_EQ(n_bytes % split.slot_bytes, 0);
    EXPECT_LE(n_bytes, std::max(budget, ExpertSplit::kLeastBlocks * split.slot_bytes));
    EXPECT_GE(n_bytes, ExpertSplit::kLeastBlocks * split.slot_bytes);
    EXPECT_LE(n_bytes, split.n_blocks * split.slot_bytes);
  }
}

TEST(ExpertSplit, ALargerBudgetTakesGatesFromNobody) {
  const ExpertSplit split = Mixtral();
  int64_t before = 0;
  for (int64_t budget = 500 * kMB; budget < AllBytes(split); budget += 500 * kMB) {
    const int64_t n_bytes = split.BlockBytes(budget);
    EXPECT_GE(n_bytes, before) << budget;
    before = n_bytes;
  }
}

TEST(ExpertSplit, AllGatesAreHeldLongBeforeAllNeuronsAre) {
  const ExpertSplit split = Mixtral();
  const int64_t all_gates = split.n_blocks * split.slot_bytes;
  EXPECT_EQ(split.BlockBytes(AllBytes(split)), all_gates);
  EXPECT_EQ(split.BlockBytes(AllBytes(split) * 3 / 4), all_gates);
}

TEST(ExpertSplit, WhatIsReadOftenestComesFirst) {
  const ExpertSplit split = Mixtral();
  // Few bytes: neurons that always fire are worth more than gates.
  EXPECT_LT(split.BlockBytes(2000 * kMB), 1000 * kMB);
  // Were a short read as cheap as its bytes, gates would be.
  ExpertSplit small = split;
  small.n_neurons = split.n_neurons / 8;  // an expert of fewer neurons reads fewer times beside the same gate
  EXPECT_GT(small.BlockBytes(2000 * kMB), split.BlockBytes(2000 * kMB));
}

TEST(ExpertSplit, AModelOfOneExpertHasOneSlot) {
  ExpertSplit one = Mixtral();
  one.n_blocks = 1;
  EXPECT_EQ(one.BlockBytes(0), one.slot_bytes);
  EXPECT_EQ(one.BlockBytes(1000 * kMB), one.slot_bytes);
}

}  // namespace
}  // namespace pantry
