// SPDX-License-Identifier: Apache-2.0
// A DiskQueue carries transfers from files into memory, up to depth() at a time, and says when each has ended.
//
// It is the thin shell around the system: it neither splits, nor orders, nor retries, nor continues a short transfer. BlockReader
// (block_reader.h) does all that once for every queue. Real ones: io_uring, threads with pread(2) past the page cache, the same through
// it. Beside them: one over any Reader (memory, tests), a faulty one (faulty_queue.h), a simulated one (simulated_queue.h).
// Threads: one at a time, not always the same.
// Memory: after construction nothing is allocated. A queue that dies first waits for what it has handed to the system, so that
// nothing is written into memory that is no longer the caller's.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/status.h"
#include "io/reader.h"

namespace pantry {

struct Transfer {
  uint32_t id;  // comes back with the result; below depth(), and of one transfer at a time
  int file;     // index into the files that the queue was opened with
  uint64_t offset;
  std::span<const iovec> to;  // filled in order. The list and the memory stay as they are until the transfer has ended.
};

// n_bytes: -errno where it failed; 0 where nothing lies behind the offset; else what came, which may be less than was asked for any reason.
struct TransferEnd {
  uint32_t id;
  int64_t n_bytes;
};

class DiskQueue {
 public:
  static constexpr int64_t kForever = -1;

  virtual ~DiskQueue() = default;
  virtual std::string_view name() const = 0;  // "io_uring"
  // Of offsets, lengths and memory: Reader::kBlockBytes past the page cache, else 1. The last block of a file is asked for as a whole.
  virtual size_t alignment() const = 0;
  virtual int depth() const = 0;
  // REQUIRES: fewer than depth() are under way. It may begin only with Flush() or Wait().
  virtual void Start(const Transfer& transfer) = 0;
  virtual void Flush() = 0;
  // Those that have ended since, in the order in which that was seen. Waits for one as long as `timeout_us` (0: not at all; kForever)
  // while any is under way; may return 0 before its time (a signal).
  virtual size_t Wait(std::span<TransferEnd> out, int64_t timeout_us) = 0;
};

// Each for the same files, which must outlive the queue. kUnsupported and others where the system refuses, with the file or the call
// that it refused.
using OpenDiskQueue = Result<std::unique_ptr<DiskQueue>> (*)(std::span<const Reader* const> files, int depth);

// One thread submits and the kernel keeps the depth; past the page cache.
Result<std::unique_ptr<DiskQueue>> OpenUringQueue(std::span<const Reader* const> files, int depth);
// As many threads as the depth, asleep in pread(2); past the page cache, or through it.
Result<std::unique_ptr<DiskQueue>> OpenPreadQueue(std::span<const Reader* const> files, int depth);
Result<std::unique_ptr<DiskQueue>> OpenPageCacheQueue(std::span<const Reader* const> files, int depth);
// Reader::ReadAt() in Wait(): any reader, nothing at the same time. Its errors become EIO.
Result<std::unique_ptr<DiskQueue>> OpenReaderQueue(std::span<const Reader* const> files, int depth);

// What a transfer from `file` brings, read with ReadAt(): the n_bytes of its end.
int64_t ReadTransfer(const Reader& file, const Transfer& transfer);

}  // namespace pantry
