// SPDX-License-Identifier: Apache-2.0
#include "sys/memory_info.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "sys/cgroup.h"
#include "sys/proc_file.h"

namespace pantry {
namespace {

// A "key: N kB" line in bytes; -1 where there is none.
int64_t ReadKilobytes(const std::string& path, std::string_view key) {
  const auto text = ReadProcFile(path);
  if (!text) return -1;
  const std::optional<int64_t> value = FindProcValue(*text, key);
  return value ? *value * 1024 : -1;
}

}  // namespace

int64_t AvailableMemoryBytes(const std::string& root) {
  const int64_t system = ReadKilobytes(root + "/proc/meminfo", "MemAvailable:");
  const int64_t cgroup = CgroupMemoryLeftBytes(root);
  if (system < 0 || cgroup < 0) return std::max(system, cgroup);
  return std::min(system, cgroup);
}

int64_t ResidentSetBytes() { return ReadKilobytes("/proc/self/status", "VmRSS:"); }

int64_t PeakResidentSetBytes() { return ReadKilobytes("/proc/self/status", "VmHWM:"); }

}  // namespace pantry
