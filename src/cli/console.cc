// SPDX-License-Identifier: Apache-2.0
#include "cli/console.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>

#include "sys/posix_error.h"
#include "weights/gguf/gguf_cursor.h"

namespace pantry {
namespace {

constexpr std::string_view kDim = "\x1b[2m";
constexpr std::string_view kRed = "\x1b[31m";
constexpr std::string_view kYellow = "\x1b[33m";
constexpr std::string_view kReset = "\x1b[0m";
constexpr std::string_view kEraseLine = "\r\x1b[K";

constexpr auto kRedrawEvery = std::chrono::milliseconds(100);
constexpr auto kFirstPlainLine = std::chrono::seconds(1);
constexpr auto kPlainLineEvery = std::chrono::seconds(5);

// Standard error may be gone; there is nobody left to tell.
void WriteAll(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(STDERR_FILENO, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text.remove_prefix(static_cast<size_t>(n));
  }
}

size_t TerminalColumns() {
  winsize size = {};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

int RequiredVerbosity(LogLevel level) {
  switch (level) {
    case LogLevel::kError: return 0;
    case LogLevel::kWarning: return 1;
    case LogLevel::kInfo: return 2;
    case LogLevel::kDebug: return 3;
  }
  return 0;
}

std::string_view Prefix(LogLevel level) {
  return level == LogLevel::kError ? "error: " : level == LogLevel::kWarning ? "warning: " : "";
}

}  // namespace

std::string PrintableText(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t n = std::min(text.find_first_of("\n\t\\"), text.size());  // Printable() would escape these too
    out += Printable(text.substr(0, n), SIZE_MAX);
    if (n < text.size()) out += text[n];
    text.remove_prefix(std::min(n + 1, text.size()));
  }
  return out;
}

Console::Console() { Configure(ConsoleOptions()); }
Console::~Console() { EndProgress(); }

void Console::Configure(const ConsoleOptions& options) {
  const std::lock_guard lock(mutex_);
  options_ = options;
  const char* term = std::getenv("TERM");
  is_terminal_ = isatty(STDERR_FILENO) == 1 && (term == nullptr || std::string_view(term) != "dumb");
  const char* no_color = std::getenv("NO_COLOR");
  color_ = options.color && is_terminal_ && (no_color == nullptr || *no_color == '\0');
}

Status Console::OpenLogFile(const std::string& path) {
  const std::lock_guard lock(mutex_);
  log_file_.reset(std::fopen(path.c_str(), "ae"));
  return log_file_ ? OkStatus() : PosixError(fmt::format("cannot write log file '{}'", path), errno);
}

void Console::Write(LogLevel level, std::string_view text) {
  const std::string line = PrintableText(text);  // a message may quote a hostile file
  const std::lock_guard lock(mutex_);
  const std::string_view style = level == LogLevel::kError ? kRed : level == LogLevel::kWarning ? kYellow : kDim;
  LogLocked(fmt::format("{}{}", Prefix(level), line));
  if (options_.verbosity < RequiredVerbosity(level)) return;
  EraseProgressLocked();
  const std::string_view prefix = Prefix(level);
  if (prefix.empty()) {
    WriteLocked(line, style);
  } else {  // only the word is coloured: the message is to be read
    const std::string head = color_ ? fmt::format("{}{}{}", style, prefix, kReset) : std::string(prefix);
    WriteAll(fmt::format("{}{}\n", head, line));
  }
}

void Console::Note(std::string_view line) { Write(LogLevel::kInfo, line); }

void Console::Progress(std::string_view line) {
  const std::lock_guard lock(mutex_);
  if (options_.verbosity < 2) return;
  const Time now = std::chrono::steady_clock::now();
  if (!progress_active_) {
    progress_active_ = true;
    next_progress_ =
        is_terminal_ ? now + kRedrawEvery : now + kFirstPlainLine;  // what is over in a blink shows nothing
  }
  if (now < next_progress_) return;
  next_progress_ = now + (is_terminal_ ? kRedrawEvery : std::chrono::milliseconds(kPlainLineEvery));
  if (!is_terminal_) {
    WriteLocked(line, {});
    return;
  }
  const std::string_view cut = line.substr(0, std::min(line.size(), TerminalColumns() - 1));
  WriteAll(color_ ? fmt::format("{}{}{}{}", kEraseLine, kDim, cut, kReset) : fmt::format("{}{}", kEraseLine, cut));
  progress_shown_ = true;
}

void Console::EndProgress() {
  const std::lock_guard lock(mutex_);
  EraseProgressLocked();
  progress_active_ = false;
}

void Console::Plain(std::string_view text) {
  const std::lock_guard lock(mutex_);
  EraseProgressLocked();
  WriteAll(text);
}

void Console::WriteLocked(std::string_view text, std::string_view style) {
  WriteAll(color_ && !style.empty() ? fmt::format("{}{}{}\n", style, text, kReset) : fmt::format("{}\n", text));
}

void Console::LogLocked(std::string_view line) {
  if (!log_file_) return;
  fmt::print(log_file_.get(), "{}\n", line);
  std::fflush(log_file_.get());
}

void Console::EraseProgressLocked() {
  if (!progress_shown_) return;
  WriteAll(kEraseLine);
  progress_shown_ = false;
}

}  // namespace pantry
