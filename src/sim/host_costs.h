// SPDX-License-Identifier: Apache-2.0
// MeasureHostCosts() measures on this machine what a simulation needs and `pantry doctor` does not know: what streaming costs beside rates.
//
//   flash, flash_returns_together   bursts of reads into one io_uring, as a layer asks for them: until the last, and the first, is back
//   flash_busy_share                the same while other threads read memory
//   kick_us, read_cpu_us            of the asking thread: the first read of a burst, and each further one
//   place_bytes_per_s, or copy_...  the model's own blocks into memory that is not in a core's cache, on all threads of the pool
//   fresh_bytes_per_s               one core touches memory that was free so far
//   wake_us                         until a thread of the pool that slept takes part in a loop
//
// It only reads, for about two seconds. Rates of memory and arithmetic stay as they are.
// Threads: one measurement at a time, and nobody else at work: what others do counts as this machine's slowness.
#pragma once

#include <cstdint>
#include <span>

#include "base/clock.h"
#include "base/status.h"
#include "io/disk_queue.h"
#include "residency/stream/block_placer.h"
#include "sim/device_profile.h"
#include "sys/thread_pool.h"

namespace pantry {

struct HostCostsInput {
  std::span<const Reader* const> files;
  const BlockPlacer& placer;
  std::span<const int64_t> block_bytes;  // in memory, by block
  bool places_blocks = true;             // SimModel's
};

// Sets those fields of `device` and their sources. kIoError, kUnsupported; kInvalidArgument: too small a file, or no blocks.
Status MeasureHostCosts(const HostCostsInput& input, ThreadPool& pool, DeviceProfile& device);

struct BurstOptions {
  int n_repeats = 5;       // of each burst; the median counts
  int64_t pause_us = 500;  // before each: everything falls asleep, as in a run that computes meanwhile
};
// The part of it that only needs a disk: `queue` was opened for one file of n_bytes.
Status MeasureBursts(DiskQueue& queue, uint64_t n_bytes, const BurstOptions& options, const Clock& clock,
                     DeviceProfile& device);

}  // namespace pantry
