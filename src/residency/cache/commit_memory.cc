// SPDX-License-Identifier: Apache-2.0
#include "residency/cache/commit_memory.h"

#include <algorithm>
#include <array>
#include <span>

#include "base/units.h"
#include "sys/aligned_buffer.h"

namespace pantry {
namespace {

constexpr int64_t kBatchBytes = 64 * kMiB;
constexpr int64_t kPieceBytes = AlignedBuffer::kHugePageBytes;  // that a thread commits at once

}  // namespace

int64_t CommitMemory(BudgetedCache& cache, ThreadPool& pool, const Clock& clock, int64_t most_us,
                     FunctionRef<bool()> go_on) {
  std::array<std::span<uint8_t>, 32> parts;
  const int64_t begin_us = clock.NowUs();
  int64_t us = 0;
  while (us < most_us && go_on()) {
    size_t n_parts = 0;
    int64_t n_bytes = 0, largest = 0;
    while (n_parts < parts.size() && n_bytes < kBatchBytes) {
      const std::span<uint8_t> part = cache.CommitMore();
      if (part.empty()) break;
      parts[n_parts++] = part;
      n_bytes += std::ssize(part);
      largest = std::max(largest, std::ssize(part));
    }
    if (n_parts == 0) break;
    const int64_t n_pieces = (largest + kPieceBytes - 1) / kPieceBytes;  // of a part
    pool.ParallelFor(static_cast<int64_t>(n_parts) * n_pieces, [&](int64_t item, int) {
      const std::span<uint8_t> part = parts[static_cast<size_t>(item / n_pieces)];
      const int64_t begin = std::min(item % n_pieces * kPieceBytes, std::ssize(part));
      const int64_t end = std::min(begin + kPieceBytes, std::ssize(part));
      AlignedBuffer::Touch(part.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
    });
    us = clock.NowUs() - begin_us;
  }
  return us;
}

}  // namespace pantry
