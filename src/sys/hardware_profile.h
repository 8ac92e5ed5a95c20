// SPDX-License-Identifier: Apache-2.0
// A HardwareProfile is what one machine can do, measured: the rates that shares of the roofline, default options and plans come from.
//
// Plain data. `pantry doctor` fills it (sys/hardware_probe.h, io/disk_probe.h) and keeps it as JSON; everybody else reads it. A figure
// that was not measured is 0, an empty list or no value, never a guess. Rates are the best of several short passes, so they are ceilings:
// what a kernel reaches is to be divided by them.
// Threads: a value.
// Source: the hardware inputs of PowerInfer-2's planner (arXiv 2406.06282): compute, memory and storage rates by how they are used.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace pantry {

struct CacheProfile {
  std::string name;         // "L1d", "L2", "L3"
  int64_t bytes = 0;        // of one instance
  int32_t n_instances = 0;  // that the usable CPUs reach
  int32_t shared_by = 0;    // logical CPUs of one instance, usable or not
};

struct ThreadRate {
  int32_t n_threads = 0;
  double per_s = 0;
};

struct MemoryProfile {
  int64_t total_bytes = -1;      // -1: unknown, in this struct
  int64_t available_bytes = -1;  // when measured: MemAvailable and the control group's rest, whichever is less
  int64_t swap_bytes = -1;
  int64_t cgroup_limit_bytes = -1;  // the tightest limit of the own control group and its parents; -1 also: none
  int64_t page_bytes = -1;
  int64_t huge_page_bytes = -1;  // transparent ones
  std::string huge_pages;        // "always", "madvise", "never"; "" unknown
};

// How long others made tasks of this machine wait when it was measured: share of the last ten seconds; -1: unknown (no PSI).
struct PressureProfile {
  double cpu = -1;
  double memory = -1;
  double io = -1;
};

struct DiskRate {
  int64_t block_bytes = 0;
  int32_t queue_depth = 0;  // reads under way at once
  double bytes_per_s = 0;
  double latency_us = 0;  // of one read, mean
};

struct DiskProfile {
  std::string path;  // the file that was read
  int64_t file_bytes = 0;
  std::string filesystem;  // "ext4"
  std::string device;      // "/dev/nvme0n1p2"; "" unknown
  bool direct = false;     // O_DIRECT: past the page cache
  double sequential_bytes_per_s = 0;
  std::vector<DiskRate> random;  // ascending by block_bytes, then queue_depth
  std::string measured_at;
};

struct HardwareProfile {
  static constexpr int64_t kSchema = 2;  // of the JSON; another number is not read

  std::string measured_at;     // UTC, "2026-01-31T12:00:00Z"
  std::string pantry_version;  // that measured

  std::string cpu_name;
  std::string architecture;       // "x86-64"
  std::vector<std::string> isas;  // levels that CPU and system run, by IsaName(), ascending: the last is used
  int32_t n_logical_cpus = 0;     // online in the machine
  int32_t n_physical_cores = 0;   // online in the machine
  int32_t n_usable_cpus = 0;      // logical; affinity and quota respected
  int32_t n_usable_cores = 0;     // the default thread count
  double cpu_quota = 0;           // CPUs' worth of time, by control group; 0: none
  int32_t n_numa_nodes = 1;
  std::vector<CacheProfile> caches;
  MemoryProfile memory;
  PressureProfile pressure;

  // By thread count, ascending: 1, 2, 4, ... up to the usable cores, then the usable logical CPUs where there are more.
  std::vector<ThreadRate> dram_read_bytes_per_s;
  std::vector<ThreadRate> int8_ops_per_s;  // 8-bit dot products with 32-bit sums; a multiply and an add are 2
  std::vector<ThreadRate> f32_flops;       // likewise
  double handoff_ns =
      0;  // from a thread's write until another thread has seen it: what a step of parallel work costs at each end

  std::optional<DiskProfile> disk;
};

// The rate for a thread count: measured, or between its measured neighbours; above the last one, the last. 0: nothing measured.
double RateFor(const std::vector<ThreadRate>& rates, int32_t n_threads);
double BestRate(const std::vector<ThreadRate>& rates);  // of all thread counts
// The fewest threads that reach `share` of the best rate; 0: nothing measured.
int32_t FewestThreadsFor(const std::vector<ThreadRate>& rates, double share);

std::string ToJson(const HardwareProfile& profile);  // indented, ends with a newline
// kCorruption names `origin`, the field, and what was expected; kUnsupported: another schema.
Result<HardwareProfile> HardwareProfileFromJson(std::string_view json, std::string_view origin);

// kNotFound: `pantry doctor` was not run yet. Otherwise as above, and kIoError.
Result<HardwareProfile> LoadHardwareProfile(const std::string& path);
// Makes the folder; the file is there whole or not at all. kIoError.
Status SaveHardwareProfile(const HardwareProfile& profile, const std::string& path);

// Everything that needs no measuring: CPU, caches, memory, pressure; the rates are left empty. `root` comes before /proc and /sys.
HardwareProfile DescribeMachine(const std::string& root = "");

// "" while `stored` speaks of the machine that `now` describes, else what differs: "it was measured on 8 usable CPUs, now there are 4".
std::string WhyStale(const HardwareProfile& stored, const HardwareProfile& now);

}  // namespace pantry
