// SPDX-License-Identifier: Apache-2.0
#include "base/units.h"

#include <cctype>
#include <cmath>
#include <cstdlib>

namespace pantry {

std::string FormatBytes(int64_t n_bytes) {
  static constexpr const char* kUnits[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  if (n_bytes < 1000) return fmt::format("{} B", n_bytes);
  double value = static_cast<double>(n_bytes);
  int unit = -1;
  while (value >= 999.95 && unit < 5) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

Result<int64_t> ParseBytes(std::string_view text) {
  const std::string copy(text);
  char* end = nullptr;
  const double value = std::strtod(copy.c_str(), &end);
  std::string unit(end);
  for (char& c : unit) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  double factor = 1;
  if (unit == "K" || unit == "KB" || unit == "KIB") factor = kKiB;
  else if (unit == "M" || unit == "MB" || unit == "MIB") factor = kMiB;
  else if (unit == "G" || unit == "GB" || unit == "GIB") factor = kGiB;
  else if (unit == "T" || unit == "TB" || unit == "TIB") factor = static_cast<double>(kGiB) * 1024;
  else if (!unit.empty() && unit != "B")
    return InvalidArgumentError("'{}' is not a size; write for example 6G, 512M or 4096", text);
  if (end == copy.c_str() || !std::isfinite(value) || value < 0 || value * factor > 9.0e18) {
    return InvalidArgumentError("'{}' is not a size; write for example 6G, 512M or 4096", text);
  }
  return static_cast<int64_t>(value * factor);
}

}  // namespace pantry
