// SPDX-License-Identifier: Apache-2.0
// The one check that every Reader makes before it touches a byte.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace pantry {

// kCorruption unless [offset, offset + n_bytes) lies within a file of `size` bytes. Free of overflow.
inline Status CheckReadRange(const std::string& path, uint64_t size, uint64_t offset, uint64_t n_bytes) {
  if (offset <= size && n_bytes <= size - offset) return OkStatus();
  return CorruptionError("{}: cannot read {} bytes at offset {}: the file ends at {}", path, n_bytes, offset, size);
}

}  // namespace pantry
