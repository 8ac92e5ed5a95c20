// SPDX-License-Identifier: Apache-2.0
// What goes into a BlockReader (block_reader.h) and comes out of it: a read, its end, the options, the counts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "io/reader.h"

namespace pantry {

enum class ReadUrgency : uint8_t { kDemand, kGuess };

// The slot begins at a multiple of Reader::kBlockBytes and has the Reader::SlotBytes(n_bytes) of its offset. It should lie in huge pages: in
// pages of 4 KiB a disk may be half as fast (README.md).
struct BlockRead {
  uint64_t tag;  // the caller's name for it, unlike that of any other read that is pending
  int file;      // index
  uint64_t offset;
  size_t n_bytes;
  uint8_t* slot;
  ReadUrgency urgency = ReadUrgency::kDemand;
};

struct BlockReadDone {
  uint64_t tag = 0;
  Status status;  // kIoError, kCorruption (behind the file's end), kCancelled; each with path and offset
  const uint8_t* bytes = nullptr;  // always slot + offset % Reader::kBlockBytes, whichever queue read them
  int64_t submitted_us = 0;        // by the clock: Submit();
  int64_t started_us = 0;          // its first transfer went to the queue;
  int64_t done_us = 0;             // its last one was seen to have ended: what a trace draws
};

struct BlockReaderOptions {
  int max_reads = 1024;  // pending at the same time; each costs 160 bytes
  int guess_depth = 4;   // transfers of guesses under way: so many at most are ahead of a demand that comes now
  // README.md has the measurement behind both.
  size_t split_bytes = 1 << 20;       // a block larger than this becomes transfers of at most so many bytes
  size_t coalesce_bytes = 256 << 10;  // neighbours become one transfer up to this
  int max_retries = 3;                // of one transfer, at once: EIO, EAGAIN, EINTR, ETIMEDOUT

  Status Validate() const;
};

struct BlockReaderStats {
  int64_t n_reads = 0;       // done without error
  int64_t bytes_wanted = 0;  // of these
  int64_t n_transfers = 0;   // given to the queue, continued and tried ones too
  int64_t bytes_read = 0;    // that came, with what alignment adds
  int64_t n_coalesced = 0;   // reads that shared the transfer of one before
  int64_t n_short = 0;       // transfers that had to be continued
  int64_t n_retries = 0;
  int64_t n_errors = 0;     // reads that failed
  int64_t n_cancelled = 0;  // reads that Cancel() took or cut short
  int64_t busy_us = 0;      // with a transfer under way, as seen from here: until Reap() or Submit() found it ended

  BlockReaderStats& operator+=(const BlockReaderStats& other) {
    for (const auto field : {&BlockReaderStats::n_reads, &BlockReaderStats::bytes_wanted,
                             &BlockReaderStats::n_transfers, &BlockReaderStats::bytes_read,
                             &BlockReaderStats::n_coalesced, &BlockReaderStats::n_short, &BlockReaderStats::n_retries,
                             &BlockReaderStats::n_errors, &BlockReaderStats::n_cancelled, &BlockReaderStats::busy_us}) {
      this->*field += other.*field;
    }
    return *this;
  }
};

}  // namespace pantry
