// SPDX-License-Identifier: Apache-2.0
// A VirtualCache is an expert cache without experts: which ones would lie in memory, beside a model whose weights all do.
//
// So any cache size can be tried without reading a byte. Each layer has an LRU cache of its own. A token's hits are judged against what
// lay there before it; then its experts come in from the largest weight to the smallest, and the largest leaves first.
// Threads: thread-compatible. No allocation after construction.
// Invariant: no layer holds more than its capacity.
// Source: arXiv 2412.00099, section 4.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "policy/routing/cache_aware_router.h"

namespace pantry {

// The layers of a model that have experts.
struct ExpertLayers {
  int32_t first_layer = 0;
  int32_t n_layers = 0;
  int32_t n_experts = 0;
  int32_t n_used = 0;
};

struct VirtualCacheFigures {
  int64_t n_choices = 0;  // (token, layer) pairs
  int64_t n_slots = 0;    // of the router: n_used each, whether an expert ran in them or not
  int64_t n_misses = 0;
  int64_t n_evicted = 0;
  int64_t n_stayed = 0;  // (token, expert) pairs: how many experts lay there before each token, in all layers

  double miss_rate() const { return n_slots > 0 ? static_cast<double>(n_misses) / static_cast<double>(n_slots) : 0; }
  // Mean number of tokens that an expert stays. Stays that a cleared cache cut short count by what is known of them: all tokens stayed over
  // all evictions. Infinite where nothing was evicted.
  double lifetime() const {
    return n_evicted > 0 ? static_cast<double>(n_stayed) / static_cast<double>(n_evicted)
                         : std::numeric_limits<double>::infinity();
  }
  VirtualCacheFigures& operator+=(const VirtualCacheFigures& more);
  VirtualCacheFigures operator-(const VirtualCacheFigures& before) const;
};

class VirtualCache final : public NearExperts {
 public:
  // `capacity` experts a layer. REQUIRES: at least n_used.
  VirtualCache(const ExpertLayers& layers, int32_t capacity);

  void Look(int32_t layer, std::span<uint8_t> is_near) const override;
  // A token ran `chosen` in `layer`: descending by weight, ExpertChooser::kNone last.
  void Use(int32_t layer, std::span<const int32_t> chosen);
  // Empties it. The figures go on.
  void Clear();

  int32_t capacity() const { return capacity_; }
  const VirtualCacheFigures& figures() const { return figures_; }

 private:
  size_t IndexOf(int32_t layer) const;

  ExpertLayers layers_;
  int32_t capacity_;
  VirtualCacheFigures figures_;
  uint64_t now_ = 0;
  std::vector<uint64_t> last_use_;  // by layer and expert; 0: not there
  std::vector<int32_t> n_there_;    // by layer
};

// The experts of `share` of a layer: at least as many as a token uses, at most all.
int32_t CapacityOf(const ExpertLayers& layers, double share);

}  // namespace pantry
