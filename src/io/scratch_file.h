// SPDX-License-Identifier: Apache-2.0
// A ScratchFile is a file of random bytes that nobody else sees, to measure a disk with; its space is free again when it dies, or we do.
//
// It has no name in its folder: path() goes through /proc, so it works on Linux only.
// Threads: thread-compatible.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/status.h"

namespace pantry {

class ScratchFile {
 public:
  // Called now and then with the bytes written. false: stop.
  using Progress = std::function<bool(int64_t n_bytes)>;

  // Writes until n_bytes or max_seconds are over, and to the disk itself. kNotFound, kIoError: the folder, or no room for twice the file.
  static Result<ScratchFile> Make(const std::string& folder, int64_t n_bytes, double max_seconds,
                                  const Progress& progress);
  ScratchFile(ScratchFile&& other) noexcept;
  ScratchFile& operator=(ScratchFile&& other) noexcept;
  ~ScratchFile();

  std::string path() const;  // can be opened while this lives

 private:
  explicit ScratchFile(int fd) : fd_(fd) {}
  int fd_ = -1;
};

}  // namespace pantry
