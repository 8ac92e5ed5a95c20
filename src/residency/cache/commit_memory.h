// SPDX-License-Identifier: Apache-2.0
// Commits a cache's memory before it is filled, so that blocks which come while a token is computed do not wait for fresh pages.
//
// A fresh page costs a fault: 9 GB/s a thread where the machine has the memory, 0.5 GB/s where a hypervisor takes free memory back (free page
// reporting, as in many cloud machines): there a block takes longer to be placed than to be read. All threads together are faster
// at it (16 and 0.9 GB/s with two), and nobody waits yet. The system hands out first what was freed last, which the host has not taken back, so
// a sample would say little of the rest.
// Measured: smallthinker-4b in 1.5 GiB, docs/performance.md.
#pragma once

#include <cstdint>

#include "base/clock.h"
#include "base/function_ref.h"
#include "residency/cache/budgeted_cache.h"
#include "sys/thread_pool.h"

namespace pantry {

// So much of a stream's life may be spent on it.
inline constexpr int64_t kMostCommitUs = 2'000'000;

// Commits what is left of the budget, for `most_us`, of which it stops short by no more than a batch of some 64 MiB. `go_on` is asked before each
// batch and may change the budget. Returns the microseconds that it took.
int64_t CommitMemory(BudgetedCache& cache, ThreadPool& pool, const Clock& clock, int64_t most_us,
                     FunctionRef<bool()> go_on);

}  // namespace pantry
