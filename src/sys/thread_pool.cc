// SPDX-License-Identifier: Apache-2.0
#include "sys/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <system_error>
#include <thread>
#include <vector>

#include "base/status.h"
#include "sys/cpu_count.h"

namespace pantry {
namespace {

// How long a thread spins before it sleeps. A loop of the decode path follows the previous one within a few microseconds, and waking a
// sleeper costs 5 to 50; longer spinning only takes CPU from others.
constexpr int64_t kSpinUs = 50;
constexpr int kPausesPerClockRead = 32;  // reading the clock costs as much as one pause or two

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");
#endif
}

// Spins until `done` or for `us` microseconds; whether it is done.
template <typename Done>
bool SpinFor(int64_t us, Done done) {
  if (done()) return true;
  if (us == 0) return false;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::microseconds(us);
  do {
    for (int i = 0; i < kPausesPerClockRead; ++i) {
      Pause();
      if (done()) return true;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

// The state word: [ loop number : 16 | stop : 1 | open : 1 | joined workers : 14 ].
//
//   closed --Run()--> open, new number --Run() has no items left--> closed, workers may still be in --last one leaves--> closed, empty
//
// A worker joins an open loop at most once and only while it is open; Run() returns when the loop is closed and nobody is in. So a loop
// never waits for a worker that is asleep, and its fields are written only while nobody can read them. When the number wraps, a worker
// that slept through 65536 loops may take a new loop for the one it knows and miss it; the others do its items.
constexpr uint32_t kJoinedMask = 0x3FFF;
constexpr uint32_t kOpen = 1u << 14;
constexpr uint32_t kStop = 1u << 15;
constexpr uint32_t kNumberOne = 1u << 16;
constexpr uint32_t kNumberMask = 0xFFFF0000u;

}  // namespace

// A thread's share of a loop: neighbouring items, taken in order. Items mostly are neighbours in memory, which a core's prefetcher follows
// as long as one thread walks on: decoding a 576 x 1536 matrix from DRAM was 1.6 times as fast with two threads than when every thread
// took the next item of all. A thread that is through helps with the other shares.
struct alignas(64) Share {
  std::atomic<int64_t> next{0};
  int64_t end = 0;
};

// Keeps workers off the processor that their owner runs on, as far as those go that the pool's maker may use.
//
// In a virtual machine Linux takes a processor that sleeps for one that the host has taken away (KVM's vcpu_is_preempted()). Then it does not send a
// thread there that is woken, but leaves it with whoever woke it, and both share one processor until, milliseconds later, the load is balanced.
// Measured: docs/performance.md, "Threads at rest".
class WorkerPlacement {
 public:
  explicit WorkerPlacement(int n_threads) {
    is_on_ = sched_getaffinity(0, sizeof(allowed_), &allowed_) == 0 && CPU_COUNT(&allowed_) >= std::max(n_threads, 2);
    given_ = allowed_;  // they inherit it
  }
  void KeepOffOwner(std::vector<std::thread>& workers) {
    if (!is_on_) return;
    const int cpu = sched_getcpu();
    if (cpu == avoided_ || cpu < 0 || cpu >= CPU_SETSIZE) return;
    cpu_set_t others = allowed_;
    CPU_CLR(static_cast<size_t>(cpu), &others);
    for (std::thread& worker : workers) {
      cpu_set_t now;
      const auto handle = worker.native_handle();
      // Somebody else (taskset, a program around this library) has placed it: then that holds for good.
      is_on_ = pthread_getaffinity_np(handle, sizeof(now), &now) == 0 && CPU_EQUAL(&now, &given_) &&
               pthread_setaffinity_np(handle, sizeof(others), &others) == 0;
      if (!is_on_) return;
    }
    given_ = others;
    avoided_ = cpu;
  }

 private:
  cpu_set_t allowed_;
  cpu_set_t given_;  // to each worker last
  bool is_on_ = false;
  int avoided_ = -1;
};

struct ThreadPool::Impl {
  alignas(64) std::atomic<uint32_t> state{0};
  std::atomic<int> n_asleep{0};  // workers that are about to wait on `state`, or do
  alignas(64) std::atomic<uint32_t> n_emptied{
      0};                                   // how often the last worker left a closed loop; the owner waits on it
  alignas(64) Function function = nullptr;  // the loop: written by the owner while the loop is closed and empty
  void* context = nullptr;
  std::vector<Share> shares;  // of each thread
  int64_t spin_us = 0;
  int n_threads = 1;
  std::vector<std::thread> workers;
  WorkerPlacement placement;

  explicit Impl(int n) : n_threads(n), placement(n) {}

  void RunItems(int thread) {
    for (int i = 0; i < n_threads; ++i) {
      Share& share = shares[static_cast<size_t>((thread + i) % n_threads)];
      for (int64_t item; (item = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;)
        function(context, item, thread);
    }
  }

  void Worker(int thread) {
    uint32_t known_number = 0;  // of the last loop that this worker joined
    while (true) {
      uint32_t seen = AwaitWork(known_number);
      if (seen & kStop) return;
      if (!state.compare_exchange_strong(seen, seen + 1, std::memory_order_acq_rel)) continue;
      known_number = seen & kNumberMask;
      RunItems(thread);
      const uint32_t before = state.fetch_sub(1, std::memory_order_acq_rel);
      if ((before & kJoinedMask) == 1 && !(before & kOpen)) {
        n_emptied.fetch_add(1, std::memory_order_release);
        n_emptied.notify_one();
      }
    }
  }

  static bool HasWork(uint32_t seen, uint32_t known_number) {
    return (seen & kStop) || ((seen & kOpen) && (seen & kNumberMask) != known_number);
  }

  // The state with an open loop that is not `known_number`, or with stop.
  uint32_t AwaitWork(uint32_t known_number) {
    uint32_t seen = 0;
    const auto has_work = [&] { return HasWork(seen = state.load(std::memory_order_acquire), known_number); };
    while (!SpinFor(spin_us, has_work)) {
      // Announced before the last look, and Run() looks for sleepers after it opened the loop: one of the two sees the other.
      n_asleep.fetch_add(1, std::memory_order_seq_cst);
      seen = state.load(std::memory_order_seq_cst);
      while (!HasWork(seen, known_number)) {
        state.wait(seen, std::memory_order_acquire);
        seen = state.load(std::memory_order_acquire);
      }
      n_asleep.fetch_sub(1, std::memory_order_relaxed);
    }
    return seen;
  }

  // Only the owner opens loops, so between its loops the word is stable. So many workers have something to do.
  void Open(int64_t n_wanted) {
    const uint32_t number = (state.load(std::memory_order_relaxed) & kNumberMask) + kNumberOne;
    state.store(number | kOpen, std::memory_order_seq_cst);
    const int asleep = n_asleep.load(std::memory_order_seq_cst);
    if (asleep == 0) return;
    placement.KeepOffOwner(workers);
    if (n_wanted >= asleep) {
      state.notify_all();
    } else {
      for (int64_t i = 0; i < n_wanted; ++i) state.notify_one();
    }
  }

  void CloseAndAwaitEmpty() {
    const auto empty = [this] { return (state.load(std::memory_order_acquire) & kJoinedMask) == 0; };
    if ((state.fetch_and(~kOpen, std::memory_order_acq_rel) & kJoinedMask) == 0) return;
    if (SpinFor(spin_us, empty)) return;
    while (true) {
      const uint32_t emptied = n_emptied.load(std::memory_order_acquire);
      if (empty()) return;
      n_emptied.wait(emptied, std::memory_order_acquire);
    }
  }
};

ThreadPool::ThreadPool(int n_threads) : impl_(std::make_unique<Impl>(n_threads)) {
  PANTRY_CHECK(n_threads >= 1 && static_cast<uint32_t>(n_threads) <= kJoinedMask);
  impl_->shares = std::vector<Share>(static_cast<size_t>(n_threads));
  impl_->spin_us = n_threads <= UsableCpuCount() ? kSpinUs : 0;
  impl_->workers.reserve(static_cast<size_t>(n_threads) - 1);
  for (int thread = 1; thread < n_threads; ++thread) {
    try {
      impl_->workers.emplace_back([impl = impl_.get(), thread] { impl->Worker(thread); });
    } catch (const std::system_error&) {  // a limit on processes or memory: those that started do the work
      impl_->n_threads = thread;
      break;
    }
  }
}

ThreadPool::~ThreadPool() {
  impl_->state.fetch_or(kStop, std::memory_order_seq_cst);
  impl_->state.notify_all();
  for (std::thread& worker : impl_->workers) worker.join();
}

int ThreadPool::n_threads() const { return impl_->n_threads; }

void ThreadPool::Run(int64_t n_items, Function function, void* context, FunctionRef<void()> aside) {
  const bool is_alone = impl_->n_threads == 1 || n_items < (aside ? 1 : 2);
  if (is_alone) {
    if (aside) aside();
    for (int64_t item = 0; item < n_items; ++item) function(context, item, 0);
    return;
  }
  impl_->function = function;
  impl_->context = context;
  for (int thread = 0; thread < impl_->n_threads; ++thread) {
    Share& share = impl_->shares[static_cast<size_t>(thread)];
    share.next.store(n_items * thread / impl_->n_threads, std::memory_order_relaxed);
    share.end = n_items * (thread + 1) / impl_->n_threads;
  }
  impl_->Open(aside ? n_items : n_items - 1);
  if (aside) aside();
  impl_->RunItems(0);
  impl_->CloseAndAwaitEmpty();
}

int ThreadPool::DefaultThreadCount() { return PhysicalCoreCount(); }

}  // namespace pantry
