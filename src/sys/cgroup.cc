// SPDX-License-Identifier: Apache-2.0
#include "sys/cgroup.h"

#include <algorithm>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

#include "sys/proc_file.h"

namespace pantry {
namespace {

bool HasItem(std::string_view comma_list, std::string_view item) {
  for (size_t begin = 0; begin <= comma_list.size();) {
    const size_t end = std::min(comma_list.find(',', begin), comma_list.size());
    if (comma_list.substr(begin, end - begin) == item) return true;
    begin = end + 1;
  }
  return false;
}

// The own group's path in the hierarchy of `controller` ("" for version 2), from lines "id:controllers:path".
std::optional<std::string> OwnPath(const std::string& self_cgroup, bool is_v2, std::string_view controller) {
  std::istringstream lines(self_cgroup);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    if (first == std::string::npos) continue;
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool match = is_v2 ? controllers.empty() : HasItem(controllers, controller);
    if (match) return line.substr(second + 1);
  }
  return std::nullopt;
}

// Adds the own group and its parents up to the mount point. `mount_root` is the group that is mounted there: in a container often the
// container's own, so that only a part of the path, or nothing, is visible below the mount point.
void AddGroups(bool is_v2, const std::string& mount_point, std::string_view mount_root, std::string_view own_path,
               std::vector<ControlGroup>* groups) {
  std::string below(own_path);
  if (mount_root != "/") {
    const bool inside = own_path.starts_with(mount_root) &&
                        (own_path.size() == mount_root.size() || own_path[mount_root.size()] == '/');
    below = inside ? std::string(own_path.substr(mount_root.size())) : "";
  }
  if (below.find("/..") != std::string::npos) below.clear();  // outside of our cgroup namespace
  while (!below.empty() && below != "/") {
    groups->push_back({is_v2, mount_point + below});
    below.resize(below.rfind('/'));
  }
  groups->push_back({is_v2, mount_point});
}

// A file that holds one number; nothing for "max", -1 or a missing file.
std::optional<int64_t> ReadNumber(const std::string& path) {
  const auto text = ReadProcFile(path);
  return text ? ParseProcNumber(*text) : std::nullopt;
}

std::optional<int64_t> MemoryLimit(const ControlGroup& group) {
  const bool v2 = group.is_v2;
  std::optional<int64_t> limit = ReadNumber(group.path + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
  if (v2) {
    if (const auto high = ReadNumber(group.path + "/memory.high")) limit = std::min(limit.value_or(*high), *high);
  }
  return limit && *limit < kNoCgroupLimit ? limit : std::nullopt;
}

std::optional<int64_t> MemoryLeft(const ControlGroup& group) {
  const bool v2 = group.is_v2;
  const auto limit = MemoryLimit(group);
  const auto used = ReadNumber(group.path + (v2 ? "/memory.current" : "/memory.usage_in_bytes"));
  if (!limit || !used) return std::nullopt;
  const std::string stat = ReadProcFile(group.path + "/memory.stat").value_or("");
  const int64_t cached = FindProcValue(stat, v2 ? "inactive_file" : "total_inactive_file").value_or(0) +
                         FindProcValue(stat, v2 ? "active_file" : "total_active_file").value_or(0);
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *used - cached));
}

double CpuQuota(const ControlGroup& group) {
  int64_t quota = 0, period = 0;
  if (group.is_v2) {
    std::istringstream(ReadProcFile(group.path + "/cpu.max").value_or("")) >> quota >>
        period;  // "max 100000" leaves both 0
  } else {
    quota = ReadNumber(group.path + "/cpu.cfs_quota_us").value_or(0);
    period = ReadNumber(group.path + "/cpu.cfs_period_us").value_or(0);
  }
  return quota > 0 && period > 0 ? static_cast<double>(quota) / static_cast<double>(period) : 0;
}

}  // namespace

std::vector<ControlGroup> FindControlGroups(const std::string& root, std::string_view controller) {
  std::vector<ControlGroup> groups;
  const std::string self_cgroup = ReadProcFile(root + "/proc/self/cgroup").value_or("");
  std::istringstream lines(ReadProcFile(root + "/proc/self/mountinfo").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    // id parent major:minor mount_root mount_point options [tags...] - type source super_options
    const size_t separator = line.find(" - ");
    if (separator == std::string::npos) continue;
    std::string id, parent, device, mount_root, mount_point, type, source, options;
    std::istringstream(line.substr(0, separator)) >> id >> parent >> device >> mount_root >> mount_point;
    std::istringstream(line.substr(separator + 3)) >> type >> source >> options;
    const bool is_v2 = type == "cgroup2";
    if (!is_v2 && !(type == "cgroup" && HasItem(options, controller))) continue;
    if (const auto own = OwnPath(self_cgroup, is_v2, controller)) {
      AddGroups(is_v2, root + mount_point, mount_root, *own, &groups);
    }
  }
  return groups;
}

int64_t CgroupMemoryLeftBytes(const std::string& root) {
  int64_t least = -1;
  for (const ControlGroup& group : FindControlGroups(root, "memory")) {
    const auto left = MemoryLeft(group);
    if (left && (least < 0 || *left < least)) least = *left;
  }
  return least;
}

int64_t CgroupMemoryLimitBytes(const std::string& root) {
  int64_t least = -1;
  for (const ControlGroup& group : FindControlGroups(root, "memory")) {
    const auto limit = MemoryLimit(group);
    if (limit && (least < 0 || *limit < least)) least = *limit;
  }
  return least;
}

double CgroupCpuQuota(const std::string& root) {
  double least = 0;
  for (const ControlGroup& group : FindControlGroups(root, "cpu")) {
    const double quota = CpuQuota(group);
    if (quota > 0 && (least == 0 || quota < least)) least = quota;
  }
  return least;
}

}  // namespace pantry
