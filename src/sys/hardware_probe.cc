// SPDX-License-Identifier: Apache-2.0
#include "sys/hardware_probe.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "base/units.h"
#include "sys/aligned_buffer.h"
#include "sys/hardware_probe_kernel.h"
#include "sys/thread_pool.h"

namespace pantry {
namespace {

using Time = std::chrono::steady_clock::time_point;

constexpr int64_t kItemBytes = 2 * kMiB;      // that a thread claims at once; a huge page
constexpr int64_t kLeastBuffer = 256 * kMiB;  // read in 10 ms
constexpr int64_t kMostBuffer = 2 * kGiB;
constexpr int64_t kCachesPerBuffer = 6;         // what a cache kept of the last pass must not matter
constexpr double kComputeItemSeconds = 0.0002;  // long against claiming it, short against the time slices of others
constexpr int64_t kComputeItemsPerThread = 2;
constexpr int64_t kReadItemsPerThread = 8;  // so that a thread which is held up holds up a part of the pass only

// Ways to read; which is the fastest depends on the CPU and on the number of threads.
struct ReadWay {
  int n_streams;
  int64_t prefetch_bytes;
};
constexpr ReadWay kReadWays[] = {{1, 0}, {4, 0}, {1, 2048}, {4, 1024}, {8, 512}};

double Seconds(Time begin, Time end) { return std::chrono::duration<double>(end - begin).count(); }
Time Now() { return std::chrono::steady_clock::now(); }

// Rounds that take `seconds`, undisturbed.
int64_t RoundsOf(double seconds, void (*run)(int64_t)) {
  for (int64_t n_rounds = 64;; n_rounds *= 2) {
    double least = 1;
    for (int i = 0; i < 3; ++i) {
      const Time start = Now();
      run(n_rounds);
      least = std::min(least, Seconds(start, Now()));
    }
    if (least >= seconds / 2)
      return std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(n_rounds) * seconds / least));
  }
}

const ProbeKernel& KernelOf(Isa isa) {
  constexpr std::pair<Isa, const ProbeKernel*> kKernels[] = {
      // the last that `isa` includes is used
      {Isa::kScalar, &kProbeScalar},
#if defined(__x86_64__)
      {Isa::kX86V2, &kProbeX86V2},           {Isa::kAvx2, &kProbeAvx2},
      {Isa::kAvx2Vnni, &kProbeAvx2Vnni},     {Isa::kAvx512, &kProbeAvx512},
      {Isa::kAvx512Vnni, &kProbeAvx512Vnni},
#elif defined(__aarch64__)
      {Isa::kNeon, &kProbeNeon},
      {Isa::kNeonDotprod, &kProbeNeonDotprod},
      {Isa::kNeonI8mm, &kProbeNeonI8mm},
#endif
  };
  const ProbeKernel* best = &kProbeScalar;
  for (const auto& [level, kernel] : kKernels) {
    if (IsaIncludes(isa, level)) best = kernel;
  }
  return *best;
}

// One figure after another, each within its share of the time.
class Prober {
 public:
  Prober(const ProbeOptions& options, double seconds, const ProbeProgress& progress)
      : kernel_(KernelOf(options.isa)), seconds_(seconds), progress_(progress) {}

  // The best rate of passes of `amount` until the time is over; at least `n_least` passes. `pass` gets the number of the pass.
  template <typename Pass>
  Result<double> Best(const std::string& what, double amount, int n_least, Pass pass) {
    const Time begin = Now();
    double best = 0;
    for (int i = 0; i < n_least || Seconds(begin, Now()) < seconds_; ++i) {
      if (progress_ && !progress_(what)) return CancelledError("interrupted");
      const Time start = Now();
      pass(i);
      best = std::max(best, amount / Seconds(start, Now()));
    }
    return best;
  }

