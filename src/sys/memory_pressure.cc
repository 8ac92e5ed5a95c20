// SPDX-License-Identifier: Apache-2.0
#include "sys/memory_pressure.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

#include "sys/cgroup.h"

namespace pantry {
namespace {

// The tables of groups are the longest: about 1600 bytes in version 1, 3000 in version 2.
using Buffer = std::array<char, 8192>;

std::optional<int64_t> ReadNumber(const ProcFile& file) {
  std::array<char, 32> text;
  return ParseProcNumber(file.Read(text));
}

// The number after "avg10=" in the line that begins with `who`: "some avg10=1.53 avg60=0.87 ...".
double StalledPercent(std::string_view text, std::string_view who) {
  size_t begin = text.starts_with(who) ? 0 : text.find(who, text.find('\n'));
  if (begin == std::string_view::npos) return 0;
  constexpr std::string_view kKey = "avg10=";
  begin = text.find(kKey, begin);
  if (begin == std::string_view::npos) return 0;
  double percent = 0;
  std::from_chars(text.data() + begin + kKey.size(), text.data() + text.size(), percent);
  return percent;
}

}  // namespace

MemoryPressure::MemoryPressure(const std::string& root) : meminfo_(root + "/proc/meminfo") {
  for (const ControlGroup& group : FindControlGroups(root, "memory")) {
    if (group.is_v2 && !stalls_.is_open()) stalls_ = ProcFile(group.path + "/memory.pressure");
    ProcFile limit(group.path + (group.is_v2 ? "/memory.max" : "/memory.limit_in_bytes"));
    if (!limit.is_open()) continue;  // the root of all groups has none
    groups_.push_back({group.is_v2, std::move(limit), group.is_v2 ? ProcFile(group.path + "/memory.high") : ProcFile(),
                       ProcFile(group.path + (group.is_v2 ? "/memory.current" : "/memory.usage_in_bytes")),
                       ProcFile(group.path + "/memory.stat")});
  }
  if (!stalls_.is_open()) stalls_ = ProcFile(root + "/proc/pressure/memory");
}

void MemoryPressure::ReadGroup(const Group& group, MemoryReading& reading) {
  int64_t limit = ReadNumber(group.limit).value_or(MemoryReading::kPlenty);
  limit = std::min(limit, ReadNumber(group.high).value_or(MemoryReading::kPlenty));
  if (limit >= kNoCgroupLimit) return;
  reading.group_limit_bytes = std::min(reading.group_limit_bytes, limit);
  const std::optional<int64_t> used = ReadNumber(group.used);
  if (!used) return;
  Buffer buffer;
  const std::string_view stat = group.stat.Read(buffer);
  const int64_t cached = FindProcValue(stat, group.is_v2 ? "inactive_file" : "total_inactive_file").value_or(0) +
                         FindProcValue(stat, group.is_v2 ? "active_file" : "total_active_file").value_or(0);
  reading.group_left_bytes = std::min(reading.group_left_bytes, limit - std::max<int64_t>(0, *used - cached));
}

MemoryReading MemoryPressure::Read() {
  MemoryReading reading;
  std::array<char, 256> buffer;  // the lines wanted are the first three
  std::string_view text = meminfo_.Read(buffer);
  if (const auto kilobytes = FindProcValue(text, "MemTotal:")) reading.total_bytes = *kilobytes * 1024;
  if (const auto kilobytes = FindProcValue(text, "MemAvailable:")) reading.available_bytes = *kilobytes * 1024;
  for (const Group& group : groups_) ReadGroup(group, reading);
  text = stalls_.Read(buffer);
  reading.some_stalled_percent = StalledPercent(text, "some");
  reading.all_stalled_percent = StalledPercent(text, "full");
  return reading;
}

}  // namespace pantry
