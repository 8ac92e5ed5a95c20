// SPDX-License-Identifier: Apache-2.0
// A ReferenceCache is the BlockCache as one would write it without care for time or memory: maps, histories, and linear searches.
// For tests: whatever the two disagree on is a bug in one of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "residency/cache/block_cache.h"

namespace pantry::testing {

class ReferenceCache {
 public:
  ReferenceCache(std::vector<BlockInfo> blocks, int64_t budget, PolicyKind kind, double half_life)
      : budget_bytes(budget), blocks_(std::move(blocks)), kind_(kind), half_life_(half_life) {
    for (const BlockInfo& block : blocks_) n_layers_ = std::max(n_layers_, block.layer + 1);
  }

  struct Block {
    BlockState state = BlockState::kAbsent;
    int n_pins = 0;
    int64_t evictable_since = 0;  // counts insertions; LRU needs it for blocks that were never used
  };
  struct Use {
    double time;
    double weight;
    int64_t number;
  };

  int64_t Slot(uint32_t id) const { return (blocks_[id].n_bytes + 4095) / 4096 * 4096; }
  int64_t Used() const {
    int64_t bytes = 0;
    for (const auto& [id, block] : in_) bytes += Slot(id);
    return bytes;
  }
  bool Has(uint32_t id) const { return in_.count(id) > 0; }
  int Pins(uint32_t id) const { return Has(id) ? in_.at(id).n_pins : 0; }
  BlockState State(uint32_t id) const { return Has(id) ? in_.at(id).state : BlockState::kAbsent; }

  void BeginStep(int64_t n_tokens) {
    ++step;
    time_ += static_cast<double>(n_tokens);
  }
  void Demand(int layer, const std::vector<BlockId>& wanted) {
    here_ = layer;
    visits_[layer].push_back(time_);
    for (const BlockId id : wanted) {
      demanded_[id.value()] = step;
      if (State(id.value()) == BlockState::kResident) ++n_hits;
      if (State(id.value()) == BlockState::kReading) ++n_late;
      if (State(id.value()) == BlockState::kAbsent) ++n_misses;
      if (Has(id.value())) Pin(id.value());
      AddUse(id.value(), 1);
      here_block_ = id.value();
    }
  }
  void Pin(uint32_t id) { ++in_.at(id).n_pins; }
  void Unpin(uint32_t id) {
    --in_.at(id).n_pins;
    in_.at(id).evictable_since = ++n_insertions_;
  }
  void Arrived(uint32_t id) {
    in_.at(id).state = BlockState::kResident;
    in_.at(id).evictable_since = ++n_insertions_;
  }
  void Warm(uint32_t id, double weight) {
    AddUse(id, weight);
    if (Has(id)) in_.at(id).evictable_since = ++n_insertions_;
  }
  void AddUse(uint32_t id, double weight) {
    if (kind_ == PolicyKind::kLru && weight != 1) return;
    uses_[id].push_back({time_, weight, ++n_uses_});
  }

  double UseWeight(double time) const {
    return kind_ == PolicyKind::kLfu ? std::exp2(std::floor(time / half_life_)) : std::exp2(time / half_life_);
  }
  double Heat(uint32_t id, double extra_use = 0) const {
    const auto it = uses_.find(id);
    const std::vector<Use> uses = it == uses_.end() ? std::vector<Use>() : it->second;
    if (kind_ == PolicyKind::kLru) return uses.empty() ? 0 : static_cast<double>(uses.back().number);
    double heat = 0;
    for (const Use& use : uses) heat += use.weight * UseWeight(use.time);
    return heat + extra_use * UseWeight(time_);
  }
  // What the policy says a block is worth; smaller goes first.
  double Worth(uint32_t id, double extra_use = 0) const {
    const double heat = Heat(id, extra_use);
    if (kind_ != PolicyKind::kCycle) return heat;
    const int layer = blocks_[id].layer;
    double all = 1;
    if (visits_.count(layer)) {
      for (const double time : visits_.at(layer)) all += UseWeight(time);
    }
    return -(UntilVisit(layer) + all / std::max(heat, 1e-30 * all) - 1);
  }
  double UntilVisit(int layer) const {
    const int ahead = layer > here_ ? layer - here_ : layer + n_layers_ - here_;
    return static_cast<double>(ahead) / n_layers_;
  }
  // Blocks that a rotation wants before this one.
  size_t Ahead(uint32_t id) const {
    return id > here_block_ ? id - here_block_ - 1 : id + blocks_.size() - here_block_ - 1;
  }
  bool IsColder(uint32_t victim, uint32_t guess, double likelihood) const {
    if (kind_ == PolicyKind::kRotation) return Ahead(victim) > Ahead(guess);
    if (kind_ != PolicyKind::kCycle) return Worth(victim) < Worth(guess, kind_ == PolicyKind::kLru ? 0 : likelihood);
    return -Worth(victim) * (likelihood / std::max(1 - likelihood, 1e-9)) > UntilVisit(blocks_[guess].layer);
  }
  int64_t LastUse(uint32_t id) const { return uses_.count(id) ? uses_.at(id).back().number : 0; }

