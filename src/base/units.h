// SPDX-License-Identifier: Apache-2.0
// Byte counts as people write and read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace pantry {

inline constexpr int64_t kKiB = int64_t{1} << 10;
inline constexpr int64_t kMiB = int64_t{1} << 20;
inline constexpr int64_t kGiB = int64_t{1} << 30;

// The next multiple of `alignment`, or n_bytes if it is one. REQUIRES: n_bytes >= 0.
constexpr int64_t AlignUp(int64_t n_bytes, int64_t alignment) {
  return (n_bytes + alignment - 1) / alignment * alignment;
}

// 98362432 -> "98.4 MB" (powers of 1000, one decimal from kB upwards; bytes plain).
std::string FormatBytes(int64_t n_bytes);

// "6G", "512M", "1.5GiB", "4096" -> bytes; K, M, G, T are powers of 1024, as memory limits are written.
Result<int64_t> ParseBytes(std::string_view text);

}  // namespace pantry
