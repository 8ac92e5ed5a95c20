// SPDX-License-Identifier: Apache-2.0
// A Console is standard error as a person sees it: messages, a progress line that is redrawn in place, the footer.
//
// On a terminal a progress line is overwritten; elsewhere (a pipe, a log) a plain line appears now and then, so that a wait of more than
// a second never looks like a hang. Standard output is not its business: see output.h.
// Threads: any.
#pragma once

#include <chrono>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/logger.h"
#include "base/status.h"

namespace pantry {

struct ConsoleOptions {
  int32_t verbosity = 2;  // 0 errors, 1 warnings, 2 info, 3 debug
  bool color = true;      // where standard error is a terminal
};

// Text of a file as a terminal may see it: control characters are escaped, but newlines and tabs stay.
std::string PrintableText(std::string_view text);

class Console final : public Logger {
 public:
  Console();
  ~Console() override;

  void Configure(const ConsoleOptions& options);
  Status OpenLogFile(const std::string& path);

  void Write(LogLevel level, std::string_view line) override;
  void Error(std::string_view line) { Write(LogLevel::kError, line); }
  // A line of figures that belongs to an answer: dimmed, shown at verbosity 2.
  void Note(std::string_view line);
  // Shows how far a wait has come; replaces the last such line. Cheap to call often.
  void Progress(std::string_view line);
  void EndProgress();
  // Text as it is, for the chat's prompt and answers to its commands.
  void Plain(std::string_view text);

  bool is_terminal() const { return is_terminal_; }
  bool color() const { return color_; }

 private:
  void WriteLocked(std::string_view text, std::string_view style);
  void LogLocked(std::string_view line);
  void EraseProgressLocked();

  using Time = std::chrono::steady_clock::time_point;
  std::mutex mutex_;
  ConsoleOptions options_;
  bool is_terminal_ = false;
  bool color_ = false;
  bool progress_shown_ = false;   // a line without newline stands on the terminal
  bool progress_active_ = false;  // between the first Progress() and EndProgress()
  Time next_progress_;            // not before
  struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, CloseFile> log_file_;
};

}  // namespace pantry
