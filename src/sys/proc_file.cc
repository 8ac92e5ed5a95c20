// SPDX-License-Identifier: Apache-2.0
#include "sys/proc_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>

namespace pantry {

ProcFile::ProcFile(const std::string& path) : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}

ProcFile::~ProcFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

std::string_view ProcFile::Read(std::span<char> buffer) const {
  if (descriptor_ < 0) return {};
  ssize_t n = 0;
  do n = pread(descriptor_, buffer.data(), buffer.size(), 0);
  while (n < 0 && errno == EINTR);
  return n > 0 ? std::string_view(buffer.data(), static_cast<size_t>(n)) : std::string_view();
}

std::optional<std::string> ReadProcFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

std::optional<int64_t> ParseProcNumber(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data() + begin, text.data() + text.size(), value);
  if (error != std::errc() || value < 0) return std::nullopt;
  return value;
}

std::optional<int64_t> FindProcValue(std::string_view text, std::string_view key) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    if (line.size() > key.size() && line.starts_with(key) && (line[key.size()] == ' ' || line[key.size()] == '\t')) {
      return ParseProcNumber(line.substr(key.size()));
    }
    begin = end + 1;
  }
  return std::nullopt;
}

}  // namespace pantry
