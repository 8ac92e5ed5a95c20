// SPDX-License-Identifier: Apache-2.0
// FileHandles are descriptors of their own for files that are open already, past the page cache or through it.
//
// They come from the descriptor, not from the path: that may name another file by now.
#pragma once

#include <span>
#include <vector>

#include "base/status.h"
#include "io/reader.h"

namespace pantry {

class FileHandles {
 public:
  enum class Mode : uint8_t { kPastCache, kThroughCache };
  // kUnsupported: no file behind a reader, or a file system that does not read past the page cache: each file's first and last blocks are
  // tried, since some refuse when opening, some when reading and some at the end only.
  static Result<FileHandles> Open(std::span<const Reader* const> files, Mode mode);

  FileHandles(FileHandles&&) noexcept = default;
  FileHandles& operator=(FileHandles&&) = delete;
  ~FileHandles();

  int operator[](int file) const { return descriptors_[static_cast<size_t>(file)]; }

 private:
  FileHandles() = default;
  std::vector<int> descriptors_;
};

}  // namespace pantry
