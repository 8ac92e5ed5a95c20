// SPDX-License-Identifier: Apache-2.0
// OpenBlockReader() chooses the way in which this machine lets us read blocks.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "base/clock.h"
#include "base/logger.h"
#include "base/status.h"
#include "io/block_reader.h"

namespace pantry {

enum class DiskAccess : uint8_t {
  kAuto,       // the first of the others that works, in their order
  kUring,      // past the page cache, one thread
  kPread,      // past the page cache, a thread for each transfer under way
  kPageCache,  // through it: what is read stays in memory, beside our own copy, as long as the system likes
};
// "auto", "io_uring", "pread", "page-cache".
std::string_view DiskAccessName(DiskAccess access);
Result<DiskAccess> ParseDiskAccess(std::string_view text);  // kInvalidArgument names them all

struct OpenBlockReaderOptions {
  DiskAccess access = DiskAccess::kAuto;
  int depth = 32;         // transfers under way; README.md has the measurement
  int most_threads = 16;  // of kPread and kPageCache: their depth is no larger
  BlockReaderOptions reads = {};

  Status Validate() const;
};

// `files` and `clock` must outlive the reader. kAuto: where something is refused, one line of `log` says what, why and what is used instead;
// files that are not on a disk (MakeMemoryReader) are read by their own means. Otherwise a refusal is the error.
Result<std::unique_ptr<BlockReader>> OpenBlockReader(std::span<const Reader* const> files,
                                                     const OpenBlockReaderOptions& options, const Clock& clock,
                                                     Logger& log);

}  // namespace pantry
