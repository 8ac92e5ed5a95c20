// SPDX-License-Identifier: Apache-2.0
// ProbeDisk() measures how fast a file can be read: at random places by block size and queue depth, and from front to back.
//
// It reads past the page cache (O_DIRECT), and where that is refused through it, dropping what was read. It only reads, and for a bounded
// time. The depth is real: as many threads as reads under way. What lies below may still cache: a drive or a hypervisor knows a small
// file by heart after some passes, so a file of a gigabyte and more tells more.
// Threads: one measurement of a disk at a time, or they share its rate.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/units.h"
#include "sys/hardware_profile.h"

namespace pantry {

struct DiskProbeOptions {
  std::vector<int64_t> block_bytes = {4 * kKiB,   16 * kKiB, 64 * kKiB,
                                      256 * kKiB, kMiB,      4 * kMiB};  // multiples of 4 KiB
  std::vector<int32_t> queue_depths = {1, 4, 16, 32};
  double cell_seconds = 0.15;  // for one block size and depth; one that could not end in thrice the time is left out
  double sequential_seconds = 0.6;
  double max_seconds = 10;       // of all; what is not done then is left out
  int64_t max_buffer_bytes = 0;  // blocks times depth; 0: an eighth of the free memory at most
  bool direct = true;            // false: do not try O_DIRECT
  uint64_t seed = 1;             // of the places
};

// Called before each cell with what is being measured ("disk, 4 KiB x 16"). false: stop.
using DiskProbeProgress = std::function<bool(std::string_view what)>;

// kNotFound, kIoError; kInvalidArgument where the file is too small for a single block; kCancelled when `progress` said so.
Result<DiskProfile> ProbeDisk(const std::string& path, const DiskProbeOptions& options,
                              const DiskProbeProgress& progress);

// The filesystem and the device that `path` lies on, by <root>/proc/self/mountinfo; empty where unknown.
struct MountedOn {
  std::string filesystem;
  std::string device;
};
MountedOn FindMount(const std::string& path, const std::string& root = "");

}  // namespace pantry
