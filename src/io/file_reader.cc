// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "io/read_range.h"
#include "io/reader.h"
#include "sys/posix_error.h"

namespace pantry {
namespace {

// Linux transfers at most 0x7ffff000 bytes per call; a round limit below that keeps the loop the same on every system.
constexpr size_t kMaxTransferBytes = size_t{1} << 30;

class FileReader final : public Reader {
 public:
  FileReader(std::string path, int fd, uint64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}
  ~FileReader() override { close(fd_); }
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  const std::string& path() const override { return path_; }
  uint64_t size() const override { return size_; }

  Status ReadAt(uint64_t offset, std::span<uint8_t> out) const override {
    PANTRY_RETURN_IF_ERROR(CheckReadRange(path_, size_, offset, out.size()));
    while (!out.empty()) {
      const ssize_t n = pread(fd_, out.data(), std::min(out.size(), kMaxTransferBytes), static_cast<off_t>(offset));
      if (n < 0) {
        if (errno == EINTR) continue;
        const int error_number = errno;
        return PosixError(fmt::format("{}: reading {} bytes at offset {}", path_, out.size(), offset), error_number);
      }
      if (n == 0) {
        return Status(
            StatusCode::kIoError,
            fmt::format("{}: the file ends at offset {} but had {} bytes when it was opened: it was cut while in use",
                        path_, offset, size_));
      }
      offset += static_cast<uint64_t>(n);
      out = out.subspan(static_cast<size_t>(n));
    }
    return OkStatus();
  }

  // Hints only: their failure (a pipe-like or network file system) changes nothing but speed.
  void WillReadSequentially(uint64_t offset, uint64_t n_bytes) const override {
    Advise(offset, n_bytes, POSIX_FADV_SEQUENTIAL);
    Advise(offset, n_bytes, POSIX_FADV_WILLNEED);
  }
  void DoneWith(uint64_t offset, uint64_t n_bytes) const override { Advise(offset, n_bytes, POSIX_FADV_DONTNEED); }

 private:
  void Advise(uint64_t offset, uint64_t n_bytes, int advice) const {
    if (n_bytes == 0 || offset >= size_) return;  // a length of 0 would mean "to the end"
    n_bytes = std::min(n_bytes, size_ - offset);
    (void)posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(n_bytes), advice);
  }

  std::string path_;
  int fd_;
  uint64_t size_;
};

}  // namespace

Result<std::unique_ptr<Reader>> OpenFileReader(const std::string& path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer. It has no effect on a regular file.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int error_number = errno;
    return PosixError(fmt::format("cannot open '{}'", path), error_number);
  }
  struct stat info{};
  if (fstat(fd, &info) != 0) {
    const int error_number = errno;
    close(fd);
    return PosixError(fmt::format("cannot stat '{}'", path), error_number);
  }
  if (!S_ISREG(info.st_mode)) {
    close(fd);
    return InvalidArgumentError("'{}' is {}, not a file; give the path of a file", path,
                                S_ISDIR(info.st_mode) ? "a directory" : "a device, pipe or socket");
  }
  return std::unique_ptr<Reader>(std::make_unique<FileReader>(path, fd, static_cast<uint64_t>(info.st_size)));
}

}  // namespace pantry
