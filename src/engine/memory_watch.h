// SPDX-License-Identifier: Apache-2.0
// A MemoryWatch keeps a cache of weights within what the system can spare while a program runs.
//
// It looks now and then (policy/memory/pressure_policy.h decides), and tells a person twice at most: when the cache shrinks first, and when
// it is whole again; steps in between are for the debug log. Results never depend on it, only speed does.
// Threads: one at a time. Between two looks Check() costs a look at the clock; nothing is allocated but the text of the lines.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "base/logger.h"
#include "policy/memory/pressure_policy.h"
#include "sys/memory_reading.h"

namespace pantry {

class MemoryWatch {
 public:
  static constexpr int64_t kIntervalUs = 100'000;

  // `clock` and `log` must outlive the watch. Without a `source` the system is read (sys/memory_pressure.h).
  MemoryWatch(const CacheBounds& bounds, const Clock& clock, Logger& log,
              std::unique_ptr<MemorySource> source = nullptr);

  // The budget that the cache should have from now on, unless it is to stay. Call it where the cache could give something back, with what
  // it says of itself: BlockCache::budget_bytes() and committed_bytes().
  std::optional<int64_t> Check(int64_t budget_bytes, int64_t committed_bytes);

  // So much of what the bounds gave to the rest of the process is the cache's, for now.
  void Lend(int64_t n_bytes) { lent_bytes_ = n_bytes; }

 private:
  void Tell(int64_t from_bytes, const PressureDecision& decision);

  CacheBounds Bounds() const {
    return {bounds_.wanted_bytes + lent_bytes_, bounds_.floor_bytes, bounds_.other_bytes - lent_bytes_};
  }

  const CacheBounds bounds_;
  int64_t lent_bytes_ = 0;
  const Clock& clock_;
  Logger& log_;
  const std::unique_ptr<MemorySource> source_;
  int64_t next_look_us_ = INT64_MIN;
  int64_t calm_since_us_;
  bool is_told_ = false;  // that the cache is not whole
};

}  // namespace pantry
