// SPDX-License-Identifier: Apache-2.0
// A MemoryReading is what the system said about memory at one moment: plain numbers, for policies and their tests.
//
// What is not known reads as if there were plenty, so nobody acts on it.
#pragma once

#include <cstdint>
#include <limits>

namespace pantry {

struct MemoryReading {
  static constexpr int64_t kPlenty = std::numeric_limits<int64_t>::max();

  int64_t total_bytes = 0;              // of the machine; 0: unknown
  int64_t available_bytes = kPlenty;    // on the machine, without swapping (MemAvailable)
  int64_t group_limit_bytes = kPlenty;  // the tightest of the control groups around this process
  int64_t group_left_bytes =
      kPlenty;  // the least that one of them leaves, page cache counted as free; below 0 right after it shrank
  double some_stalled_percent = 0;  // of the last 10 s: time in which a task waited for memory (PSI),
  double all_stalled_percent = 0;   // in which all of them did
};

// Where readings come from. Threads: one at a time.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  virtual MemoryReading Read() = 0;
};

}  // namespace pantry
