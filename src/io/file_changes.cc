// SPDX-License-Identifier: Apache-2.0
#include "io/file_changes.h"

#include <sys/stat.h>

#include <cerrno>

#include "sys/posix_error.h"

namespace pantry {

FileChanges::FileChanges(std::span<const Reader* const> files) {
  for (const Reader* file : files) {
    struct stat info{};
    if (file->file_descriptor() < 0 || fstat(file->file_descriptor(), &info) != 0) continue;
    marks_.push_back({file, info.st_dev, info.st_ino, info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec});
  }
}

Status FileChanges::Check() const {
  constexpr const char* kConsequence = "answers could be wrong; start again";
  for (const Mark& mark : marks_) {
    struct stat info{};
    if (fstat(mark.file->file_descriptor(), &info) != 0) {
      return PosixError(fmt::format("{}: cannot be asked whether it has changed", mark.file->path()), errno);
    }
    if (info.st_dev != mark.device || info.st_ino != mark.inode) {
      return CorruptionError("{} is another file than the one that was opened: {}", mark.file->path(), kConsequence);
    }
    if (info.st_size != mark.size) {
      return CorruptionError("{} was changed while it was being used (from {} bytes to {}): {}", mark.file->path(),
                             mark.size, info.st_size, kConsequence);
    }
    if (info.st_mtim.tv_sec != mark.written_s || info.st_mtim.tv_nsec != mark.written_ns) {
      return CorruptionError("{} was changed while it was being used (its bytes were written to): {}",
                             mark.file->path(), kConsequence);
    }
  }
  return OkStatus();
}

}  // namespace pantry
