// SPDX-License-Identifier: Apache-2.0
#include "io/scratch_file.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/units.h"
#include "sys/posix_error.h"

namespace pantry {
namespace {

constexpr int64_t kPieceBytes = 4 * kMiB;

// Room for twice as much: a full disk is no harmless experiment.
Status CheckRoom(const std::string& folder, int64_t n_bytes) {
  struct statvfs info = {};
  if (statvfs(folder.c_str(), &info) != 0) return PosixError(fmt::format("cannot measure '{}'", folder), errno);
  const double n_free = static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize);
  if (n_free >= 2.0 * static_cast<double>(n_bytes)) return OkStatus();
  return IoError("cannot measure '{}': {} are free, twice the test file of {} are needed", folder,
                 FormatBytes(static_cast<int64_t>(n_free)), FormatBytes(n_bytes));
}

// Nothing that a filesystem or a drive could compress.
Status WritePiece(int fd, const std::string& folder, Rng& rng, std::vector<uint64_t>& piece, int64_t n_bytes) {
  for (uint64_t& word : piece) word = rng.NextU64();
  const uint8_t* from = reinterpret_cast<const uint8_t*>(piece.data());
  for (int64_t done = 0; done < n_bytes;) {
    const ssize_t n = write(fd, from + done, static_cast<size_t>(n_bytes - done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return PosixError(fmt::format("cannot write a test file in '{}'", folder), errno);
    done += n;
  }
  return OkStatus();
}

}  // namespace

Result<ScratchFile> ScratchFile::Make(const std::string& folder, int64_t n_bytes, double max_seconds,
                                      const Progress& progress) {
  PANTRY_RETURN_IF_ERROR(CheckRoom(folder, n_bytes));
  std::string name = folder + "/pantry-scratch-XXXXXX";
  const int fd = mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) return PosixError(fmt::format("cannot write a test file in '{}'", folder), errno);
  ScratchFile file(fd);
  (void)unlink(name.c_str());
  const auto begin = std::chrono::steady_clock::now();
  Rng rng(1);
  std::vector<uint64_t> piece(static_cast<size_t>(kPieceBytes) / sizeof(uint64_t));
  for (int64_t done = 0; done < n_bytes; done += kPieceBytes) {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
    if (passed.count() > max_seconds && done > 0) break;
    if (progress && !progress(done)) return CancelledError("interrupted");
    PANTRY_RETURN_IF_ERROR(WritePiece(fd, folder, rng, piece, std::min(kPieceBytes, n_bytes - done)));
    if (fdatasync(fd) != 0) return PosixError(fmt::format("cannot write a test file in '{}'", folder), errno);
  }
  return file;
}

ScratchFile::ScratchFile(ScratchFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

ScratchFile& ScratchFile::operator=(ScratchFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

ScratchFile::~ScratchFile() {
  if (fd_ >= 0) close(fd_);
}

std::string ScratchFile::path() const { return fmt::format("/proc/self/fd/{}", fd_); }

}  // namespace pantry
