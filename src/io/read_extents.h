// SPDX-License-Identifier: Apache-2.0
// ReadExtents() fetches many pieces of files, several at a time, and hands each to a consumer on the thread that read it.
//
// Each lane, a thread of its own, claims the next extent in order, reads it into its own slot of memory and consumes it there, while it
// lies in that core's cache: no queue, no barrier, no hand-off. A lane that waits for the disk uses no CPU, so there are more lanes than
// cores, and while some consume the others keep the disk busy. Memory: a slot per lane, each as large as the largest extent.
// It does not know what an extent holds, nor in which order extents finish.
// Threads: called from one; `consume` runs on the lanes, several at a time, `progress` on the calling thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/clock.h"
#include "base/status.h"
#include "io/reader.h"

namespace pantry {

struct Extent {
  const Reader* reader;
  uint64_t offset;
  size_t n_bytes;
};

// An extent that is in the page cache is copied from there. What happens to the others:
enum class PageCacheUse : uint8_t {
  kForSlowDisks,  // they are read past the cache while the disk is as fast as a copy from it; a slow disk's stay there for next time
  kNever,  // they are read past it, and what is there leaves: for files that memory cannot hold twice
};

struct ReadExtentsOptions {
  int n_lanes = 8;  // reads in flight at most
  PageCacheUse page_cache = PageCacheUse::kForSlowDisks;
  const Clock* clock = nullptr;  // that says how fast the disk is; null: a steady one. Must outlive the call.
};

// A disk is slow when it never came to this rate while so much was read past the cache: hard disks, SATA and most network disks. Copying
// from the cache, which costs CPU time and memory, does 1 to 3 GB/s.
inline constexpr uint64_t kJudgedBytes = 32 << 20;
inline constexpr uint64_t kSlowDiskBytesPerS = 600'000'000;

// Called once for each extent that was read. The bytes are gone when it returns. An error counts as one of reading the extent.
using ConsumeExtent = std::function<Status(size_t index, const uint8_t* bytes)>;
// How many bytes have been consumed: some times a second, and once with all of them. Returns false to cancel.
using ReadProgress = std::function<bool(uint64_t n_bytes)>;

// The first error in the order of `extents`, with its index in *failed; every extent before it was read, and some behind it may have
// been. kIoError, kCorruption, kOutOfBudget (slots), the consumer's; kCancelled.
Status ReadExtents(std::span<const Extent> extents, const ReadExtentsOptions& options, const ConsumeExtent& consume,
                   const ReadProgress& progress, size_t* failed);

}  // namespace pantry
