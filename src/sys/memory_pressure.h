// SPDX-License-Identifier: Apache-2.0
// A MemoryPressure tells again and again how short memory is: on the machine, and in the control groups around this process.
//
// Unlike memory_info.h it is made for a running program: limits may change while it looks. Files are opened once and read anew each time,
// a few of them (README.md has what a reading costs), and a reading allocates nothing. What cannot be read is plenty, never an error.
// It looks at the groups in which the process was when it was made.
// Stalls are those of the own group (version 2), of the nearest parent that tells them, or of the machine.
// Threads: one at a time.
#pragma once

#include <string>
#include <vector>

#include "sys/memory_reading.h"
#include "sys/proc_file.h"

namespace pantry {

class MemoryPressure final : public MemorySource {
 public:
  // `root` comes before every path that is read.
  explicit MemoryPressure(const std::string& root = "");
  MemoryReading Read() override;

 private:
  struct Group {
    bool is_v2;
    ProcFile limit;
    ProcFile high;  // version 2's softer limit
    ProcFile used;
    ProcFile stat;
  };
  static void ReadGroup(const Group& group, MemoryReading& reading);

  std::vector<Group> groups_;
  ProcFile meminfo_;
  ProcFile stalls_;
};

}  // namespace pantry
