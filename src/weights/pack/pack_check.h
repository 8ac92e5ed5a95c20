// SPDX-License-Identifier: Apache-2.0
// CheckPieces() reads pieces of a file from the disk and says which of them have their checksums.
//
// Threads: called from one, works on several.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/status.h"
#include "io/reader.h"

namespace pantry {

struct CheckedPiece {
  uint64_t offset = 0;
  size_t n_bytes = 0;
  uint64_t checksum = 0;  // PackChecksum() of its bytes
};

// For each piece whether it is intact. Reads past the page cache. The reader's errors; kCancelled when `progress`, called with the bytes
// read so far, says false.
Result<std::vector<uint8_t>> CheckPieces(const Reader& reader, std::span<const CheckedPiece> pieces, int n_lanes,
                                         const std::function<bool(uint64_t n_bytes)>& progress);

}  // namespace pantry
