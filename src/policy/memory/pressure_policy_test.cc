// SPDX-License-Identifier: Apache-2.0
#include "policy/memory/pressure_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/rng.h"
#include "base/units.h"

namespace pantry {
namespace {

constexpr int64_t kPlenty = MemoryReading::kPlenty;
constexpr int64_t kLong = kCalmBeforeGrowingUs;
// A process of 5 GiB of which 4 are cache, on a machine of 16 GiB: reserve 491 MiB.
constexpr CacheBounds kBounds = {.wanted_bytes = 4 * kGiB, .floor_bytes = 64 * kMiB, .other_bytes = kGiB};
const int64_t kReserve = MachineReserveBytes({.total_bytes = 16 * kGiB});

MemoryReading Machine(int64_t available_bytes, double some_stalled_percent = 0) {
  MemoryReading memory;
  memory.total_bytes = 16 * kGiB;
  memory.available_bytes = available_bytes;
  memory.some_stalled_percent = some_stalled_percent;
  return memory;
}

MemoryReading Group(int64_t limit_bytes, int64_t left_bytes, double some_stalled_percent = 0) {
  MemoryReading memory = Machine(10 * kGiB, some_stalled_percent);
  memory.group_limit_bytes = limit_bytes;
  memory.group_left_bytes = left_bytes;
  return memory;
}

struct Case {
  const char* what;
  MemoryReading memory;
  CacheNow now;
  int64_t budget_bytes;
  PressureReason reason;
  bool is_short;
};

TEST(PressurePolicy, Table) {
  using enum PressureReason;
  const CacheNow full = {4 * kGiB, 4 * kGiB, kLong};
  const CacheNow half = {2 * kGiB, 2 * kGiB, kLong};
  const CacheNow floor = {64 * kMiB, 64 * kMiB, kLong};
  const std::vector<Case> cases = {
      {"nothing known", {}, full, 4 * kGiB, kNone, false},
      {"plenty", Machine(8 * kGiB), full, 4 * kGiB, kNone, false},
      {"stalls, but plenty", Machine(8 * kGiB, 90), full, 4 * kGiB, kNone, false},
      {"little, but above the reserve", Machine(kReserve), full, 4 * kGiB, kNone, false},
      {"a little below the reserve: what is missing, and some air", Machine(kReserve - kMiB), full,
       4 * kGiB - kReserve / 4 - kMiB, kFewAvailable, true},
      {"far below: a quarter", Machine(0), {1 * kGiB, 1 * kGiB, 0}, kGiB - kGiB / 4, kFewAvailable, true},
      {"below, cache not full yet: it stays as it is, less what is missing",
       Machine(0),
       {4 * kGiB, kGiB, 0},
       kGiB - kGiB / 4,
       kFewAvailable,
       true},
      {"at the floor", Machine(0), floor, 64 * kMiB, kNone, true},
      {"stalls and little", Machine(2 * kReserve - 100 * kMiB, 10.5), full, 4 * kGiB - 100 * kMiB, kStalls, true},
      {"few stalls and little", Machine(2 * kReserve - 100 * kMiB, 10), full, 4 * kGiB, kNone, false},
      {"limit as large as the process", Group(5 * kGiB, kGiB), full, 4 * kGiB, kNone, false},
      {"limit as large as the process, which has filled it", Group(5 * kGiB, 8 * kMiB), full, 4 * kGiB, kNone, false},
      {"limit lowered: all of it at once", Group(3 * kGiB, -2 * kGiB), full, 2 * kGiB - 16 * kMiB, kGroupShrank, true},
      {"limit lowered before the cache was full",
       Group(3 * kGiB, 2 * kGiB),
       {4 * kGiB, 0, 0},
       2 * kGiB - 16 * kMiB,
       kGroupShrank,
       true},
      {"limit below the rest of the process", Group(kGiB / 2, -4 * kGiB), full, 64 * kMiB, kGroupShrank, true},
      {"a small limit wants a small margin",
       Group(64 * kMiB, 64 * kMiB),
       {4 * kGiB, 0, 0},
       64 * kMiB,
       kGroupShrank,
       true},
      {"others fill the group: at once, more than a quarter", Group(8 * kGiB, -3 * kGiB), full, kGiB - 16 * kMiB,
       kGroupFull, true},
      {"the group stalls near its limit", Group(8 * kGiB, 20 * kMiB, 50), full, 4 * kGiB - 12 * kMiB, kStalls, true},
      {"calm: a quarter more", Machine(8 * kGiB), half, 3 * kGiB, kCalm, false},
      {"calm, but not for long", Machine(8 * kGiB), {2 * kGiB, 2 * kGiB, kLong - 1}, 2 * kGiB, kNone, false},
      {"calm, with stalls yet", Machine(8 * kGiB, 6), half, 2 * kGiB, kNone, false},
      {"calm, room for a part", Machine(3 * kReserve + kGiB / 2), half, 2 * kGiB + kGiB / 2, kCalm, false},
      {"calm, room that the cache will take anyway",
       Machine(3 * kReserve + kGiB / 2),
       {2 * kGiB, kGiB, kLong},
       2 * kGiB,
       kNone,
       false},
      {"calm, room in the group that the cache will take anyway",
       Group(8 * kGiB, kGiB / 2 + 32 * kMiB),
       {2 * kGiB, kGiB, kLong},
       2 * kGiB,
       kNone,
       false},
      {"calm, room not worth it", Machine(3 * kReserve + kMiB), half, 2 * kGiB, kNone, false},
      {"calm, the last bit", Machine(8 * kGiB), {4 * kGiB - kMiB, 4 * kGiB - kMiB, kLong}, 4 * kGiB, kCalm, false},
      {"calm, a limit in the way", Group(3 * kGiB + kGiB / 2 + 16 * kMiB, kGiB), half, 2 * kGiB + kGiB / 2, kCalm,
       false},
      {"calm, the group's room in the way", Group(8 * kGiB, kGiB / 2 + 32 * kMiB), half, 2 * kGiB + kGiB / 2, kCalm,
       false},
      {"two reasons: the one that wants more", Group(5 * kGiB, -2 * kGiB), full, 2 * kGiB - 16 * kMiB, kGroupFull,
       true},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    const PressureDecision decision = DecideCacheBudget(kBounds, c.now, c.memory);
    EXPECT_EQ(decision.budget_bytes, c.budget_bytes);
    EXPECT_EQ(decision.reason, c.reason);
    EXPECT_EQ(decision.is_short, c.is_short);
  }
}

TEST(PressurePolicy, ReserveIsAShareOfTheMachineButForSmallOnes) {
  EXPECT_EQ(MachineReserveBytes({}), 0);
  EXPECT_EQ(MachineReserveBytes({.total_bytes = kGiB}), 128 * kMiB);
  EXPECT_EQ(MachineReserveBytes({.total_bytes = 4 * kGiB}), 256 * kMiB);
  EXPECT_EQ(MachineReserveBytes({.total_bytes = 100 * kGiB}), 3 * kGiB);
}

TEST(PressurePolicy, EveryReasonHasItsWords) {
  using enum PressureReason;
  for (const auto reason : {kGroupShrank, kGroupFull, kFewAvailable, kStalls, kCalm}) {
    EXPECT_NE(PressureText(reason), PressureText(kNone));
  }
}

// A machine on which everybody else keeps what he has: whatever there is, the cache finds its size once and then only grows towards it.
TEST(PressurePolicy, OwnCacheNeverMakesItSwing) {
  Rng rng(7);
  for (int machine = 0; machine < 300; ++machine) {
    SCOPED_TRACE(machine);
    const auto random = [&](int64_t most) {
      return static_cast<int64_t>(rng.NextDouble() * static_cast<double>(most));
    };
    const int64_t total = kGiB + random(30 * kGiB);
    const CacheBounds bounds = {
        .wanted_bytes = 8 * kMiB + random(total), .floor_bytes = kMiB, .other_bytes = random(kGiB)};
    const int64_t others = random(total - bounds.other_bytes);
    const int64_t limit = machine % 2 == 0 ? kPlenty : bounds.other_bytes + random(total);
    const int64_t group_others = random(kGiB);
    const bool stalls = machine % 3 == 0;
    CacheNow cache = {bounds.wanted_bytes, 0, 0};
    int64_t last_shrunk_us = 0;
    constexpr int64_t kStepUs = 100'000, kEndUs = 2000 * kStepUs * 10;
    for (int64_t now_us = 0; now_us < kEndUs; now_us += kStepUs) {
      cache.committed_bytes = std::min(cache.budget_bytes, cache.committed_bytes + 200 * kMiB);
      MemoryReading memory;
      memory.total_bytes = total;
      memory.available_bytes = std::max<int64_t>(0, total - others - bounds.other_bytes - cache.committed_bytes);
      memory.group_limit_bytes = limit;
      if (limit != kPlenty) memory.group_left_bytes = limit - group_others - bounds.other_bytes - cache.committed_bytes;
      if (stalls && memory.available_bytes < total / 20) memory.some_stalled_percent = 30;
      const PressureDecision decision = DecideCacheBudget(bounds, cache, memory);
      ASSERT_GE(decision.budget_bytes, bounds.floor_bytes);
      ASSERT_LE(decision.budget_bytes, bounds.wanted_bytes);
      if (decision.budget_bytes < cache.budget_bytes) last_shrunk_us = now_us;
      cache.calm_us = decision.is_short || decision.budget_bytes > cache.budget_bytes ? 0 : cache.calm_us + kStepUs;
      cache.budget_bytes = decision.budget_bytes;
      cache.committed_bytes = std::min(cache.committed_bytes, cache.budget_bytes);
    }
    EXPECT_LT(last_shrunk_us, kCalmBeforeGrowingUs) << "it grew and had to shrink again";
  }
}

}  // namespace
}  // namespace pantry
