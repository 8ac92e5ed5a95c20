// SPDX-License-Identifier: Apache-2.0
#include "eval/firing_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pantry {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(FiringRecorder, KeepsTheFirstRowsOfEachNetwork) {
  FiringRecorder recorder(2, 3, 2, 1, 2);  // layers, networks, inputs, neurons, rows
  EXPECT_FALSE(recorder.has_heard());
  for (const float i : {1.0f, 2.0f, 3.0f}) {
    const float x[] = {i, -i}, gate[] = {i / 4};
    recorder.Fed(1, 2, x, gate);
  }
  const float huge[] = {1e9f, -1e9f}, rest[] = {-1};
  recorder.Fed(0, 0, huge, rest);
  EXPECT_TRUE(recorder.has_heard());
  const FiringSamples last = recorder.Samples(5), first = recorder.Samples(0);
  EXPECT_EQ(last.size(), 2);
  EXPECT_THAT(last.x, ElementsAre(1, -1, 2, -2));
  EXPECT_THAT(last.gate, ElementsAre(0.25f, 0.5f));
  EXPECT_THAT(first.x, ElementsAre(65504, -65504));  // the largest numbers of F16
  EXPECT_THAT(first.gate, ElementsAre(-1));
  EXPECT_THAT(recorder.Samples(1).x, IsEmpty());
}

}  // namespace
}  // namespace pantry
