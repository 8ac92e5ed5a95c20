// SPDX-License-Identifier: Apache-2.0
// The pressure policy decides how much a cache may hold while a program runs, from what the system says about memory at that moment.
//
// Pure: numbers in, a number and its reason out. What would end the process (a control group that shrank or is full) is answered at once and
// fully; what makes the machine slow (little available, tasks that wait for memory) by steps of a quarter at most, since others may give
// way, too. Growing back is slow, and only into room that is still there when the cache has filled it: so the cache never shrinks
// because of what it took itself.
//
//   available   0 ------- reserve ---- 1.25 ------ 2 ---------- 3 -------->
//                shrinks    ^ to here   stalls count  grows no nearer than this
//
// Threads: free functions and values.
#pragma once

#include <cstdint>
#include <string_view>

#include "sys/memory_reading.h"

namespace pantry {

// What was planned when the program started.
struct CacheBounds {
  int64_t wanted_bytes = 0;  // never more
  int64_t floor_bytes = 0;   // never less
  int64_t other_bytes = 0;   // of the process, beside its cache
};

struct CacheNow {
  int64_t budget_bytes = 0;
  int64_t committed_bytes = 0;  // of the budget: memory that the cache has
  int64_t calm_us = 0;          // since memory was last short, or the cache last grew
};

enum class PressureReason : uint8_t {
  kNone,
  kGroupShrank,   // the process as it was planned is more than its control group may hold
  kGroupFull,     // the group's limit is near, whoever took it
  kFewAvailable,  // the machine has little left
  kStalls,        // tasks wait for memory, and there is little left
  kCalm,          // nothing of that for a while
};
// For a person: "its control group may hold less now".
std::string_view PressureText(PressureReason reason);

struct PressureDecision {
  int64_t budget_bytes = 0;  // of the cache, from now on
  PressureReason reason = PressureReason::kNone;
  bool is_short = false;  // memory is, even where the cache can give nothing
};

PressureDecision DecideCacheBudget(const CacheBounds& bounds, const CacheNow& now, const MemoryReading& memory);

// What the machine should keep available, and what a control group should have left. 0: unknown.
int64_t MachineReserveBytes(const MemoryReading& memory);
int64_t GroupReserveBytes(const MemoryReading& memory);

inline constexpr int64_t kCalmBeforeGrowingUs = 30'000'000;
inline constexpr double kStalledPercent = 10;  // of the last 10 s: more is pressure; growing waits for half of it

}  // namespace pantry
