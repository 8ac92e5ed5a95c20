// SPDX-License-Identifier: Apache-2.0
// A Reader is a range of bytes that can be read at any offset: a file, a memory image, a faulty or a counted one.
//
// All reading of model files goes through this interface, so tests can put faults, delays and counters between the disk and the engine.
// Threads: ReadAt() may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"

namespace pantry {

class Reader {
 public:
  virtual ~Reader() = default;
  virtual const std::string& path() const = 0;  // for messages
  virtual uint64_t size() const = 0;            // bytes; fixed at opening
  // The open file behind it, for others that read the same file in their own way (disk_queue.h); -1: there is none. Still the reader's.
  virtual int file_descriptor() const { return -1; }
  // Fills all of `out` from `offset`, or fails: kIoError with path and offset; kCorruption when the range ends behind size().
  virtual Status ReadAt(uint64_t offset, std::span<uint8_t> out) const = 0;

  // Past the page cache whole blocks are read, the enclosing ones: so much memory is needed for n_bytes of the file, which begin at a multiple
  // of `alignment`, a divisor of kBlockBytes.
  static constexpr size_t kBlockBytes = 4096;
  static constexpr size_t SlotBytes(size_t n_bytes, size_t alignment = 1) {
    return (n_bytes + 2 * kBlockBytes - alignment - 1) / kBlockBytes * kBlockBytes;
  }
  // As ReadAt(), but leaves no copy in the page cache where the system can do that. The bytes lie somewhere in `slot` afterwards; the
  // result says where. REQUIRES: slot begins at a multiple of kBlockBytes and has SlotBytes(n_bytes).
  virtual Result<const uint8_t*> ReadPastCache(uint64_t offset, size_t n_bytes, std::span<uint8_t> slot) const;
  // Whether all of the range lies in memory, so that ReadAt() waits for no disk. True where that cannot be known.
  virtual bool InPageCache(uint64_t offset, uint64_t n_bytes) const;
  // A hint that ReadAt() comes for the range: it is fetched in requests as large as the disk takes, and no more than that.
  virtual void WillRead(uint64_t offset, uint64_t n_bytes) const;
  // A hint that the range will not be read again: its pages may leave the page cache.
  virtual void DoneWith(uint64_t offset, uint64_t n_bytes) const;
};

// A file read with pread(2). kNotFound, kIoError; a directory or special file is kInvalidArgument.
Result<std::unique_ptr<Reader>> OpenFileReader(const std::string& path);

// Bytes in memory, for tests and fuzzing. `bytes` must outlive the reader.
std::unique_ptr<Reader> MakeMemoryReader(std::string path, std::span<const uint8_t> bytes);

}  // namespace pantry
