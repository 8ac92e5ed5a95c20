// SPDX-License-Identifier: Apache-2.0
// What the system says about memory: what is free for us, what we use.
#pragma once

#include <cstdint>
#include <string>

namespace pantry {

// Bytes this process could still take without swapping: the smaller of MemAvailable and what its cgroup (v1 or v2) leaves.
// -1 where the system does not say. `root` comes before /proc and /sys.
int64_t AvailableMemoryBytes(const std::string& root = "");

int64_t ResidentSetBytes();      // now; -1 unknown
int64_t PeakResidentSetBytes();  // since start; -1 unknown

}  // namespace pantry
