// SPDX-License-Identifier: Apache-2.0
#include "sys/cpu_count.h"

#include <algorithm>
#include <cerrno>
#include <set>
#include <thread>

#include "base/status.h"
#include "sys/cgroup.h"
#include "sys/proc_file.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace pantry {
namespace {

// The CPUs that the scheduler may put us on.
std::vector<int> AllowedCpus() {
  std::vector<int> cpus;
#if defined(__linux__)
  for (int n_max = 1024; n_max <= (1 << 20);
       n_max *= 2) {  // the call fails with EINVAL while the mask is shorter than the kernel's
    cpu_set_t* mask = CPU_ALLOC(n_max);
    if (mask == nullptr) break;
    const size_t size = CPU_ALLOC_SIZE(n_max);
    CPU_ZERO_S(size, mask);
    const bool known = sched_getaffinity(0, size, mask) == 0;
    const bool too_short = !known && errno == EINVAL;
    for (int cpu = 0; known && cpu < n_max; ++cpu) {
      if (CPU_ISSET_S(static_cast<size_t>(cpu), size, mask)) cpus.push_back(cpu);
    }
    CPU_FREE(mask);
    if (!too_short) break;
  }
#endif
  if (cpus.empty()) {
    for (int cpu = 0; cpu < std::max(1, static_cast<int>(std::thread::hardware_concurrency())); ++cpu)
      cpus.push_back(cpu);
  }
  return cpus;
}

}  // namespace

int CountCores(const std::vector<int>& cpus, const std::string& root) {
  std::set<std::string> cores;
  for (const int cpu : cpus) {
    const std::string topology = fmt::format("{}/sys/devices/system/cpu/cpu{}/topology/", root, cpu);
    auto siblings = ReadProcFile(topology + "core_cpus_list");
    if (!siblings) siblings = ReadProcFile(topology + "thread_siblings_list");  // the name before Linux 5.3
    cores.insert(siblings && !siblings->empty() ? *siblings : fmt::format("cpu{}", cpu));
  }
  return static_cast<int>(cores.size());
}

int CapByQuota(int n_cpus, double quota) {
  if (quota > 0 && quota < n_cpus) n_cpus = static_cast<int>(quota);
  return std::max(1, n_cpus);
}

int UsableCpuCount() { return CapByQuota(static_cast<int>(AllowedCpus().size()), CgroupCpuQuota()); }

int PhysicalCoreCount() { return CapByQuota(CountCores(AllowedCpus()), CgroupCpuQuota()); }

}  // namespace pantry
