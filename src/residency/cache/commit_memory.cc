// SPDX-License-Identifier: Apache-2.0
#include "residency/cache/commit_memory.h"

#include <array>
#include <span>

#include "sys/aligned_buffer.h"

namespace pantry {

int64_t CommitMemory(BudgetedCache& cache, ThreadPool& pool, const Clock& clock) {
  std::array<std::span<uint8_t>, 16> parts;
  const int64_t end_us = clock.NowUs() + kMostCommitUs;
  int64_t n_bytes = 0;
  do {
    size_t n = 0;
    while (n < parts.size() && !(parts[n] = cache.CommitMore()).empty()) n_bytes += std::ssize(parts[n++]);
    if (n == 0) break;
    pool.ParallelFor(static_cast<int64_t>(n),
                     [&](int64_t i, int) { AlignedBuffer::Touch(parts[static_cast<size_t>(i)]); });
  } while (clock.NowUs() < end_us);
  return n_bytes;
}

}  // namespace pantry
