// SPDX-License-Identifier: Apache-2.0
#include "eval/routing/virtual_cache.h"

#include <algorithm>
#include <cmath>

namespace pantry {

VirtualCacheFigures& VirtualCacheFigures::operator+=(const VirtualCacheFigures& more) {
  n_choices += more.n_choices;
  n_slots += more.n_slots;
  n_misses += more.n_misses;
  n_evicted += more.n_evicted;
  n_stayed += more.n_stayed;
  return *this;
}

VirtualCacheFigures VirtualCacheFigures::operator-(const VirtualCacheFigures& before) const {
  return {.n_choices = n_choices - before.n_choices,
          .n_slots = n_slots - before.n_slots,
          .n_misses = n_misses - before.n_misses,
          .n_evicted = n_evicted - before.n_evicted,
          .n_stayed = n_stayed - before.n_stayed};
}

VirtualCache::VirtualCache(const ExpertLayers& layers, int32_t capacity)
    : layers_(layers),
      capacity_(capacity),
      last_use_(static_cast<size_t>(layers.n_layers) * static_cast<size_t>(layers.n_experts)),
      n_there_(static_cast<size_t>(layers.n_layers)) {
  PANTRY_CHECK(capacity >= layers.n_used);
}

size_t VirtualCache::IndexOf(int32_t layer) const {
  const auto index = static_cast<size_t>(layer - layers_.first_layer);
  PANTRY_CHECK(index < n_there_.size());
  return index;
}

void VirtualCache::Look(int32_t layer, std::span<uint8_t> is_near) const {
  const size_t first = IndexOf(layer) * is_near.size();
  for (size_t i = 0; i < is_near.size(); ++i) is_near[i] = last_use_[first + i] != 0 ? 1 : 0;
}

void VirtualCache::Use(int32_t layer, std::span<const int32_t> chosen) {
  const size_t index = IndexOf(layer), n = static_cast<size_t>(layers_.n_experts);
  const auto last_uses = std::span(last_use_).subspan(index * n, n);
  int32_t& n_there = n_there_[index];
  ++figures_.n_choices;
  figures_.n_slots += layers_.n_used;
  figures_.n_stayed += n_there;
  // All get their time first: what a token uses is not evicted for it.
  for (const int32_t expert : chosen) {
    if (expert == ExpertChooser::kNone) break;
    uint64_t& last_use = last_uses[static_cast<size_t>(expert)];
    if (last_use == 0) {
      ++figures_.n_misses;
      ++n_there;
    }
    last_use = ++now_;
  }
  for (; n_there > capacity_; --n_there) {
    const auto is_older = [](uint64_t a, uint64_t b) { return a - 1 < b - 1; };  // 0, not there, becomes the largest
    *std::ranges::min_element(last_uses, is_older) = 0;
    ++figures_.n_evicted;
  }
}

void VirtualCache::Clear() {
  std::ranges::fill(last_use_, 0);
  std::ranges::fill(n_there_, 0);
}

int32_t CapacityOf(const ExpertLayers& layers, double share) {
  const auto rounded = static_cast<int32_t>(std::lround(share * layers.n_experts));
  return std::clamp(rounded, layers.n_used, layers.n_experts);
}

}  // namespace pantry
