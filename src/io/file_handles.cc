// SPDX-License-Identifier: Apache-2.0
#include "io/file_handles.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "sys/aligned_buffer.h"
#include "sys/posix_error.h"

namespace pantry {
namespace {

Status RefusedError(const Reader& file, int error_number) {
  if (error_number == EINVAL || error_number == EOPNOTSUPP) {
    return UnsupportedError("{}: its file system cannot be read past the page cache (O_DIRECT)", file.path());
  }
  return PosixError(fmt::format("{}: cannot be read past the page cache", file.path()), error_number);
}

Status TryReading(const Reader& file, int descriptor) {
  if (file.size() == 0) return OkStatus();
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer block, AlignedBuffer::Allocate(Reader::kBlockBytes));
  const uint64_t last = (file.size() - 1) / Reader::kBlockBytes * Reader::kBlockBytes;
  for (const uint64_t offset : {uint64_t{0}, last}) {
    ssize_t n = 0;
    do n = pread(descriptor, block.data(), block.size(), static_cast<off_t>(offset));
    while (n < 0 && errno == EINTR);
    if (n < 0) return RefusedError(file, errno);
  }
  return OkStatus();
}

}  // namespace

Result<FileHandles> FileHandles::Open(std::span<const Reader* const> files, Mode mode) {
  FileHandles handles;
  handles.descriptors_.reserve(files.size());
  for (const Reader* file : files) {
    if (file->file_descriptor() < 0) return UnsupportedError("{}: there is no open file behind it", file->path());
    int flags = O_RDONLY | O_CLOEXEC;
    if (mode == Mode::kPastCache) {
#if defined(O_DIRECT)
      flags |= O_DIRECT;
#else
      return RefusedError(*file, EINVAL);
#endif
    }
    const int descriptor = open(fmt::format("/proc/self/fd/{}", file->file_descriptor()).c_str(), flags);
    if (descriptor < 0) {
      const int error_number = errno;
      if (mode == Mode::kPastCache) return RefusedError(*file, error_number);
      return PosixError(fmt::format("{}: cannot be opened a second time", file->path()), error_number);
    }
    handles.descriptors_.push_back(descriptor);
    if (mode == Mode::kPastCache) PANTRY_RETURN_IF_ERROR(TryReading(*file, descriptor));
  }
  return handles;
}

FileHandles::~FileHandles() {
  for (const int descriptor : descriptors_) close(descriptor);
}

}  // namespace pantry
