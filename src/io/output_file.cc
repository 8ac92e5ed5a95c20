// SPDX-License-Identifier: Apache-2.0
#include "io/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/units.h"
#include "sys/posix_error.h"

namespace pantry {
namespace {

// Writers through the page cache let go of it so often.
constexpr uint64_t kDropEvery = 64 << 20;
constexpr size_t kMaxTransferBytes = size_t{1} << 30;

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

int64_t FreeBytesAt(const std::string& folder) {
  struct statvfs info = {};
  if (statvfs(folder.c_str(), &info) != 0) return -1;
  return static_cast<int64_t>(static_cast<uint64_t>(info.f_bavail) * info.f_frsize);
}

// Sets room aside: 0, or an errno. Where the file system cannot, that is no error.
int SetAside([[maybe_unused]] int fd, [[maybe_unused]] uint64_t n_bytes) {
#if defined(__linux__)
  while (fallocate(fd, 0, 0, static_cast<off_t>(n_bytes)) != 0) {
    if (errno == EINTR) continue;
    return errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL ? 0 : errno;
  }
#endif
  return 0;
}

// rename(2); without `replace` it fails with EEXIST where there is a file of that name by now.
int Rename(const std::string& from, const std::string& to, bool replace) {
#if defined(__linux__) && defined(RENAME_NOREPLACE)
  if (!replace) {
    if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
    if (errno != EINVAL && errno != ENOSYS) return errno;
  }
#endif
  if (!replace && access(to.c_str(), F_OK) == 0) return EEXIST;
  return std::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}

class DiskOutputFile final : public OutputFile {
 public:
  DiskOutputFile(std::string path, bool replace, int fd)
      : path_(std::move(path)), part_path_(path_ + ".part"), folder_(FolderOf(path_)), replace_(replace), fd_(fd) {
#if defined(O_DIRECT)
    direct_fd_ = open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_WRONLY | O_CLOEXEC | O_DIRECT);
#endif
    direct_works_ = direct_fd_ >= 0;
  }
  ~DiskOutputFile() override {
    if (!is_published_ && size() == 0) unlink(part_path_.c_str());
    if (direct_fd_ >= 0) close(direct_fd_);
    close(fd_);  // and with it the lock
  }
  DiskOutputFile(const DiskOutputFile&) = delete;
  DiskOutputFile& operator=(const DiskOutputFile&) = delete;

  const std::string& path() const override { return path_; }
  const std::string& part_path() const override { return part_path_; }
  uint64_t size() const override {
    struct stat info = {};
    return fstat(fd_, &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
  }

  Status Clear() override {
    return ftruncate(fd_, 0) == 0 ? OkStatus() : PosixError(fmt::format("cannot empty '{}'", part_path_), errno);
  }

  Status Reserve(uint64_t n_bytes) override {
    struct stat info = {};
    if (fstat(fd_, &info) != 0) return PosixError(fmt::format("cannot stat '{}'", part_path_), errno);
    const uint64_t has = static_cast<uint64_t>(info.st_blocks) * 512;
    const auto needed = static_cast<int64_t>(n_bytes > has ? n_bytes - has : 0);
    const int64_t n_free = FreeBytes();
    if (n_free >= 0 && n_free < needed) return NoRoom(needed, n_free);
    int error_number = SetAside(fd_, n_bytes);
    if (error_number == ENOSPC || error_number == EDQUOT) {
      if (ftruncate(fd_, info.st_size) != 0) return PosixError(fmt::format("cannot shorten '{}'", part_path_), errno);
      return NoRoom(needed, n_free);
    }
    if (error_number == 0 && ftruncate(fd_, static_cast<off_t>(n_bytes)) != 0) error_number = errno;
    if (error_number == 0) return OkStatus();
    return PosixError(fmt::format("cannot make '{}' {} long{}", part_path_, FormatBytes(static_cast<int64_t>(n_bytes)),
                                  error_number == EFBIG ? " (more than its file system, or a limit, allows)" : ""),
                      error_number);
  }

  Status WriteAt(uint64_t offset, std::span<const uint8_t> bytes) override {
    PANTRY_CHECK(offset % kAlignment == 0 && bytes.size() % kAlignment == 0 &&
                 reinterpret_cast<uintptr_t>(bytes.data()) % kAlignment == 0);
    const uint64_t begin = offset;
    while (!bytes.empty()) {
      const bool direct = direct_works_.load(std::memory_order_relaxed) && offset % kAlignment == 0;
      const ssize_t n = pwrite(direct ? direct_fd_ : fd_, bytes.data(), std::min(bytes.size(), kMaxTransferBytes),
                               static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && direct && errno == EINVAL) {  // no such thing on this file system after all
        direct_works_.store(false, std::memory_order_relaxed);
        continue;
      }
      if (n <= 0) {
        return PosixError(fmt::format("{}: writing {} bytes at offset {}", part_path_, bytes.size(), offset),
                          n < 0 ? errno : EIO);
      }
      offset += static_cast<uint64_t>(n);
      bytes = bytes.subspan(static_cast<size_t>(n));
    }
    if (!direct_works_.load(std::memory_order_relaxed)) DropPages(begin, offset - begin);
    return OkStatus();
  }

  Status Sync() override {
    while (fsync(fd_) != 0) {
      if (errno != EINTR) return PosixError(fmt::format("cannot write '{}' to the disk", part_path_), errno);
    }
    (void)posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
    return OkStatus();
  }

  Status Publish() override {
    PANTRY_RETURN_IF_ERROR(Sync());
    const int error_number = Rename(part_path_, path_, replace_);
    if (error_number == EEXIST) {
      return InvalidArgumentError("'{}' exists by now; what was written stays as '{}'", path_, part_path_);
    }
    if (error_number != 0)
      return PosixError(fmt::format("cannot rename '{}' to '{}'", part_path_, path_), error_number);
    is_published_ = true;
    // The name is in the folder; where folders cannot be synced, it gets to the disk when the system pleases.
    const int folder_fd = open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0) return OkStatus();
    const bool failed = fsync(folder_fd) != 0 && errno == EIO;
    close(folder_fd);
    return failed ? PosixError(fmt::format("cannot write the folder of '{}' to the disk", path_), EIO) : OkStatus();
  }