  // Operations per second of loops on registers.
  Result<double> Compute(const std::string& what, ThreadPool& pool, void (*run)(int64_t), int64_t ops_per_round) {
    const int64_t n_rounds = RoundsOf(kComputeItemSeconds, run);
    const int64_t n_items = kComputeItemsPerThread * pool.n_threads();
    return Best(what, static_cast<double>(n_items * n_rounds * ops_per_round), 1,
                [&](int) { pool.ParallelFor(n_items, [&](int64_t, int) { run(n_rounds); }); });
  }

  // Bytes per second. A pass reads a part of the buffer, the next pass the next part, so that each byte has long left the caches.
  Result<double> Read(const std::string& what, ThreadPool& pool, const AlignedBuffer& buffer) {
    const int64_t n_all = static_cast<int64_t>(buffer.size()) / kItemBytes;
    const int64_t n_wanted = std::max<int64_t>(32, kReadItemsPerThread * pool.n_threads());
    const int64_t n_parts = std::max<int64_t>(1, n_all / n_wanted);
    const int64_t n_items = n_all / n_parts;
    constexpr int kWays = static_cast<int>(std::size(kReadWays));
    return Best(what, static_cast<double>(n_items * kItemBytes), 2 * kWays, [&](int pass) {
      const ReadWay& way = kReadWays[pass % kWays];
      const uint8_t* part = buffer.data() + pass % n_parts * n_items * kItemBytes;
      pool.ParallelFor(n_items, [&](int64_t item, int) {
        const uint64_t fold = kernel_.read(part + item * kItemBytes, kItemBytes, way.n_streams, way.prefetch_bytes);
        fold_.fetch_xor(fold, std::memory_order_relaxed);
      });
    });
  }

  const ProbeKernel& kernel() const { return kernel_; }

 private:
  const ProbeKernel& kernel_;
  const double seconds_;
  const ProbeProgress& progress_;
  std::atomic<uint64_t> fold_{0};  // somewhere for what was read to go
};

// More threads can do what fewer can: where they seem to be slower, others had the CPUs.
void Append(int32_t n_threads, double per_s, std::vector<ThreadRate>& rates) {
  rates.push_back({n_threads, std::max(per_s, BestRate(rates))});
}

// Written to throughout: memory that nobody wrote is one page of zeros.
Result<AlignedBuffer> FilledBuffer(const ProbeOptions& options, const HardwareProfile& profile, ThreadPool& pool) {
  int64_t cache_bytes = 0;  // on the last level
  for (const CacheProfile& cache : profile.caches) {
    cache_bytes = std::max(cache_bytes, cache.bytes * cache.n_instances);
  }
  int64_t n_bytes = std::clamp(kCachesPerBuffer * cache_bytes, kLeastBuffer, kMostBuffer);
  if (profile.memory.available_bytes >= 0) n_bytes = std::min(n_bytes, profile.memory.available_bytes / 4);
  if (options.buffer_bytes > 0) n_bytes = options.buffer_bytes;
  const int64_t n_items = std::max<int64_t>(1, n_bytes / kItemBytes);
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer buffer, AlignedBuffer::Allocate(static_cast<size_t>(n_items * kItemBytes)));
  pool.ParallelFor(n_items, [&](int64_t item, int) {
    std::memset(buffer.data() + item * kItemBytes, static_cast<int>(item % 255) + 1, static_cast<size_t>(kItemBytes));
  });
  return buffer;
}

constexpr int kHandoffBursts = 9;
constexpr int kHandoffRounds = 500;              // of a burst: a tenth of a millisecond where cores are near each other
constexpr double kMostSecondsOfHandoffs = 0.02;  // of a burst: threads that share a CPU take milliseconds a round

