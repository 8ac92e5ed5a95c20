// SPDX-License-Identifier: Apache-2.0
#include "policy/memory/pressure_policy.h"

#include <algorithm>

#include "base/units.h"

namespace pantry {
namespace {

// The largest step, up or down, that is not a matter of life: a quarter.
constexpr int64_t kStepPart = 4;
// Smaller growth is not worth a warm cache's while.
constexpr int64_t kLeastGrowthPart = 32;

// Keeps the smallest budget that any rule demands, and who demanded it.
class Shrinking {
 public:
  explicit Shrinking(int64_t budget_bytes) : decision_{budget_bytes, PressureReason::kNone, false} {}
  void To(int64_t n_bytes, PressureReason reason) {
    decision_.is_short = true;
    if (n_bytes >= decision_.budget_bytes) return;
    decision_.budget_bytes = n_bytes;
    decision_.reason = reason;
  }
  const PressureDecision& decision() const { return decision_; }

 private:
  PressureDecision decision_;
};

// What the cache may grow by so that its whole budget, used to the last byte, still leaves every reserve alone.
int64_t RoomToGrow(const CacheBounds& bounds, const CacheNow& now, const MemoryReading& memory) {
  const int64_t untaken = now.budget_bytes - now.committed_bytes;
  const int64_t group_reserve = GroupReserveBytes(memory);
  return std::min({memory.group_limit_bytes - 2 * group_reserve - bounds.other_bytes - now.budget_bytes,
                   memory.group_left_bytes - 4 * group_reserve - untaken,
                   memory.available_bytes - 3 * MachineReserveBytes(memory) - untaken});
}

}  // namespace

std::string_view PressureText(PressureReason reason) {
  switch (reason) {
    case PressureReason::kNone: break;
    case PressureReason::kGroupShrank: return "its control group may hold less now";
    case PressureReason::kGroupFull: return "its control group is full";
    case PressureReason::kFewAvailable: return "the machine has little left";
    case PressureReason::kStalls: return "programs wait for it";
    case PressureReason::kCalm: return "there is enough again";
  }
  return "nothing";
}

// 256 MiB is what a desktop needs to stay usable, and on a machine below 2 GiB an eighth; 3 % from 8 GiB up.
int64_t MachineReserveBytes(const MemoryReading& memory) {
  return std::max(memory.total_bytes / 100 * 3, std::min(256 * kMiB, memory.total_bytes / 8));
}

// Less than the process margin of a plan whose budget is the whole limit (16 MiB), so that such a plan, fulfilled, is no emergency.
int64_t GroupReserveBytes(const MemoryReading& memory) {
  return memory.group_limit_bytes == MemoryReading::kPlenty ? 0 : std::min(8 * kMiB, memory.group_limit_bytes / 64);
}

PressureDecision DecideCacheBudget(const CacheBounds& bounds, const CacheNow& now, const MemoryReading& memory) {
  const int64_t budget = now.budget_bytes;
  const int64_t held = std::min(now.committed_bytes, budget);  // giving back starts from here
  const int64_t group_reserve = GroupReserveBytes(memory), reserve = MachineReserveBytes(memory);
  const int64_t left = memory.group_left_bytes, available = memory.available_bytes;
  const auto a_step_less = [&](int64_t missing) { return held - std::min(missing, held / kStepPart); };

  Shrinking shrinking(budget);
  if (bounds.other_bytes + budget > memory.group_limit_bytes) {
    shrinking.To(memory.group_limit_bytes - 2 * group_reserve - bounds.other_bytes, PressureReason::kGroupShrank);
  }
  if (left < group_reserve) shrinking.To(held - (2 * group_reserve - left), PressureReason::kGroupFull);
  if (available < reserve) shrinking.To(a_step_less(reserve + reserve / 4 - available), PressureReason::kFewAvailable);
  if (memory.some_stalled_percent > kStalledPercent) {
    if (available < 2 * reserve) shrinking.To(a_step_less(2 * reserve - available), PressureReason::kStalls);
    if (left < 4 * group_reserve) shrinking.To(a_step_less(4 * group_reserve - left), PressureReason::kStalls);
  }
  PressureDecision decision = shrinking.decision();
  decision.budget_bytes = std::min(budget, std::max(decision.budget_bytes, bounds.floor_bytes));
  if (decision.budget_bytes == budget) decision.reason = PressureReason::kNone;
  if (decision.is_short || budget >= bounds.wanted_bytes) return decision;

  if (now.calm_us < kCalmBeforeGrowingUs || memory.some_stalled_percent > kStalledPercent / 2) return decision;
  const int64_t lacking = bounds.wanted_bytes - budget;
  const int64_t step = std::min({lacking, bounds.wanted_bytes / kStepPart, RoomToGrow(bounds, now, memory)});
  if (step <= 0 || (step < lacking && step < bounds.wanted_bytes / kLeastGrowthPart)) return decision;
  return {budget + step, PressureReason::kCalm, false};
}

}  // namespace pantry
