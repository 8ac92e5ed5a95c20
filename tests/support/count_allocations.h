// SPDX-License-Identifier: Apache-2.0
// Counts what a program allocates with operator new, by replacing it. To be included in exactly one source of a program, a test's.
//
//   const int64_t before = testing::n_allocations;  ...  EXPECT_EQ(testing::n_allocations - before, 0);
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace pantry::testing {
inline std::atomic<int64_t> n_allocations{0};
}  // namespace pantry::testing

// Weak: some sanitizers bring their own, and then nothing is counted.
[[gnu::noinline, gnu::weak]] void* operator new(size_t n_bytes) {
  pantry::testing::n_allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(n_bytes > 0 ? n_bytes : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline, gnu::weak]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline, gnu::weak]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
