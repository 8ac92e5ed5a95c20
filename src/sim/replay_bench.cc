// SPDX-License-Identifier: Apache-2.0
// Hit rates of the policies and of Belady's bound on made-up traces, by cache size: the tables of residency/README.md.
// The counter "hit" is what matters; the time is that of replaying one event. PANTRY_ROUTING_FILE names recordings
// (pantry run --trace-routing FILE), separated by colons, to be replayed instead. "lru-by-layer" is LRU with an equal budget for each layer.
#include <benchmark/benchmark.h>
#include <cmath>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sstream>
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

// What layer `layer` alone wanted, with its blocks numbered from 0.
Scene LayerOf(const Scene& scene, int32_t layer) {
  Scene out;
  uint32_t first = 0;
  while (scene.blocks[first].layer != layer) ++first;
  for (const BlockInfo& block : scene.blocks) {
    if (block.layer == layer) out.blocks.push_back({0, block.n_bytes});
  }
  std::vector<BlockId> blocks;
  for (size_t i = 0; i < scene.trace.events.size(); ++i) {
    if (scene.trace.events[i].layer != layer) continue;
    blocks.clear();
    for (const BlockId block : scene.trace.blocks_of(i)) blocks.emplace_back(block.value() - first);
    out.trace.Add(0, true, blocks, scene.trace.events[i].n_tokens);
  }
  return out;
}

// The published baseline: a cache of its own for each layer, with the same share of its blocks.
void HitRateByLayer(benchmark::State& state, const Scene& scene, double share) {
  int64_t n_hits = 0, n_demanded = 0;
  for (auto _ : state) {
    const int32_t n_layers = scene.blocks.back().layer + 1;
    for (int32_t layer = 0; layer < n_layers; ++layer) {
      const Scene alone = LayerOf(scene, layer);
      BlockCacheOptions options;
      const double n_slots = std::round(share * static_cast<double>(alone.blocks.size()));
      options.budget_bytes =
          static_cast<int64_t>(std::max(n_slots, 1.0)) * BlockCache::SlotBytes(alone.blocks.front().n_bytes);
      options.huge_pages = false;
      options.policy.kind = PolicyKind::kLru;
      const auto cache = BlockCache::Create(alone.blocks, options).value();
      const int64_t n_skipped = std::min(kSkip, static_cast<int64_t>(alone.trace.n_steps() / 4));
      const CacheStats stats = Replay(alone.trace, *cache, {.skip_steps = n_skipped, .watch = {}}).value();
      n_hits += stats.n_hits;
      n_demanded += stats.n_demanded;
    }
  }
  state.counters["hit"] = static_cast<double>(n_hits) / static_cast<double>(std::max<int64_t>(n_demanded, 1));
}

std::vector<std::shared_ptr<const Scene>> Scenes() {
  std::vector<std::shared_ptr<const Scene>> scenes;
  if (const char* const paths = std::getenv("PANTRY_ROUTING_FILE")) {
    std::istringstream list(paths);
    for (std::string path; std::getline(list, path, ':');) {
      Result<RecordedRouting> recorded = ReadRoutingTrace(path);
      if (!recorded.ok()) {
        std::fprintf(stderr, "%s\n", recorded.status().ToString().c_str());
        continue;
      }
      scenes.push_back(std::make_shared<Scene>(
          Scene{recorded->header.model, std::move(recorded->blocks), std::move(recorded->trace)}));
    }
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
      for (const PolicyKind kind : kPolicyKinds) {
        if (DefaultHalfLife(kind) == 0) add(std::string(PolicyName(kind)), {kind, 0}, false);
        else
          for (const double half_life : {16, 64, 256}) {
            add(std::string(PolicyName(kind)) + ":" + std::to_string(static_cast<int>(half_life)), {kind, half_life},
                false);
          }
      }
      const std::string by_layer = scene->name + "/lru-by-layer/" + std::to_string(static_cast<int>(share * 100)) + "%";
      const auto run = [=](benchmark::State& state) { HitRateByLayer(state, *scene, share); };
      benchmark::RegisterBenchmark(by_layer.c_str(), run)->Iterations(1);
    }
  }
  return 0;
}
const int kRegistered = Register();

}  // namespace
}  // namespace pantry
