// SPDX-License-Identifier: Apache-2.0
// A Logger takes the lines that library code wants a person to read. Library code never prints by itself.
//
// Threads: Write() may be called from any thread; implementations serialise.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pantry {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

class Logger {
 public:
  virtual ~Logger() = default;
  virtual void Write(LogLevel level, std::string_view line) = 0;  // one line, no newline at its end

  template <typename... Args>
  void Info(fmt::format_string<Args...> format, Args&&... args) {
    Write(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void Warning(fmt::format_string<Args...> format, Args&&... args) {
    Write(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void Debug(fmt::format_string<Args...> format, Args&&... args) {
    Write(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
  }
};

// Drops everything.
class NullLogger final : public Logger {
 public:
  void Write(LogLevel, std::string_view) override {}
};

// Keeps every line, for tests that check what was said.
class RecordingLogger final : public Logger {
 public:
  void Write(LogLevel level, std::string_view line) override { lines.emplace_back(level, std::string(line)); }
  std::vector<std::pair<LogLevel, std::string>> lines;
};

}  // namespace pantry
