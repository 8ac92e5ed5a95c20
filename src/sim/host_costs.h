// SPDX-License-Identifier: Apache-2.0
// MeasureHostCosts() measures on this machine what a simulation needs and `pantry doctor` does not know: what streaming costs beside rates.
//
//   flash, flash_returns_together   bursts of reads into one io_uring, as a layer asks for them: until the last, and the first, is back
//   flash_most_bytes_per_s          reads given out again as they end, as a stream does
//   memory_share                    products with one row, as the model's, of what cores read by dram_read_bytes_per_s
//   flash_busy_share                reads without a break beside such products
//   dram_bytes_per_s                what both move then, products counted as the reading that memory_share makes of them
//   kick_us, read_cpu_us            of the asking thread: the first read of a burst, and each further one
//   place_bytes_per_s, or copy_...  pieces of the model's own blocks in a real stream, by a core, while others are being read
//   step_us                         a product in a loop of its own, and as one of several in a loop
//   row_bytes_per_s                 rows of the model's width are normalised and quantised
//   fresh_bytes_per_s               one core touches memory that was free so far
//   wake_us                         until a thread of the pool that slept takes part in a loop
//
// It only reads, for about four seconds, and takes 1.5 GiB of memory for a moment. Rates of cores stay as they are, but where products are faster.
// Threads: one measurement at a time, and nobody else at work: what others do counts as this machine's slowness.
#pragma once

#include <cstdint>
#include <span>

#include "base/clock.h"
#include "base/function_ref.h"
#include "base/status.h"
#include "io/disk_queue.h"
#include "residency/stream/block_placer.h"
#include "sim/device_profile.h"
#include "sys/thread_pool.h"

namespace pantry {

// Computes products with one row, several in a loop over all cores, until so many bytes of weights were read; returns how many were. 0: of one
// matrix, in a loop of its own. The weights are more than caches hold.
using OneRowReading = FunctionRef<double(double n_bytes)>;

struct HostCostsInput {
  std::span<const Reader* const> files;
  const BlockPlacer& placer;
  std::span<const int64_t> block_bytes;  // in memory, by block
  bool places_blocks = true;             // SimModel's
  OneRowReading products;                // on the pool's threads
  OneRowReading rows;                    // what lies between products, on one: bytes of activations
};

// Sets those fields of `device` and their sources. kIoError, kUnsupported; kInvalidArgument: too small a file, or no blocks.
Status MeasureHostCosts(const HostCostsInput& input, ThreadPool& pool, DeviceProfile& device);

struct BurstOptions {
  int n_repeats = 12;      // of each burst, in turns; the median counts
  int64_t pause_us = 500;  // before each: everything falls asleep, as in a run that computes meanwhile
};
// The part of it that only needs a disk: `queue` was opened for one file of n_bytes.
Status MeasureBursts(DiskQueue& queue, uint64_t n_bytes, const BurstOptions& options, const Clock& clock,
                     DeviceProfile& device);

struct BesideOptions {
  int n_repeats = 12;  // of each, in turns: products, reads, bursts of reads, both; medians count
  int64_t us = 25'000;
};
// What reads and products take from each other, and what reads without a break reach. `device` knows bursts already.
Status MeasureBeside(DiskQueue& queue, uint64_t n_bytes, OneRowReading products, const BesideOptions& options,
                     const Clock& clock, DeviceProfile& device);

}  // namespace pantry
