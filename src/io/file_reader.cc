// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>
#include <vector>

#include "io/read_range.h"
#include "io/reader.h"
#include "sys/posix_error.h"

namespace pantry {
namespace {

// Linux transfers at most 0x7ffff000 bytes per call; a round limit below that keeps the loop the same on every system.
constexpr size_t kMaxTransferBytes = size_t{1} << 30;

// The same file once more, for reads past the page cache; -1 where its file system has none. By way of /proc, because the path may
// belong to another file by now.
int OpenPastCache([[maybe_unused]] int fd) {
#if defined(O_DIRECT)
  return open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
#else
  return -1;
#endif
}

class FileReader final : public Reader {
 public:
  FileReader(std::string path, int fd, uint64_t size)
      : path_(std::move(path)), fd_(fd), direct_fd_(OpenPastCache(fd)), size_(size), direct_works_(direct_fd_ >= 0) {}
  ~FileReader() override {
    close(fd_);
    if (direct_fd_ >= 0) close(direct_fd_);
  }
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  const std::string& path() const override { return path_; }
  uint64_t size() const override { return size_; }
  int file_descriptor() const override { return fd_; }

  Status ReadAt(uint64_t offset, std::span<uint8_t> out) const override {
    PANTRY_RETURN_IF_ERROR(CheckReadRange(path_, size_, offset, out.size()));
    while (!out.empty()) {
      const ssize_t n = pread(fd_, out.data(), std::min(out.size(), kMaxTransferBytes), static_cast<off_t>(offset));
      if (n < 0) {
        if (errno == EINTR) continue;
        return ReadError(offset, out.size(), errno);
      }
      if (n == 0) return CutError(offset);
      offset += static_cast<uint64_t>(n);
      out = out.subspan(static_cast<size_t>(n));
    }
    return OkStatus();
  }

  Result<const uint8_t*> ReadPastCache(uint64_t offset, size_t n_bytes, std::span<uint8_t> slot) const override {
    PANTRY_CHECK(slot.size() >= SlotBytes(n_bytes) && reinterpret_cast<uintptr_t>(slot.data()) % kBlockBytes == 0);
    PANTRY_RETURN_IF_ERROR(CheckReadRange(path_, size_, offset, n_bytes));
    const size_t lead = offset % kBlockBytes;
    const size_t wanted = lead + n_bytes;  // from the beginning of the first block
    const size_t asked = (wanted + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
    // After a short read, which ends with a block unless the file ended, the rest is asked for; a part of a block is read again.
    for (size_t done = 0; done < wanted && direct_works_.load(std::memory_order_relaxed);) {
      const size_t from = done / kBlockBytes * kBlockBytes;
      const ssize_t n = pread(direct_fd_, slot.data() + from, std::min(asked - from, kMaxTransferBytes),
                              static_cast<off_t>(offset - lead + from));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno != EINVAL) return ReadError(offset, n_bytes, errno);
      if (n < 0) {  // alignment to blocks is not enough for this file system, or it has changed its mind
        direct_works_.store(false, std::memory_order_relaxed);
        break;
      }
      if (from + static_cast<size_t>(n) <= done) return CutError(offset - lead + done);
      done = from + static_cast<size_t>(n);
      if (done >= wanted) return static_cast<const uint8_t*>(slot.data() + lead);
    }
    if (n_bytes == 0) return static_cast<const uint8_t*>(slot.data());
    return Reader::ReadPastCache(offset, n_bytes, slot);
  }

  // mincore(2) says it for files that are ours; of others it says that all is there.
  bool InPageCache(uint64_t offset, uint64_t n_bytes) const override {
    static const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    if (n_bytes == 0 || offset >= size_) return true;
    const uint64_t begin = offset / page * page;
    const auto length = static_cast<size_t>(offset + std::min(n_bytes, size_ - offset) - begin);
    void* const mapping = mmap(nullptr, length, PROT_READ, MAP_SHARED, fd_, static_cast<off_t>(begin));
    if (mapping == MAP_FAILED) return true;
    std::vector<unsigned char> resident((length + page - 1) / page);
    const bool known = mincore(mapping, length, resident.data()) == 0;
    munmap(mapping, length);
    return !known || std::all_of(resident.begin(), resident.end(), [](unsigned char flags) { return flags & 1; });
  }

  void WillRead(uint64_t offset, uint64_t n_bytes) const override { Advise(offset, n_bytes, POSIX_FADV_WILLNEED); }
  void DoneWith(uint64_t offset, uint64_t n_bytes) const override { Advise(offset, n_bytes, POSIX_FADV_DONTNEED); }

 private:
  // Hints only: their refusal (a network file system) changes nothing but speed.
  void Advise(uint64_t offset, uint64_t n_bytes, int advice) const {
    if (n_bytes == 0 || offset >= size_) return;  // a length of 0 would mean "to the end"
    n_bytes = std::min(n_bytes, size_ - offset);
    (void)posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(n_bytes), advice);
  }
  Status ReadError(uint64_t offset, size_t n_bytes, int error_number) const {
    return PosixError(fmt::format("{}: reading {} bytes at offset {}", path_, n_bytes, offset), error_number);
  }
  Status CutError(uint64_t offset) const {
    return IoError("{}: the file ends at offset {} but had {} bytes when it was opened: it was cut while in use", path_,
                   offset, size_);
  }

  const std::string path_;
  const int fd_;
  const int direct_fd_;
  const uint64_t size_;
  mutable std::atomic<bool> direct_works_;
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
