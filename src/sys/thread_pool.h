// SPDX-License-Identifier: Apache-2.0
// A ThreadPool runs one data-parallel loop at a time on a fixed set of threads; the caller is one of them.
//
// Made for the decode loop: a few hundred short loops per token, so workers spin for some microseconds before they sleep on a futex,
// and an idle pool uses no CPU. On a machine where the pool has more threads than cores it sleeps at once.
// Each thread has a share of neighbouring items and helps with the other shares when it is through; results must therefore not depend on
// which thread runs an item.
// Threads: ParallelFor() from one thread at a time (the owner's). Not re-entrant.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "base/function_ref.h"

namespace pantry {

class ThreadPool {
 public:
  // n_threads >= 1 counts the caller. Where the system refuses that many, n_threads() says how many there are.
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const;

  // Calls body(item, thread) for each item in [0, n_items), thread in [0, n_threads()), and returns when all are done. The caller runs aside()
  // first, if given, while the others begin, and then helps. Neither must throw.
  template <typename Body>
  void ParallelFor(int64_t n_items, Body&& body, FunctionRef<void()> aside = {}) {
    using B = std::remove_reference_t<Body>;
    Run(
        n_items, [](void* context, int64_t item, int thread) { (*static_cast<B*>(context))(item, thread); },
        const_cast<void*>(static_cast<const void*>(&body)), aside);
  }

  // Physical cores this process may use: affinity and cgroup CPU quota respected; at least 1.
  static int DefaultThreadCount();

 private:
  using Function = void (*)(void* context, int64_t item, int thread);
  void Run(int64_t n_items, Function function, void* context, FunctionRef<void()> aside);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pantry
