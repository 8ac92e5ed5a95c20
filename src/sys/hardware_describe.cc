// SPDX-License-Identifier: Apache-2.0
// DescribeMachine(): what /proc and /sys say of CPU, caches and memory.
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "sys/cgroup.h"
#include "sys/cpu_count.h"
#include "sys/hardware_profile.h"
#include "sys/isa.h"
#include "sys/memory_info.h"
#include "sys/proc_file.h"

namespace pantry {
namespace {

constexpr int kMaxCaches = 10;  // entries of a CPU's cache folder; real ones have four or five

std::string ReadLine(const std::string& path) {
  std::string text = ReadProcFile(path).value_or("");
  const size_t end = text.find_first_of(std::string_view("\n\0", 2));  // the device tree ends its texts with a zero
  if (end != std::string::npos) text.resize(end);
  return text;
}

// The text after "key : " in a file of such lines; "" where there is none.
std::string FindText(std::string_view text, std::string_view key) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    if (!line.starts_with(key)) continue;
    line.remove_prefix(key.size());
    const size_t colon = line.find_first_not_of(" \t");
    if (colon == std::string_view::npos || line[colon] != ':') continue;
    const size_t value = line.find_first_not_of(" \t", colon + 1);
    if (value != std::string_view::npos) return std::string(line.substr(value));
  }
  return "";
}

// x86 names the model; of an ARM, the device tree names the board, and the kernel has numbers only.
std::string CpuName(const std::string& root) {
  const std::string cpuinfo = ReadProcFile(root + "/proc/cpuinfo").value_or("");
  if (std::string name = FindText(cpuinfo, "model name"); !name.empty()) return name;
  const std::string part = FindText(cpuinfo, "CPU part");
  const std::string cpu =
      part.empty() ? "" : fmt::format("implementer {} part {}", FindText(cpuinfo, "CPU implementer"), part);
  const std::string board = ReadLine(root + "/sys/firmware/devicetree/base/model");
  if (board.empty()) return cpu.empty() ? "unknown CPU" : cpu;
  return cpu.empty() ? board : fmt::format("{} ({})", board, cpu);
}

// "32768K" -> bytes; 0 where it is no size.
int64_t CacheBytes(const std::string& text) {
  const auto number = ParseProcNumber(text);
  if (!number || *number > (INT64_MAX >> 30)) return 0;
  if (text.find('M') != std::string::npos) return *number << 20;
  return text.find('K') != std::string::npos ? *number << 10 : *number;
}

// Instruction caches are left out. Cores of two kinds give two entries of a level.
std::vector<CacheProfile> Caches(const std::vector<int>& cpus, const std::string& root) {
  using Kind = std::pair<std::string, int64_t>;     // name, bytes
  std::map<Kind, std::set<std::string>> instances;  // by the list of CPUs that share one
  for (const int cpu : cpus) {
    for (int index = 0; index < kMaxCaches; ++index) {
      const std::string folder = fmt::format("{}/sys/devices/system/cpu/cpu{}/cache/index{}/", root, cpu, index);
      const std::string level = ReadLine(folder + "level");
      if (level.empty()) break;
      const std::string type = ReadLine(folder + "type");
      const int64_t bytes = CacheBytes(ReadLine(folder + "size"));
      if (type == "Instruction" || bytes == 0) continue;
      std::string sharers = ReadLine(folder + "shared_cpu_list");
      if (sharers.empty()) sharers = fmt::format("{}", cpu);
      instances[{fmt::format("L{}{}", level, type == "Data" ? "d" : ""), bytes}].insert(sharers);
    }
  }
  std::vector<CacheProfile> caches;
  for (const auto& [kind, sharers] : instances) {
    caches.push_back({kind.first, kind.second, static_cast<int32_t>(sharers.size()),
                      static_cast<int32_t>(ParseCpuList(*sharers.begin()).size())});
  }
  return caches;
}

// The bracketed word of "always [madvise] never".
std::string ChosenWord(const std::string& text) {
  const size_t open = text.find('[');
  const size_t close = text.find(']');
  return open == std::string::npos || close == std::string::npos || close < open
             ? ""
             : text.substr(open + 1, close - open - 1);
}

int64_t Kilobytes(const std::string& meminfo, std::string_view key) {
  const auto value = FindProcValue(meminfo, key);
  return value && *value <= (INT64_MAX >> 10) ? *value << 10 : -1;
}

MemoryProfile Memory(const std::string& root) {
  const std::string meminfo = ReadProcFile(root + "/proc/meminfo").value_or("");
  const std::string huge_pages = root + "/sys/kernel/mm/transparent_hugepage/";
  MemoryProfile memory;
  memory.total_bytes = Kilobytes(meminfo, "MemTotal:");
  memory.swap_bytes = Kilobytes(meminfo, "SwapTotal:");
  memory.available_bytes = AvailableMemoryBytes(root);
  memory.cgroup_limit_bytes = CgroupMemoryLimitBytes(root);
  memory.page_bytes = sysconf(_SC_PAGESIZE);
  memory.huge_page_bytes = ParseProcNumber(ReadLine(huge_pages + "hpage_pmd_size")).value_or(-1);
  memory.huge_pages = ChosenWord(ReadLine(huge_pages + "enabled"));
  return memory;
}

// Of "some avg10=3.57 avg60=...": 0.0357.
double Pressure(const std::string& path) {
  const std::string line = ReadLine(path);
  constexpr std::string_view kKey = "some avg10=";
  double percent = -1;
  if (!line.starts_with(kKey) || !(std::istringstream(line.substr(kKey.size())) >> percent)) return -1;
  return percent >= 0 && percent <= 100 ? percent / 100 : -1;
}

}  // namespace

HardwareProfile DescribeMachine(const std::string& root) {
  HardwareProfile profile;
  profile.cpu_name = CpuName(root);
  profile.architecture = kArchitecture;
  for (const Isa isa : kBuildIsas) {
    if (IsaSupported(isa)) profile.isas.emplace_back(IsaName(isa));
  }
  const std::vector<int> usable = AllowedCpus(root);
  std::vector<int> online = ParseCpuList(ReadLine(root + "/sys/devices/system/cpu/online"));
  if (online.empty()) online = usable;
  profile.cpu_quota = CgroupCpuQuota(root);
  profile.n_logical_cpus = static_cast<int32_t>(online.size());
  profile.n_physical_cores = CountCores(online, root);
  profile.n_usable_cpus = CapByQuota(static_cast<int>(usable.size()), profile.cpu_quota);
  profile.n_usable_cores = CapByQuota(CountCores(usable, root), profile.cpu_quota);
  const size_t n_nodes = ParseCpuList(ReadLine(root + "/sys/devices/system/node/online")).size();
  profile.n_numa_nodes = std::max<int32_t>(1, static_cast<int32_t>(n_nodes));
  profile.caches = Caches(usable, root);
  profile.memory = Memory(root);
  profile.pressure = {Pressure(root + "/proc/pressure/cpu"), Pressure(root + "/proc/pressure/memory"),
                      Pressure(root + "/proc/pressure/io")};
  return profile;
}

}  // namespace pantry
