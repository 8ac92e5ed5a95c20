// SPDX-License-Identifier: Apache-2.0
// Reading the small text files of /proc and /sys.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pantry {

// The whole file; nothing when it cannot be read.
std::optional<std::string> ReadProcFile(const std::string& path);

// The non-negative number after `key` at the start of a line ("VmRSS:   123 kB", "inactive_file 123"); nothing where there is none.
std::optional<int64_t> FindProcValue(std::string_view text, std::string_view key);

// The non-negative number that `text` begins with; nothing when it begins otherwise ("max") or does not fit.
std::optional<int64_t> ParseProcNumber(std::string_view text);

}  // namespace pantry