  int64_t FreeBytes() const override { return FreeBytesAt(folder_); }

 private:
  Status NoRoom(int64_t needed, int64_t n_free) const {
    return IoError(
        "the disk of '{}' is too full: {} more are needed, {} are free. Make room there, or name a file on another "
        "disk",
        path_, FormatBytes(needed), FormatBytes(std::max<int64_t>(n_free, 0)));
  }

  // What goes through the page cache is written out and dropped from time to time, so that it does not push out everything else.
  void DropPages(uint64_t offset, uint64_t n_bytes) {
    if (undropped_.fetch_add(n_bytes) + n_bytes < kDropEvery) return;
    undropped_ = 0;
#if defined(__linux__)
    (void)sync_file_range(fd_, 0, static_cast<off_t>(offset + n_bytes),
                          SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
#endif
    (void)posix_fadvise(fd_, 0, static_cast<off_t>(offset + n_bytes), POSIX_FADV_DONTNEED);
  }

  const std::string path_, part_path_, folder_;
  const bool replace_;
  const int fd_;
  int direct_fd_ = -1;
  std::atomic<bool> direct_works_ = false;
  std::atomic<uint64_t> undropped_ = 0;
  bool is_published_ = false;
};

// The part file, locked, or the errno of why not. EWOULDBLOCK: another process has it.
int OpenPart(const std::string& part_path, int* error_number) {
  const int fd = open(part_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
  if (fd < 0) return *error_number = errno, -1;
  struct stat opened = {}, named = {};
  if (flock(fd, LOCK_EX | LOCK_NB) != 0 && (errno == EWOULDBLOCK || errno == EINTR)) *error_number = EWOULDBLOCK;
  else if (fstat(fd, &opened) != 0) *error_number = errno;
  else if (!S_ISREG(opened.st_mode)) *error_number = EEXIST;
  // Whoever had the lock before may have given the file its final name in the meantime: that one is not ours to write.
  else if (stat(part_path.c_str(), &named) != 0 || named.st_ino != opened.st_ino || named.st_dev != opened.st_dev)
    *error_number = EWOULDBLOCK;
  else return fd;
  close(fd);
  return -1;
}

}  // namespace

Result<std::unique_ptr<OutputFile>> OpenOutputFile(const std::string& path, bool replace) {
  struct stat info = {};
  if (path.empty() || path.back() == '/') return InvalidArgumentError("'{}' is a folder; name a file", path);
  if (lstat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) return InvalidArgumentError("'{}' is a folder; name a file", path);
    if (!replace) return InvalidArgumentError("'{}' exists already; --force replaces it", path);
  }
  const std::string part_path = path + ".part";
  int error_number = 0;
  const int fd = OpenPart(part_path, &error_number);
  if (fd >= 0) return std::unique_ptr<OutputFile>(std::make_unique<DiskOutputFile>(path, replace, fd));
  if (error_number == EWOULDBLOCK) {
    return InvalidArgumentError("another process is writing '{}'; wait for it, or name another file", part_path);
  }
  return PosixError(fmt::format("cannot write '{}'", part_path), error_number);
}

}  // namespace pantry
