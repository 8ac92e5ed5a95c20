// SPDX-License-Identifier: Apache-2.0
// A TraceFile is a file in Chrome's Trace Event Format, which Perfetto (ui.perfetto.dev) and chrome://tracing show as rows of slices.
//
// An array of JSON objects, one a line. Whoever reads the format does without the closing bracket, so a file whose end is missing (the program
// was stopped) still loads. Slices may be added in any order; those of a row must not overlap unless one lies within the other.
// Memory: a buffer of 64 KiB, allocated by Open(); it is written when it is full, and by Flush().
// Threads: one at a time.
// Source: the format's description by its authors, "Trace Event Format" (2016): phases X, C and M.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/logger.h"
#include "base/status.h"

namespace pantry {

class TraceFile {
 public:
  // Begins the file anew; times are written as microseconds since `origin_us`. `log` must outlive the file: it is told once if something
  // cannot be written, and nothing is traced any more. kIoError.
  static Result<std::unique_ptr<TraceFile>> Open(const std::string& path, int64_t origin_us, Logger& log);
  ~TraceFile();  // ends the array
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;

  bool ok() const { return file_ != nullptr; }  // false after an error: nothing that follows has an effect
  void NameProcess(std::string_view name);
  void NameRow(int row, std::string_view name);  // rows are shown in the order of their numbers
  // `format`: what follows "name": in JSON, and whatever members come after it, such as "\"read\",\"args\":{{\"bytes\":{}}}".
  template <typename... Args>
  void Slice(int row, int64_t begin_us, int64_t end_us, fmt::format_string<Args...> format, Args&&... args) {
    if (file_ == nullptr) return;
    fmt::format_to(std::back_inserter(buffer_), R"({}{{"ph":"X","pid":1,"tid":{},"ts":{},"dur":{},"name":)", separator_,
                   row, begin_us - origin_us_, end_us - begin_us);
    fmt::format_to(std::back_inserter(buffer_), format, std::forward<Args>(args)...);
    EndEvent();
  }
  void Counter(std::string_view name, int64_t at_us, double value);  // `name` as it is in JSON
  void Flush();

 private:
  struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  TraceFile(std::string path, std::FILE* file, int64_t origin_us, Logger& log);
  void Metadata(std::string_view what, int row, std::string_view args);
  void EndEvent();

  std::string path_;
  Logger& log_;
  int64_t origin_us_;
  std::unique_ptr<std::FILE, CloseFile> file_;  // null after an error
  std::string_view separator_ = "[\n";
  fmt::memory_buffer buffer_;
};

// `text` as a string of JSON, with its quotes.
std::string JsonString(std::string_view text);

}  // namespace pantry