  // Whether `a` goes before `b`. Equal worth: in one layer (or without layers) the earlier use, never used by LRU the later to come in;
  // between layers the lower one.
  bool GoesBefore(uint32_t a, uint32_t b) const {
    if (kind_ == PolicyKind::kRotation) return Ahead(a) > Ahead(b);
    if (kind_ == PolicyKind::kCycle && blocks_[a].layer != blocks_[b].layer) {
      return Worth(a) != Worth(b) ? Worth(a) < Worth(b) : a < b;
    }
    if (Heat(a) != Heat(b)) return Heat(a) < Heat(b);
    if (kind_ == PolicyKind::kLru) return in_.at(a).evictable_since > in_.at(b).evictable_since;
    return LastUse(a) != LastUse(b) ? LastUse(a) < LastUse(b) : a < b;
  }
  int64_t Coldest() const {
    int64_t best = -1;
    for (const auto& [id, block] : in_) {
      if (block.state != BlockState::kResident || block.n_pins > 0) continue;
      if (best < 0 || GoesBefore(id, static_cast<uint32_t>(best))) best = id;
    }
    return best;
  }

  // REQUIRES: one slot size for all. Returns whether it was admitted.
  bool Admit(uint32_t id, bool guess, bool only_free, double likelihood) {
    if (Used() + Slot(id) > budget_bytes) {
      const int64_t victim = Coldest();
      if (only_free || victim < 0) return false;
      const auto v = static_cast<uint32_t>(victim);
      if (guess &&
          ((demanded_[v] == step && likelihood < 1 && kind_ != PolicyKind::kCycle) || !IsColder(v, id, likelihood)))
        return false;
      in_.erase(v);
      ++n_evicted;
    }
    in_[id].state = BlockState::kReading;
    if (guess) AddUse(id, likelihood);
    if (!guess && !only_free) in_[id].n_pins = 1;
    return true;
  }
  void Remove(uint32_t id) { in_.erase(id); }
  void Shrink(int64_t bytes) {
    while (Used() > bytes && Coldest() >= 0) {
      in_.erase(static_cast<uint32_t>(Coldest()));
      ++n_evicted;
    }
    budget_bytes = std::max(bytes, Used());
  }
  void Forget() {
    in_.clear();
    uses_.clear();
    visits_.clear();
    demanded_.clear();
    time_ = 0;
    here_ = 0;
    here_block_ = 0;
  }

  int64_t budget_bytes;
  int64_t step = 1;
  int64_t n_hits = 0, n_late = 0, n_misses = 0, n_evicted = 0;

 private:
  std::vector<BlockInfo> blocks_;
  PolicyKind kind_;
  double half_life_;
  int n_layers_ = 0;
  int here_ = 0;
  uint32_t here_block_ = 0;
  double time_ = 0;
  int64_t n_uses_ = 0;
  int64_t n_insertions_ = 0;
  std::map<uint32_t, Block> in_;
  std::map<uint32_t, std::vector<Use>> uses_;
  std::map<uint32_t, int64_t> demanded_;
  std::map<int, std::vector<double>> visits_;
};

}  // namespace pantry::testing
