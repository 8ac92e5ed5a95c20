// SPDX-License-Identifier: Apache-2.0
// The limits that the control groups around this process set: how much memory and CPU time a container may use.
//
// Version 1 (a hierarchy per controller) and 2 (one hierarchy) are read, the own group and all its visible parents: a limit anywhere
// on the way up binds. Both versions can be mounted side by side.
// `root` is put before every path that is read; tests point it at a directory of their own.
// Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pantry {

// A directory of a hierarchy that holds this process, directly or through a child group.
struct ControlGroup {
  bool is_v2;
  std::string path;
};
// The own group, then its visible parents up to the mount point: of version 2, and of version 1's hierarchy of `controller`.
std::vector<ControlGroup> FindControlGroups(const std::string& root, std::string_view controller);

// Version 1 has no word for "no memory limit": it says the largest number of whole pages. Numbers from here on are none.
inline constexpr int64_t kNoCgroupLimit = INT64_MAX / 2;

// Bytes that the process may still take before its tightest memory limit, counting page cache as free. -1: no limit.
int64_t CgroupMemoryLeftBytes(const std::string& root = "");

// The tightest memory limit itself. -1: no limit.
int64_t CgroupMemoryLimitBytes(const std::string& root = "");

// CPUs' worth of time per second (1.5: one and a half). 0: no limit.
double CgroupCpuQuota(const std::string& root = "");

}  // namespace pantry
