// SPDX-License-Identifier: Apache-2.0
// An OutputFile is a large file in the making: it is called NAME.part until it is complete, and takes its own name in one step.
//
// So nobody ever sees half a file under the name that was asked for, and a run that was interrupted is continued: what it left is in
// NAME.part, for the caller to judge. Its room is set aside at the beginning where the file system can do that, so that a disk that is too
// small says so before the first byte. Writes go past the page cache where they may.
//
//   Open -> NAME.part, locked --Reserve()--> its full size --WriteAt()...--> --Publish()--> NAME
//             | dies: stays, unless it is empty
//
// Threads: WriteAt() from any thread, all else from one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"

namespace pantry {

class OutputFile {
 public:
  static constexpr uint64_t kAlignment = 4096;

  virtual ~OutputFile() = default;
  virtual const std::string& path() const = 0;
  virtual const std::string& part_path() const = 0;
  virtual uint64_t size() const = 0;  // of NAME.part

  // Throws away what NAME.part holds.
  virtual Status Clear() = 0;
  // Makes it n_bytes long; what was not written reads as zeros. kIoError, with what is needed, what is free and where, when the disk
  // does not have the room; nothing has changed then.
  virtual Status Reserve(uint64_t n_bytes) = 0;
  // REQUIRES: offset, address and length are multiples of kAlignment, within the reserved size.
  virtual Status WriteAt(uint64_t offset, std::span<const uint8_t> bytes) = 0;
  // All that was written is on the disk, and none of it in the page cache.
  virtual Status Sync() = 0;
  // Syncs, and gives the file its name; REQUIRES: nothing is called afterwards.
  virtual Status Publish() = 0;
  // Bytes that may still be written beside those that are set aside; -1: unknown.
  virtual int64_t FreeBytes() const = 0;
};

// kInvalidArgument when `path` exists and `replace` is false; kNotFound, kIoError, kInvalidArgument: the folder, or another process writes
// the same file.
Result<std::unique_ptr<OutputFile>> OpenOutputFile(const std::string& path, bool replace);

}  // namespace pantry
