// SPDX-License-Identifier: Apache-2.0
#include "cli/report_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "sys/posix_error.h"

namespace pantry {

Result<ReportFile> ReportFile::Open(const std::string& path) {
  constexpr int kHow = O_WRONLY | O_CREAT | O_CLOEXEC;
  constexpr mode_t kMode = 0666;
  ReportFile report(path);
  int fd = open(path.c_str(), kHow | O_EXCL, kMode);
  report.is_new_ = fd >= 0;
  if (fd < 0 && errno == EEXIST) fd = open(path.c_str(), kHow, kMode);
  if (fd < 0) return report.Failed(errno);
  report.file_.reset(fdopen(fd, "w"));  // which, other than fopen(), does not truncate
  if (report.file_) return report;
  const int error = errno;
  close(fd);
  return report.Failed(error);
}

ReportFile::~ReportFile() {
  if (is_new_ && !has_begun_ && file_) unlink(path_.c_str());
}

Status ReportFile::Write(std::string_view text) {
  if (!has_begun_) {
    struct stat info = {};
    const int fd = fileno(file_.get());
    if (fstat(fd, &info) != 0) return Failed(errno);
    if (S_ISREG(info.st_mode) && ftruncate(fd, 0) != 0) return Failed(errno);
    has_begun_ = true;
  }
  return std::fwrite(text.data(), 1, text.size(), file_.get()) == text.size() ? OkStatus() : Failed(errno);
}

Status ReportFile::Flush() { return std::fflush(file_.get()) == 0 ? OkStatus() : Failed(errno); }

Status ReportFile::Close() { return std::fclose(file_.release()) == 0 ? OkStatus() : Failed(errno); }

Status ReportFile::Failed(int error) const { return PosixError(fmt::format("cannot write '{}'", path_), error); }

}  // namespace pantry
