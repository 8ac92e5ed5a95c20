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
  // Fills all of `out` from `offset`, or fails: kIoError with path and offset; kCorruption when the range ends behind size().
  virtual Status ReadAt(uint64_t offset, std::span<uint8_t> out) const = 0;
  // A hint that the range will be read once, soon and in order. Costs nothing where it has no meaning.
  virtual void WillReadSequentially(uint64_t offset, uint64_t n_bytes) const;
  // A hint that the range will not be read again: its pages may leave the page cache.
  virtual void DoneWith(uint64_t offset, uint64_t n_bytes) const;
};

// A file read with pread(2). kNotFound, kIoError; a directory or special file is kInvalidArgument.
Result<std::unique_ptr<Reader>> OpenFileReader(const std::string& path);

// Bytes in memory, for tests and fuzzing. `bytes` must outlive the reader.
std::unique_ptr<Reader> MakeMemoryReader(std::string path, std::span<const uint8_t> bytes);

}  // namespace pantry
