// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "cli/interrupt.h"
#include "sys/posix_error.h"

namespace pantry {
namespace {

// Far beyond any prompt or test text; a device that never ends must not fill the memory.
constexpr size_t kMaxFileBytes = size_t{1} << 30;

Result<std::string> ReadDescriptor(int fd, std::string_view name) {
  std::string out;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (Interrupted()) return CancelledError("interrupted");
    if (n == 0) return out;
    if (n < 0) {
      if (errno != EINTR) return PosixError(fmt::format("cannot read {}", name), errno);
      continue;
    }
    out.append(buffer, static_cast<size_t>(n));
    if (out.size() > kMaxFileBytes) return InvalidArgumentError("{} holds more than 1 GiB. Give a shorter text", name);
  }
}

}  // namespace

Status Output::Write(std::string_view text) {
  if (!status_.ok()) return status_;
  if (!text.empty()) at_line_start_ = text.back() == '\n';
  while (!text.empty()) {
    const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      reader_gone_ = errno == EPIPE;
      status_ = IoError("{}", PosixError("cannot write to standard output", errno).message());
      return status_;
    }
    text.remove_prefix(static_cast<size_t>(n));
  }
  return OkStatus();
}

Status Output::EndLine() { return at_line_start_ ? status_ : Write("\n"); }

bool Output::is_terminal() const { return isatty(STDOUT_FILENO) == 1; }

Result<std::string> ReadWholeFile(const std::string& path) {
  if (path == "-") return ReadStandardInput();
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return PosixError(fmt::format("cannot open '{}'", path), errno);
  struct stat info = {};
  Result<std::string> text = fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)
                                 ? Result<std::string>(NotFoundError("'{}' is a folder. Give a file", path))
                                 : ReadDescriptor(fd, fmt::format("'{}'", path));
  ::close(fd);
  return text;
}

Result<std::string> ReadStandardInput() { return ReadDescriptor(STDIN_FILENO, "standard input"); }

}  // namespace pantry
