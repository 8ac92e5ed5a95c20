// SPDX-License-Identifier: Apache-2.0
// The fewest misses that any cache could have on choices that were recorded: Belady's bound, for caches of whole layers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "eval/routing/virtual_cache.h"

namespace pantry {

// `recorded` as RoutingRun::recorded(): of each layer, the experts of one token after another. Each layer has a cache of `capacity` experts.
Result<int64_t> BeladyMisses(std::span<const std::vector<int32_t>> recorded, const ExpertLayers& layers,
                             int32_t capacity);

}  // namespace pantry
