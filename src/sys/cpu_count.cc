// SPDX-License-Identifier: Apache-2.0
#include "sys/cpu_count.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <iterator>
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

constexpr int kMaxCpus = 1 << 16;  // of a list that is read

// A number of a list of CPUs, taken off `text`; -1 where there is none.
int TakeNumber(std::string_view& text) {
  int value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || value < 0 || value >= kMaxCpus) return -1;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

std::vector<int> CpusOfMask() {
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
  return cpus;
}

// The mask that /proc shows may name CPUs that are not there.
std::vector<int> CpusOfStatus(const std::string& root) {
  const std::string online_text = ReadProcFile(root + "/sys/devices/system/cpu/online").value_or("");
  std::vector<int> online = ParseCpuList(online_text);
  const std::string status = ReadProcFile(root + "/proc/self/status").value_or("");
  constexpr std::string_view kKey = "Cpus_allowed_list:\t";
  const size_t key = status.find(kKey);
  if (key == std::string::npos) return online;
  const size_t begin = key + kKey.size();
  const std::vector<int> allowed =
      ParseCpuList(std::string_view(status).substr(begin, status.find('\n', begin) - begin));
  std::vector<int> both;
  std::set_intersection(online.begin(), online.end(), allowed.begin(), allowed.end(), std::back_inserter(both));
  return both;
}

}  // namespace

std::vector<int> AllowedCpus(const std::string& root) {
  std::vector<int> cpus = root.empty() ? CpusOfMask() : CpusOfStatus(root);
  if (cpus.empty()) {
    for (int cpu = 0; cpu < std::max(1, static_cast<int>(std::thread::hardware_concurrency())); ++cpu)
      cpus.push_back(cpu);
  }
  return cpus;
}

std::vector<int> ParseCpuList(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\0')) text.remove_suffix(1);
  std::set<int> cpus;
  while (!text.empty()) {
    const int first = TakeNumber(text);
    int last = first;
    if (text.starts_with('-')) {
      text.remove_prefix(1);
      last = TakeNumber(text);
    }
    if (first < 0 || last < first || !(text.empty() || text.starts_with(','))) return {};
    for (int cpu = first; cpu <= last; ++cpu) cpus.insert(cpu);
    text.remove_prefix(std::min<size_t>(1, text.size()));
  }
  return {cpus.begin(), cpus.end()};
}

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
