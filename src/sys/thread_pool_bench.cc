// SPDX-License-Identifier: Apache-2.0
// What an empty parallel loop costs: back to back (workers spin) and after a pause (workers sleep).
#include <benchmark/benchmark.h>

#include <chrono>

#include "sys/thread_pool.h"

namespace pantry {
namespace {

void EmptyLoop(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    pool.ParallelFor(state.range(1), [](int64_t item, int) { benchmark::DoNotOptimize(item); });
  }
}
BENCHMARK(EmptyLoop)->ArgNames({"threads", "items"})->ArgsProduct({{1, 2, 4}, {2, 16}})->UseRealTime();

void EmptyLoopAfterAPause(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    state.PauseTiming();
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(200);  // longer than a worker spins
    while (std::chrono::steady_clock::now() < until) {
    }
    state.ResumeTiming();
    pool.ParallelFor(2, [](int64_t item, int) { benchmark::DoNotOptimize(item); });
  }
}
BENCHMARK(EmptyLoopAfterAPause)->ArgName("threads")->Arg(2)->UseRealTime();

}  // namespace
}  // namespace pantry
