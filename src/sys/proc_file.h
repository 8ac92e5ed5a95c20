// SPDX-License-Identifier: Apache-2.0
// Reading the small text files of /proc and /sys.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace pantry {

// A file of /proc or /sys that is opened once and read again and again. Move-only.
class ProcFile {
 public:
  ProcFile() = default;
  explicit ProcFile(const std::string& path);
  ProcFile(ProcFile&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  ProcFile& operator=(ProcFile&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~ProcFile();

  bool is_open() const { return descriptor_ >= 0; }
  // What it says now, as much as `buffer` holds; nothing when it cannot be read. Allocates nothing.
  std::string_view Read(std::span<char> buffer) const;

 private:
  int descriptor_ = -1;
};

// The whole file; nothing when it cannot be read.
std::optional<std::string> ReadProcFile(const std::string& path);

// The non-negative number after `key` at the start of a line ("VmRSS:   123 kB", "inactive_file 123"); nothing where there is none.
std::optional<int64_t> FindProcValue(std::string_view text, std::string_view key);

// The non-negative number that `text` begins with; nothing when it begins otherwise ("max") or does not fit.
std::optional<int64_t> ParseProcNumber(std::string_view text);

}  // namespace pantry
