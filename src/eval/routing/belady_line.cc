// SPDX-License-Identifier: Apache-2.0
#include "eval/routing/belady_line.h"

#include "policy/routing/expert_chooser.h"
#include "residency/cache/block_cache.h"
#include "sim/replay.h"

namespace pantry {
namespace {

constexpr int64_t kBlockBytes = 4096;  // all alike; the least that a slot takes

RoutingTrace TraceOf(std::span<const int32_t> choices, size_t n_used) {
  RoutingTrace trace;
  std::vector<BlockId> wanted;
  for (size_t at = 0; at < choices.size(); at += n_used) {
    wanted.clear();
    for (const int32_t expert : choices.subspan(at, n_used)) {
      if (expert != ExpertChooser::kNone) wanted.emplace_back(static_cast<uint32_t>(expert));
    }
    trace.Add(0, true, wanted);
  }
  return trace;
}

}  // namespace

Result<int64_t> BeladyMisses(std::span<const std::vector<int32_t>> recorded, const ExpertLayers& layers,
                             int32_t capacity) {
  const std::vector<BlockInfo> blocks = MakeBlocks({"", 1, layers.n_experts, layers.n_used}, kBlockBytes);
  BlockCacheOptions options;
  options.budget_bytes = capacity * BlockCache::SlotBytes(kBlockBytes);
  options.huge_pages = false;
  int64_t n_misses = 0;
  for (const std::vector<int32_t>& choices : recorded) {
    const RoutingTrace trace = TraceOf(choices, static_cast<size_t>(layers.n_used));
    PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<BlockCache> cache,
                            BlockCache::Create(blocks, options, MakeBelady(trace, blocks.size())));
    PANTRY_ASSIGN_OR_RETURN(const CacheStats stats, Replay(trace, *cache));
    n_misses += stats.n_misses;
  }
  return n_misses;
}

}  // namespace pantry
