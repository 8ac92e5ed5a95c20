// SPDX-License-Identifier: Apache-2.0
#include "cli/doctor_report.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "base/units.h"

namespace pantry {
namespace {

constexpr double kEnough = 0.95;            // of the best rate: more threads are not worth their power
constexpr double kBusy = 0.1;               // of the time somebody waited for a CPU
constexpr int64_t kSmallFile = 512 * kMiB;  // drives cache as much

// "32 KiB": sizes that are powers of two by nature.
std::string Binary(int64_t n_bytes) {
  if (n_bytes % kMiB == 0 && n_bytes > 0) return fmt::format("{} MiB", n_bytes / kMiB);
  return n_bytes % kKiB == 0 ? fmt::format("{} KiB", n_bytes / kKiB) : fmt::format("{} B", n_bytes);
}

std::string Count(int32_t n, std::string_view what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); }

// "34.7 GB/s", "473 GOPS": three digits that matter.
std::string Rate(double per_s, std::string_view giga, std::string_view mega) {
  const double value = per_s >= 1e9 ? per_s / 1e9 : per_s / 1e6;
  const int decimals = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return fmt::format("{:.{}f} {}", value, decimals, per_s >= 1e9 ? giga : mega);
}
std::string ByteRate(double per_s) { return Rate(per_s, "GB/s", "MB/s"); }

std::string Line(std::string_view name, std::string_view text) { return fmt::format("{:<18}{}\n", name, text); }

std::string Cores(const HardwareProfile& profile) {
  std::string text = Count(profile.n_physical_cores, "core");
  if (profile.n_logical_cpus != profile.n_physical_cores) {
    text += fmt::format(", {}", Count(profile.n_logical_cpus, "logical CPU"));
  }
  if (profile.n_numa_nodes > 1) text += fmt::format(", {}", Count(profile.n_numa_nodes, "memory node"));
  const bool all = profile.n_usable_cpus == profile.n_logical_cpus;
  if (all) return text + "; all may be used";
  return text + fmt::format("; {} and {} may be used", Count(profile.n_usable_cores, "core"),
                            Count(profile.n_usable_cpus, "logical CPU"));
}

std::string Caches(const HardwareProfile& profile) {
  std::vector<std::string> parts;
  for (const CacheProfile& cache : profile.caches) {
    std::string part = fmt::format("{} {}", cache.name, Binary(cache.bytes));
    if (cache.n_instances > 1) part += fmt::format(" x {}", cache.n_instances);
    if (cache.shared_by > 1) part += fmt::format(" (each shared by {})", Count(cache.shared_by, "logical CPU"));
    parts.push_back(part);
  }
  return parts.empty() ? "unknown" : fmt::format("{}", fmt::join(parts, ", "));
}

std::string Memory(const MemoryProfile& memory) {
  std::string text = memory.total_bytes < 0 ? "unknown" : FormatBytes(memory.total_bytes);
  if (memory.available_bytes >= 0) text += fmt::format(", {} available", FormatBytes(memory.available_bytes));
  if (memory.swap_bytes >= 0) {
    text += memory.swap_bytes == 0 ? ", no swap" : fmt::format(", {} of swap", FormatBytes(memory.swap_bytes));
  }
  return text;
}

std::string Pages(const MemoryProfile& memory) {
  std::string text = memory.page_bytes > 0 ? Binary(memory.page_bytes) : "unknown";
  if (memory.huge_pages.empty()) return text;
  if (memory.huge_pages == "never") return text + ", no huge pages";
  return text + fmt::format(", huge pages of {} {}",
                            memory.huge_page_bytes > 0 ? Binary(memory.huge_page_bytes) : "unknown size",
                            memory.huge_pages == "always" ? "everywhere" : "where asked for");
}

std::string CpuTable(const HardwareProfile& profile) {
  std::string out =
      fmt::format("\n{:<10}{:>14}{:>18}{:>18}\n", "threads", "memory read", "8-bit arithmetic", "F32 arithmetic");
  for (const ThreadRate& rate : profile.dram_read_bytes_per_s) {
    out += fmt::format("{:<10}{:>14}{:>18}{:>18}\n", rate.n_threads, ByteRate(rate.per_s),
                       Rate(RateFor(profile.int8_ops_per_s, rate.n_threads), "GOPS", "MOPS"),
                       Rate(RateFor(profile.f32_flops, rate.n_threads), "GFLOPS", "MFLOPS"));
  }
  if (profile.handoff_ns > 0)
    out += fmt::format("a thread sees what another wrote after {:.0f} ns\n", profile.handoff_ns);
  return out;
}

const DiskRate* FindCell(const DiskProfile& disk, int64_t block_bytes, int32_t depth) {
  for (const DiskRate& rate : disk.random) {
    if (rate.block_bytes == block_bytes && rate.queue_depth == depth) return &rate;
  }
  return nullptr;
}

std::string DiskTable(const DiskProfile& disk) {
  std::string out =
      fmt::format("\ndisk              {}{}{}\n", disk.filesystem.empty() ? "unknown filesystem" : disk.filesystem,
                  disk.device.empty() ? "" : " on ", disk.device);
  out += Line("  file", fmt::format("{}, {}", disk.path, FormatBytes(disk.file_bytes)));
  out += Line("  front to back", ByteRate(disk.sequential_bytes_per_s));
  std::vector<int64_t> blocks;
  std::vector<int32_t> depths;
  for (const DiskRate& rate : disk.random) {
    if (std::find(blocks.begin(), blocks.end(), rate.block_bytes) == blocks.end()) blocks.push_back(rate.block_bytes);
    if (std::find(depths.begin(), depths.end(), rate.queue_depth) == depths.end()) depths.push_back(rate.queue_depth);
  }
  if (blocks.empty()) return out;
  std::sort(depths.begin(), depths.end());
  out += fmt::format("  at random, by reads under way, and how long one read takes alone\n  {:<8}", "block");
  for (const int32_t depth : depths) out += fmt::format("{:>12}", depth);
  out += fmt::format("{:>12}\n", "alone");
  for (const int64_t block : blocks) {
    out += fmt::format("  {:<8}", Binary(block));
    for (const int32_t depth : depths) {
      const DiskRate* cell = FindCell(disk, block, depth);
      out += fmt::format("{:>12}", cell == nullptr ? "-" : ByteRate(cell->bytes_per_s));
    }
    const DiskRate* alone = FindCell(disk, block, 1);
    out += fmt::format("{:>12}\n", alone == nullptr ? "-" : fmt::format("{:.0f} us", alone->latency_us));
  }
  return out;
}

// What follows, a line each.
std::vector<std::string> Verdicts(const HardwareProfile& profile) {
  std::vector<std::string> lines;
  const MemoryProfile& memory = profile.memory;
  if (memory.cgroup_limit_bytes >= 0 && (memory.total_bytes < 0 || memory.cgroup_limit_bytes < memory.total_bytes)) {
    lines.push_back(fmt::format("memory limit: {} by control group", FormatBytes(memory.cgroup_limit_bytes)));
  }
  if (profile.cpu_quota > 0) {
    lines.push_back(fmt::format("CPU limit: {:.2g} CPUs' worth of time by control group", profile.cpu_quota));
  }
  if (profile.n_usable_cpus < profile.n_logical_cpus && profile.cpu_quota == 0) {
    lines.push_back(
        fmt::format("CPU limit: {} of {} logical CPUs by affinity", profile.n_usable_cpus, profile.n_logical_cpus));
  }
  if (const double dram = BestRate(profile.dram_read_bytes_per_s); dram > 0) {
    lines.push_back(fmt::format(
        "writing an answer reads the weights once a token: at most {:.3g} tokens/s for each GB of them", dram / 1e9));
    const int32_t fewest = FewestThreadsFor(profile.dram_read_bytes_per_s, kEnough);
    if (fewest < profile.n_usable_cores) {
      lines.push_back(fmt::format("{} read{} memory as fast as all; more help{} with reading prompts",
                                  Count(fewest, "thread"), fewest == 1 ? "s" : "", ""));
    }
  }
  if (memory.huge_pages == "never") {
    lines.push_back(
        "huge pages are off, which costs some speed. Try: echo madvise | sudo tee "
        "/sys/kernel/mm/transparent_hugepage/enabled");
  }
  if (profile.disk && !profile.disk->direct) {
    lines.push_back(
        "this filesystem refuses O_DIRECT: the disk was read through the page cache, so its rates may be too good");
  }
  if (profile.disk && profile.disk->file_bytes < kSmallFile) {
    lines.push_back("the file is small: what lies below may have cached it, so the disk's rates may be too good");
  }
  if (profile.pressure.cpu > kBusy) {
    lines.push_back(fmt::format(
        "others kept the CPUs busy: tasks waited for one {:.0f} % of the time, so rates may be too low. Measure "
        "again when it is quiet",
        profile.pressure.cpu * 100));
  }
  if (profile.pressure.memory > kBusy) {
    lines.push_back(
        fmt::format("memory is short: tasks waited for it {:.0f} % of the time", profile.pressure.memory * 100));
  }
  return lines;
}

}  // namespace

std::string DoctorReport(const HardwareProfile& profile, const std::string& no_disk) {
  std::string out = Line("CPU", fmt::format("{} ({})", profile.cpu_name, profile.architecture));
  out += Line("cores", Cores(profile));
  out += Line("instruction sets", fmt::format("{}", fmt::join(profile.isas, ", ")));
  out += Line("caches", Caches(profile));
  out += Line("memory", Memory(profile.memory));
  out += Line("pages", Pages(profile.memory));
  if (!profile.dram_read_bytes_per_s.empty()) out += CpuTable(profile);
  if (profile.disk) out += DiskTable(*profile.disk);
  if (!no_disk.empty()) out += fmt::format("\n{}", Line("disk", no_disk));
  const std::vector<std::string> verdicts = Verdicts(profile);
  if (!verdicts.empty()) out += '\n';
  for (const std::string& verdict : verdicts) out += fmt::format("- {}\n", verdict);
  return out;
}

}  // namespace pantry
