// SPDX-License-Identifier: Apache-2.0
#include "io/busy_time.h"

#include <gtest/gtest.h>

namespace pantry {
namespace {

TEST(BusyTime, WhatOverlapsCountsOnceAndWhatIsUnderWayCounts) {
  BusyTime busy;
  EXPECT_EQ(busy.Us(50), 0);
  busy.Begin(100);
  busy.Begin(130);
  EXPECT_EQ(busy.Us(140), 40);
  busy.End(150);
  busy.End(180);
  EXPECT_EQ(busy.Us(500), 80);
  busy.Begin(600);
  busy.End(601);
  EXPECT_EQ(busy.Us(700), 81);
}

}  // namespace
}  // namespace pantry
