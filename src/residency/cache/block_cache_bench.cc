// SPDX-License-Identifier: Apache-2.0
// What the cache costs: one event of 8 blocks (demand, admissions of the misses, pins), by policy and number of blocks.
#include <benchmark/benchmark.h>

#include <vector>

#include "base/rng.h"
#include "residency/cache/block_cache.h"

namespace pantry {
namespace {

constexpr int kLayers = 48;
constexpr int kChosen = 8;

// With room for all blocks there are hits only; with room for a sixteenth nearly each block is a miss that evicts another.
void Event(benchmark::State& state, PolicyKind kind, bool evicting) {
  const auto n_of_layer = static_cast<int>(state.range(0)) / kLayers;
  std::vector<BlockInfo> blocks;
  for (int layer = 0; layer < kLayers; ++layer)
    blocks.insert(blocks.end(), static_cast<size_t>(n_of_layer), {layer, 4096});
  BlockCacheOptions options;
  options.budget_bytes = 4096 * static_cast<int64_t>(evicting ? blocks.size() / 16 : blocks.size());
  options.policy.kind = kind;
  options.huge_pages = false;
  auto cache = BlockCache::Create(blocks, options).value();
  Rng rng(1);
  BlockId wanted[kChosen];
  BlockState before[kChosen];
  int layer = 0;
  const auto event = [&] {
    if (layer == 0) cache->BeginStep();
    const int stride = n_of_layer / kChosen;
    for (int i = 0; i < kChosen; ++i) {
      wanted[i] = BlockId(static_cast<uint32_t>(layer * n_of_layer + i * stride) +
                          static_cast<uint32_t>(rng.NextU64() % static_cast<uint64_t>(stride)));
    }
    cache->Demand(layer, wanted, before);
    for (int i = 0; i < kChosen; ++i) {
      if (before[i] != BlockState::kAbsent) continue;
      benchmark::DoNotOptimize(cache->Admit(wanted[i]).memory);
      cache->Arrived(wanted[i]);
    }
    for (const BlockId block : wanted) cache->Unpin(block);
    layer = (layer + 1) % kLayers;
  };
  for (uint32_t id = 0; id < blocks.size() && cache->AdmitIfRoom(BlockId(id)).memory != nullptr; ++id) {
    cache->Arrived(BlockId(id));
  }
  for (int i = 0; i < 50000; ++i) event();  // until heat differs
  cache->ResetCounts();
  for (auto _ : state) event();
  const CacheStats stats = cache->TotalStats();
  state.counters["ns_per_block"] = benchmark::Counter(static_cast<double>(state.iterations()) * kChosen * 1e-9,
                                                      benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["hit_share"] = stats.HitRate();
  state.counters["bytes_per_block"] =
      static_cast<double>(cache->bookkeeping_bytes()) / static_cast<double>(blocks.size());
}

void Hits(benchmark::State& state, PolicyKind kind) { Event(state, kind, false); }
void Evictions(benchmark::State& state, PolicyKind kind) { Event(state, kind, true); }
#define PANTRY_CACHE_BENCH(kind)                                                                                     \
  BENCHMARK_CAPTURE(Hits, kind, PolicyKind::kind)->ArgName("blocks")->Arg(6144)->Arg(48 * 4096)->Iterations(100000); \
  BENCHMARK_CAPTURE(Evictions, kind, PolicyKind::kind)->ArgName("blocks")->Arg(6144)->Arg(48 * 4096)->Iterations(100000)
PANTRY_CACHE_BENCH(kLru);
PANTRY_CACHE_BENCH(kLfu);
PANTRY_CACHE_BENCH(kLrfu);
PANTRY_CACHE_BENCH(kCycle);

}  // namespace
}  // namespace pantry