// Two threads answer each other; the median burst, since where the system puts threads changes in the meantime. 0: no second thread.
double MeasureHandoff() {
  std::atomic<int> turn{0};  // even: this thread's, odd: the other's
  const auto await = [&](int wanted, Time deadline) {
    for (int i = 1; turn.load(std::memory_order_acquire) != wanted; ++i) {
      if (i % 1024 == 0 && Now() > deadline) return false;
    }
    return true;
  };
  std::vector<double> bursts;
  for (int burst = 0; burst < kHandoffBursts; ++burst) {
    turn = 0;
    const Time start = Now();
    const Time deadline = start + std::chrono::microseconds(static_cast<int64_t>(1e6 * kMostSecondsOfHandoffs));
    std::thread other;
    try {
      other = std::thread([&] {
        for (int i = 0; i < kHandoffRounds && await(2 * i + 1, deadline); ++i) turn.store(2 * i + 2);
      });
    } catch (const std::system_error&) {
      return 0;
    }
    int n_rounds = 0;
    Time first = start;  // the first round waits for the thread to start
    for (; n_rounds < kHandoffRounds; ++n_rounds) {
      turn.store(2 * n_rounds + 1);
      if (!await(2 * n_rounds + 2, deadline)) break;
      if (n_rounds == 0) first = Now();
    }
    const double seconds = Seconds(first, Now());
    other.join();
    if (n_rounds > 1) bursts.push_back(seconds / (2 * (n_rounds - 1)));
  }
  if (bursts.empty()) return 0;
  std::nth_element(bursts.begin(), bursts.begin() + static_cast<ptrdiff_t>(bursts.size() / 2), bursts.end());
  return 1e9 * bursts[bursts.size() / 2];
}

}  // namespace

std::vector<int32_t> ProbedThreadCounts(int32_t n_cores, int32_t n_cpus) {
  std::vector<int32_t> counts;
  for (int32_t n = 1; n < n_cores; n *= 2) counts.push_back(n);
  counts.push_back(std::max(1, n_cores));
  if (n_cpus > counts.back()) counts.push_back(n_cpus);
  return counts;
}

Status MeasureCpu(const ProbeOptions& options, const ProbeProgress& progress, HardwareProfile& profile) {
  const std::vector<int32_t> counts = ProbedThreadCounts(profile.n_usable_cores, profile.n_usable_cpus);
  const double n_figures = 3.0 * static_cast<double>(counts.size());
  Prober prober(options, std::min(options.seconds, options.max_seconds / n_figures), progress);
  const ProbeKernel& kernel = prober.kernel();
  AlignedBuffer buffer;
  {
    ThreadPool all(profile.n_usable_cpus);
    if (progress && !progress("memory")) return CancelledError("interrupted");
    PANTRY_ASSIGN_OR_RETURN(buffer, FilledBuffer(options, profile, all));
  }
  profile.dram_read_bytes_per_s.clear();
  profile.int8_ops_per_s.clear();
  profile.f32_flops.clear();
  for (const int32_t n_threads : counts) {
    ThreadPool pool(n_threads);
    const std::string on = fmt::format("{} thread{}", n_threads, n_threads == 1 ? "" : "s");
    // Arithmetic first, which keeps the threads busy for a while: on a virtual machine (2 cores, Zen 4) CPUs that had slept were near each
    // other in the host for up to 150 ms, in which two threads read 29 GB/s and later 52.
    PANTRY_ASSIGN_OR_RETURN(const double int8,
                            prober.Compute("8-bit arithmetic, " + on, pool, kernel.int8, kernel.int8_ops_per_round));
    PANTRY_ASSIGN_OR_RETURN(const double f32,
                            prober.Compute("F32 arithmetic, " + on, pool, kernel.f32, kernel.f32_ops_per_round));
    PANTRY_ASSIGN_OR_RETURN(const double dram, prober.Read("memory, " + on, pool, buffer));
    Append(pool.n_threads(), dram, profile.dram_read_bytes_per_s);
    Append(pool.n_threads(), int8, profile.int8_ops_per_s);
    Append(pool.n_threads(), f32, profile.f32_flops);
    if (pool.n_threads() < n_threads) break;  // the system refused more
  }
  profile.handoff_ns = profile.n_usable_cpus > 1 ? MeasureHandoff() : 0;
  return OkStatus();
}

}  // namespace pantry
