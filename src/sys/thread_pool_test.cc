// SPDX-License-Identifier: Apache-2.0
#include "sys/thread_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

namespace pantry {
namespace {

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

TEST(ThreadPool, EveryItemRunsExactlyOnceForAnyPoolAndLoopSize) {
  for (int n_threads = 1; n_threads <= 8; ++n_threads) {
    ThreadPool pool(n_threads);
    EXPECT_EQ(pool.n_threads(), n_threads);
    for (const int64_t n_items : {0, 1, 2, 3, 7, 8, 9, 64, 1000, 10007}) {
      std::vector<int> runs(static_cast<size_t>(n_items), 0);
      pool.ParallelFor(n_items, [&](int64_t item, int) { ++runs[static_cast<size_t>(item)]; });
      EXPECT_EQ(std::count(runs.begin(), runs.end(), 1), n_items) << n_threads << " threads";
    }
  }
}

TEST(ThreadPool, TheCallerRunsItsAsideOnceAndThenHelps) {
  for (int n_threads = 1; n_threads <= 4; ++n_threads) {
    ThreadPool pool(n_threads);
    for (const int64_t n_items : {0, 1, 2, 3, 64, 1000}) {
      std::vector<int> runs(static_cast<size_t>(n_items), 0);
      std::atomic<int> n_asides = 0, n_too_early = 0;
      const auto caller = std::this_thread::get_id();
      const auto item_body = [&](int64_t item, int thread) {
        ++runs[static_cast<size_t>(item)];
        if (thread == 0 && n_asides.load() == 0) ++n_too_early;
      };
      const auto aside = [&] { n_asides += std::this_thread::get_id() == caller ? 1 : 100; };
      pool.ParallelFor(n_items, item_body, FunctionRef<void()>(aside));
      EXPECT_EQ(std::count(runs.begin(), runs.end(), 1), n_items) << n_threads << " threads";
      EXPECT_EQ(n_asides.load(), 1);
      EXPECT_EQ(n_too_early.load(), 0);
    }
  }
}

TEST(ThreadPool, WorkersBeginWhileTheCallerIsAside) {
  ThreadPool pool(2);
  for (const int64_t n_items : {1, 2, 50}) {
    std::atomic<int64_t> n_run = 0;
    // Would not end if the loop waited for its caller.
    const auto aside = [&] {
      while (n_run.load() < n_items) std::this_thread::yield();
    };
    pool.ParallelFor(n_items, [&](int64_t, int) { ++n_run; }, FunctionRef<void()>(aside));
    EXPECT_EQ(n_run.load(), n_items);
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // sanitizers need an unlimited address space
TEST(ThreadPool, WorksWithTheThreadsThatTheSystemAllows) {
  const auto run_with_little_memory = [] {
    const rlimit limit = {size_t{512} << 20, size_t{512} << 20};  // room for some of 1000 stacks of 8 MB
    setrlimit(RLIMIT_AS, &limit);
    ThreadPool pool(1000);
    std::atomic<int> n_run = 0;
    pool.ParallelFor(5000, [&](int64_t, int) { n_run.fetch_add(1); });
    std::_Exit(pool.n_threads() >= 1 && pool.n_threads() < 1000 && n_run.load() == 5000 ? 0 : 1);
  };
  EXPECT_EXIT(run_with_little_memory(), ::testing::ExitedWithCode(0), "");
}
#endif

TEST(ThreadPool, ThreadIndexIsInRangeAndItsItemsNeverOverlap) {
  ThreadPool pool(4);
  std::vector<int64_t> per_thread(4, 0);  // unguarded on purpose: each slot belongs to one thread
  std::atomic<bool> out_of_range = false;
  pool.ParallelFor(5000, [&](int64_t, int thread) {
    if (thread < 0 || thread >= 4) out_of_range = true;
    else ++per_thread[static_cast<size_t>(thread)];
  });
  EXPECT_FALSE(out_of_range);
  EXPECT_EQ(std::accumulate(per_thread.begin(), per_thread.end(), int64_t{0}), 5000);
}

TEST(ThreadPool, LoopSeesWhatTheLoopBeforeItWrote) {
  for (const int n_threads : {2, 3, 5}) {
    ThreadPool pool(n_threads);
    std::vector<int64_t> even(64, 0), odd(64, 0);
    for (int loop = 0; loop < 3000; ++loop) {  // tiny loops back to back: the decode path
      const std::vector<int64_t>& from = loop % 2 == 0 ? even : odd;
      std::vector<int64_t>& to = loop % 2 == 0 ? odd : even;
      pool.ParallelFor(
          64, [&](int64_t item, int) { to[static_cast<size_t>(item)] = from[static_cast<size_t>(63 - item)] + 1; });
      ASSERT_EQ(std::count(to.begin(), to.end(), loop + 1), 64);
    }
  }
}

TEST(ThreadPool, ManyLoopsOfEverySmallSizeFinish) {
  ThreadPool pool(4);
  int64_t total = 0;
  std::atomic<int64_t> ran = 0;
  for (int loop = 0; loop < 20000; ++loop) {
    const int64_t n_items = loop % 7;
    total += n_items;
    pool.ParallelFor(n_items, [&](int64_t, int) { ran.fetch_add(1, std::memory_order_relaxed); });
  }
  EXPECT_EQ(ran.load(), total);
}

TEST(ThreadPool, LoopNumberWrapsWithoutHarm) {
  ThreadPool pool(2);
  std::atomic<int64_t> ran = 0;
  for (int loop = 0; loop < 70000; ++loop) {  // the number has 16 bits
    pool.ParallelFor(2, [&](int64_t, int) { ran.fetch_add(1, std::memory_order_relaxed); });
  }
  EXPECT_EQ(ran.load(), 140000);
}

TEST(ThreadPool, WorkersHelpWithALongLoop) {
  ThreadPool pool(3);
  std::atomic<int> n_inside = 0;
  // Items that wait for each other finish only when all three threads take one.
  pool.ParallelFor(3, [&](int64_t, int) {
    n_inside.fetch_add(1);
    while (n_inside.load() < 3) std::this_thread::yield();
  });
  EXPECT_EQ(n_inside.load(), 3);
}

TEST(ThreadPool, SleepingWorkersWakeForTheNextLoop) {
  ThreadPool pool(3);
  for (int round = 0; round < 20; ++round) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(300);  // longer than a worker spins
    while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
    std::atomic<int> n_inside = 0;
    pool.ParallelFor(3, [&](int64_t, int) {
      n_inside.fetch_add(1);
      while (n_inside.load() < 3) std::this_thread::yield();
    });
  }
}

// Of the pool's only worker, which slept before.
cpu_set_t ProcessorsOfTheWorker(ThreadPool& pool) {
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  cpu_set_t of_worker;
  std::atomic<bool> is_known = false;
  pool.ParallelFor(2, [&](int64_t, int thread) {
    if (thread == 1 && !is_known) {
      pthread_getaffinity_np(pthread_self(), sizeof(of_worker), &of_worker);
      is_known = true;
    }
    while (!is_known) std::this_thread::yield();
  });
  return of_worker;
}

TEST(ThreadPool, AWorkerWakesOnAnotherProcessorThanItsOwners) {
  cpu_set_t allowed;
  ASSERT_EQ(pthread_getaffinity_np(pthread_self(), sizeof(allowed), &allowed), 0);
  std::vector<size_t> processors;
  for (size_t cpu = 0; cpu < CPU_SETSIZE && processors.size() < 2; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) processors.push_back(cpu);
  }
  if (processors.size() < 2) GTEST_SKIP() << "one processor";
  ThreadPool pool(2);
  for (const size_t mine : processors) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(mine, &only);
    ASSERT_EQ(pthread_setaffinity_np(pthread_self(), sizeof(only), &only), 0);
    cpu_set_t of_worker = ProcessorsOfTheWorker(pool);
    EXPECT_FALSE(CPU_ISSET(mine, &of_worker));
    CPU_SET(mine, &of_worker);
    EXPECT_TRUE(CPU_EQUAL(&of_worker, &allowed));  // all others are free to it
  }
  pthread_setaffinity_np(pthread_self(), sizeof(allowed), &allowed);
}

TEST(ThreadPool, OneItemAndOneThreadRunOnTheCaller) {
  const std::thread::id caller = std::this_thread::get_id();
  ThreadPool one(1), four(4);
  one.ParallelFor(100, [&](int64_t, int thread) {
    EXPECT_EQ(thread, 0);
    EXPECT_EQ(std::this_thread::get_id(), caller);
  });
  four.ParallelFor(1, [&](int64_t item, int thread) {
    EXPECT_EQ(item, 0);
    EXPECT_EQ(thread, 0);
    EXPECT_EQ(std::this_thread::get_id(), caller);
  });
}

TEST(ThreadPool, ItemsOfAPoolOfOneRunInOrder) {
  ThreadPool pool(1);
  std::vector<int64_t> order;
  pool.ParallelFor(5, [&](int64_t item, int) { order.push_back(item); });
  EXPECT_EQ(order, (std::vector<int64_t>{0, 1, 2, 3, 4}));
}

TEST(ThreadPool, PoolsCanBeNestedWhenTheyAreDistinct) {
  ThreadPool outer(2);
  std::vector<std::unique_ptr<ThreadPool>> inner;
  for (int i = 0; i < 2; ++i) inner.push_back(std::make_unique<ThreadPool>(2));
  std::atomic<int> ran = 0;
  outer.ParallelFor(10, [&](int64_t, int thread) {
    inner[static_cast<size_t>(thread)]->ParallelFor(10, [&](int64_t, int) { ran.fetch_add(1); });
  });
  EXPECT_EQ(ran.load(), 100);
}

TEST(ThreadPool, EndsWhileItsWorkersSpinSleepOrJustStarted) {
  for (int round = 0; round < 200; ++round) {
    ThreadPool pool(1 + round % 5);
    if (round % 3 == 0) pool.ParallelFor(16, [](int64_t, int) {});
  }
}

TEST(ThreadPool, IdlePoolUsesNoCpu) {
  ThreadPool pool(2);
  pool.ParallelFor(2, [](int64_t, int) {});
  // The workers stop spinning within a fraction of a millisecond; then 50 ms of the whole process are looked at.
  const auto begin = std::chrono::steady_clock::now();
  const double cpu_before = CpuSeconds();
  timespec pause{0, 50'000'000};
  nanosleep(&pause, nullptr);
  const double cpu = CpuSeconds() - cpu_before;
  const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_LT(cpu, 0.05 * wall);  // a spinning worker takes far more even on a crowded machine
}

TEST(ThreadPool, DefaultIsAtLeastOneThreadAndAtMostTheCpus) {
  EXPECT_GE(ThreadPool::DefaultThreadCount(), 1);
  EXPECT_LE(ThreadPool::DefaultThreadCount(), std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
}

}  // namespace
}  // namespace pantry
