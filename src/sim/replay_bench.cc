// SPDX-License-Identifier: Apache-2.0
// Hit rates of the policies and of Belady's bound on made-up traces, by cache size: the table of residency/README.md.
// The counter "hit" is what matters; the time is that of replaying one event. PANTRY_ROUTING_FILE names a recording
// (pantry run --routing-trace FILE) to be replayed instead.
#include <benchmark/benchmark.h>
#include <cmath>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sim/replay.h"
#include "sim/routing_file.h"

namespace pantry {
namespace {

constexpr int kTokens = 600;
constexpr int64_t kSkip = 150;  // the cache fills

// A recording, or made up.
struct Scene {
  std::string name;
  std::vector<BlockInfo> blocks;
  RoutingTrace trace;
};

void HitRate(benchmark::State& state, const Scene& scene, PolicyOptions policy, bool belady, double share) {
  const auto& [name, blocks, trace] = scene;
  int64_t all_bytes = 0;
  for (const BlockInfo& block : blocks) all_bytes += BlockCache::SlotBytes(block.n_bytes);
  BlockCacheOptions options;
  options.budget_bytes = std::llround(share * static_cast<double>(all_bytes));
  options.huge_pages = false;
  options.policy = policy;
  CacheStats stats;
  for (auto _ : state) {
    auto cache = BlockCache::Create(blocks, options, belady ? MakeBelady(trace, blocks.size()) : nullptr).value();
    const int64_t n_skipped = std::min(kSkip, static_cast<int64_t>(trace.n_steps() / 4));
    stats = Replay(trace, *cache, {.skip_steps = n_skipped, .watch = {}}).value();
  }
  state.counters["hit"] = stats.HitRate();
  state.counters["lifetime_tokens"] =
      stats.n_evicted > 0 ? static_cast<double>(stats.evicted_age_steps) / static_cast<double>(stats.n_evicted) : 0;
  state.counters["event_ns"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * static_cast<double>(trace.events.size()) * 1e-9,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

std::vector<std::shared_ptr<const Scene>> Scenes() {
  std::vector<std::shared_ptr<const Scene>> scenes;
  if (const char* const path = std::getenv("PANTRY_ROUTING_FILE")) {
    Result<RecordedRouting> recorded = ReadRoutingTrace(path);
    if (!recorded.ok()) {
      std::fprintf(stderr, "%s\n", recorded.status().ToString().c_str());
      return scenes;
    }
    scenes.push_back(std::make_shared<Scene>(
        Scene{recorded->header.model, std::move(recorded->blocks), std::move(recorded->trace)}));
    return scenes;
  }
  const TraceShape shapes[] = {
      {"48x128-choose-8", 48, 128, 8}, {"16x64-choose-8", 16, 64, 8}, {"32x32-choose-4", 32, 32, 4}};
  for (const TraceShape& shape : shapes) {
    scenes.push_back(
        std::make_shared<Scene>(Scene{shape.name, MakeBlocks(shape, 4096), MakeTrace(shape, {.n_tokens = kTokens})}));
  }
  return scenes;
}

int Register() {
  for (const auto& scene : Scenes()) {
    for (const double share : {0.0625, 0.125, 0.25, 0.5, 0.75}) {
      const auto add = [&](const std::string& name, PolicyOptions policy, bool belady) {
        const std::string full = scene->name + "/" + name + "/" + std::to_string(static_cast<int>(share * 100)) + "%";
        const auto run = [=](benchmark::State& state) { HitRate(state, *scene, policy, belady, share); };
        benchmark::RegisterBenchmark(full.c_str(), run)->Iterations(1);
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
