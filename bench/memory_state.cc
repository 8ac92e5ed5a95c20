// SPDX-License-Identifier: Apache-2.0
// Says, while something else runs, what state a virtual machine is in: how fast two of its CPUs together read memory, and how soon one sees
// what the other wrote. Where a hypervisor moves virtual CPUs about, both change by a factor of two from one minute to the next.
//
//   c++ -O3 -march=native -std=c++20 -pthread bench/memory_state.cc -o memory_state     (Linux, root)
//   memory_state > states &  ...  kill $!
//
// Prints a line every 250 ms: the time (CLOCK_MONOTONIC, s), the hand-off (ns), bytes a second. It takes both CPUs for less than a millisecond
// each time, at real-time priority, so that it need not wait for its turn: 0.3 % of the time.
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <thread>

namespace {

constexpr size_t kMemoryBytes = 128 << 20;  // of each CPU: more than caches hold
constexpr size_t kReadBytes = 8 << 20;
constexpr double kIntervalS = 0.25;
constexpr int64_t kHandOffs = 300;

volatile std::sig_atomic_t is_over = 0;
volatile uint64_t sink;
std::atomic<int64_t> n_met = 0;
std::atomic<int64_t> ball = 0;
std::array<std::atomic<double>, 2> ends;

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void SleepUntil(double s) {
  const auto whole = static_cast<time_t>(s);
  const timespec at = {whole, static_cast<long>((s - static_cast<double>(whole)) * 1e9)};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr);
}

void Meet(int64_t n) {
  ++n_met;
  while (n_met.load() < 2 * n) {
  }
}

uint64_t Sum(std::span<const uint64_t> words) {
  uint64_t sum = 0;
  for (const uint64_t word : words) sum += word;
  return sum;
}

void Watch(int cpu, std::span<const uint64_t> memory, double begin_s) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(cpu, &cpus);
  pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus);
  sched_param priority = {};
  priority.sched_priority = 2;
  if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority) != 0) std::perror("real-time priority");
  const size_t n_words = kReadBytes / sizeof(uint64_t);
  for (int64_t i = 0; is_over == 0; ++i) {
    SleepUntil(begin_s + kIntervalS * static_cast<double>(i));
    Meet(3 * i + 1);
    const double handed_s = Now();
    const int64_t first = 2 * kHandOffs * i;
    for (int64_t k = first; k < first + 2 * kHandOffs; k += 2) {  // CPU 0 makes it odd, CPU 1 even
      while (ball.load(std::memory_order_acquire) != k + cpu) {
      }
      ball.store(k + cpu + 1, std::memory_order_release);
    }
    const double ns = 1e9 * (Now() - handed_s) / (2 * kHandOffs);
    Meet(3 * i + 2);
    const double begin = Now();
    sink = sink + Sum(memory.subspan(static_cast<size_t>(i) * n_words % memory.size(), n_words));
    ends[static_cast<size_t>(cpu)] = Now();
    Meet(3 * i + 3);
    if (cpu != 0) continue;
    std::printf("%.3f %.0f %.4g\n", begin, ns, 2 * kReadBytes / (std::max(ends[0].load(), ends[1].load()) - begin));
    std::fflush(stdout);
  }
}

}  // namespace

int main() {
  std::signal(SIGTERM, [](int) { is_over = 1; });
  void* const memory = mmap(nullptr, 2 * kMemoryBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  madvise(memory, 2 * kMemoryBytes, MADV_HUGEPAGE);
  std::memset(memory, 1, 2 * kMemoryBytes);
  constexpr int kCollapse = 25;  // MADV_COLLAPSE: huge pages now, where there were none
  if (madvise(memory, 2 * kMemoryBytes, kCollapse) != 0) std::perror("huge pages");
  mlockall(MCL_CURRENT);
  const std::span<const uint64_t> words(static_cast<const uint64_t*>(memory), 2 * kMemoryBytes / sizeof(uint64_t));
  const double begin_s = Now() + 0.05;
  std::thread other(Watch, 1, words.subspan(words.size() / 2), begin_s);
  std::thread(Watch, 0, words.first(words.size() / 2), begin_s).join();
  _exit(0);  // the other one may wait for a partner
}
