// SPDX-License-Identifier: Apache-2.0
// Hit rates of the policies and of Belady's bound on made-up traces, by cache size: the table of residency/README.md.
// The counter "hit" is what matters; the time is that of replaying one event.
#include <benchmark/benchmark.h>
#include <cmath>

#include <string>
#include <vector>

#include "sim/replay.h"

namespace pantry {
namespace {

constexpr int kTokens = 600;
constexpr int kSkip = 150;  // the cache fills

void HitRate(benchmark::State& state, const TraceShape& shape, PolicyOptions policy, bool belady, double share) {
  const RoutingTrace trace = MakeTrace(shape, {.n_tokens = kTokens});
  const auto blocks = MakeBlocks(shape, 4096);
  BlockCacheOptions options;
  options.budget_bytes = std::llround(share * static_cast<double>(blocks.size())) * 4096;
  options.huge_pages = false;
  options.policy = policy;
  CacheStats stats;
  for (auto _ : state) {
    auto cache = BlockCache::Create(blocks, options, belady ? MakeBelady(trace, blocks.size()) : nullptr).value();
    stats = Replay(trace, *cache, {.skip_steps = kSkip, .watch = {}}).value();
  }
  state.counters["hit"] = stats.HitRate();
  state.counters["lifetime_tokens"] =
      stats.n_evicted > 0 ? static_cast<double>(stats.evicted_age_steps) / static_cast<double>(stats.n_evicted) : 0;
  state.counters["event_ns"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * static_cast<double>(trace.events.size()) * 1e-9,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

int Register() {
  const TraceShape shapes[] = {
      {"48x128-choose-8", 48, 128, 8}, {"16x64-choose-8", 16, 64, 8}, {"32x32-choose-4", 32, 32, 4}};
  for (const TraceShape& shape : shapes) {
    for (const double share : {0.0625, 0.125, 0.25, 0.5, 0.75}) {
      const auto add = [&](const std::string& name, PolicyOptions policy, bool belady) {
        const std::string full = shape.name + "/" + name + "/" + std::to_string(static_cast<int>(share * 100)) + "%";
        benchmark::RegisterBenchmark(full.c_str(), HitRate, shape, policy, belady, share)->Iterations(1);
      };
      add("belady", {PolicyKind::kLru, 0}, true);
      for (const PolicyKind kind : kPolicyKinds) add(std::string(PolicyName(kind)), {kind, 0}, false);
    }
  }
  return 0;
}
const int kRegistered = Register();

}  // namespace
}  // namespace pantry
