// SPDX-License-Identifier: Apache-2.0
// A NeuronCache keeps the bundles of those neurons in memory that fire most: thousands of small blocks of one size for each layer.
//
// Per neuron it knows its slot and its heat, six bytes; per slot, whose it is. Heat is the share of tokens for which a neuron fired, the
// last 32 counting most, and known also of neurons that are absent. A neuron that was read stays only if the coldest of a few residents,
// taken in turn, is colder than it: then it takes that one's slot. So what fires once passes through, and a layer's bundles, more than
// the cache holds, do not turn it over. (Fire traces of a 7B dReLU shape, hit rates at 10 / 16 / 25 / 40 % of the neurons: .504 / .677 /
// .852 / .961, the best fixed choice in hindsight .503 / .677 / .855 / .967; LRU .634 at 16 %, .837 at 25 %.)
//
// A layer has one network of neurons, or one for each expert. All of them cool down with every token that passes the layer, so that neurons
// of experts that are seldom chosen are as cold as they are seldom used.
//
//   BeginEvent(layer) -> Use(neurons of it) -> Find() each -> read those absent -> Admit() each, which may refuse -> next event
//                        Select() says of which network, the first one until then
//
// Before the first token heat may be seeded with what a profile knows, and the warmest be read (WarmestAbsent(), Admit() in an event of 0 tokens).
//
// Threads: thread-compatible. No allocation after Create() where nothing else is said.
// Invariants: (1) committed_bytes() <= budget, rounded up to huge pages. (2) Residents that fire stay until the next BeginEvent().
// Cost: Find() O(1), Admit() O(kSample), BeginEvent() O(neurons of the layer); 6 bytes a neuron and 4 a slot, 0.2 % of bundles of 4.6 KB.
// Source: PowerInfer-2's cold region, arXiv 2406.06282, section 4.3 (there LRU).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "residency/cache/budgeted_cache.h"
#include "residency/cache/cache_stats.h"
#include "sys/aligned_buffer.h"

namespace pantry {

struct NeuronCacheOptions {
  int32_t n_layers = 0;
  int32_t n_networks = 1;  // of a layer
  int32_t n_neurons = 0;   // of a network
  int64_t slot_bytes = 0;  // of a bundle, what is kept
  int64_t budget_bytes = 0;
  int64_t max_budget_bytes = 0;  // SetBudget() may grow to this; 0: budget_bytes
};

class NeuronCache final : public BudgetedCache {
 public:
  static constexpr int kSample = 16;  // residents that a new one is compared with
  // A profile counts as so many tokens of the 32 that are remembered: another text than this one's made it.
  static constexpr uint32_t kProfileTokens = 8;

  // kOutOfBudget: address space is refused. kInvalidArgument: sizes that cannot be.
  static Result<std::unique_ptr<NeuronCache>> Create(const NeuronCacheOptions& options);
  static int64_t BookkeepingBytes(const NeuronCacheOptions& options);

  // A layer is about to be computed for `n_tokens`, or filled for none: its neurons cool down by so many.
  void BeginEvent(int32_t layer, int64_t n_tokens);
  // What follows is of this network of the layer at hand.
  void Select(int32_t network) { network_ = network; }
  // `neurons` of the network at hand fire, neuron i for n_uses[i] of the tokens; empty: for one. Counts them as hits or misses.
  void Use(std::span<const int32_t> neurons, std::span<const uint16_t> n_uses);
  // Of the network at hand; null: absent.
  const uint8_t* Find(int32_t neuron) const {
    const uint32_t slot = slot_of_[At(neuron)];
    return slot == kNone ? nullptr : SlotAt(slot);
  }
  // A slot for a neuron of the network at hand, to be written now; null: others are worth more. REQUIRES: absent.
  uint8_t* Admit(int32_t neuron);

  // Neuron i of `layer` fired for frequency[i] of 65535 tokens of some other text: its heat from now on is as if it had done so for the last few
  // tokens. [n_neurons] of each of its networks, one behind the other
  void SeedHeat(int32_t layer, std::span<const uint16_t> frequency);
  // For each layer, ascending over its networks, the warmest of all absent neurons, as many as there are free slots; none without heat. Of equally
  // warm ones those of networks with larger `uses` ([networks of all layers], or none), then the first. Allocates.
  std::vector<std::vector<int32_t>> WarmestAbsent(std::span<const uint16_t> uses = {}) const;

  // No event is at hand until the next BeginEvent(). Of what no longer fits the coldest leave, within 1/4096 of heat.
  int64_t SetBudget(int64_t budget_bytes) override;
  void Forget();  // everything becomes absent and cold

  int64_t budget_bytes() const override { return budget_bytes_; }
  int64_t committed_bytes() const override;
  std::span<uint8_t> CommitMore() override;  // to the end of a huge page
  std::span<const CacheStats> layer_stats() const override { return stats_; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  NeuronCache() = default;
  size_t InLayer(int32_t neuron) const {
    return static_cast<size_t>(network_) * static_cast<size_t>(n_neurons_) + static_cast<size_t>(neuron);
  }
  size_t At(int32_t neuron) const { return static_cast<size_t>(layer_) * fires_.size() + InLayer(neuron); }
  const uint8_t* SlotAt(uint32_t slot) const { return memory_.data() + slot * static_cast<size_t>(slot_bytes_); }
  CacheStats& StatsOf(uint32_t id) { return stats_[id / static_cast<uint32_t>(fires_.size())]; }
  uint32_t ColdestOfSome();
  void Evict(uint32_t slot);
  uint16_t HeatOf(uint32_t slot) const { return heat_[owner_of_[slot]]; }
  void GatherWarmest(uint32_t n_slots);

  int32_t n_neurons_ = 0;
  int64_t slot_bytes_ = 0;
  int64_t budget_bytes_ = 0;
  int64_t max_budget_bytes_ = 0;
  int32_t layer_ = 0;
  int32_t network_ = 0;
  int64_t n_tokens_ = 1;  // of the event
  uint32_t gain_ = 0;     // of heat for a neuron that fires for all of them
  AlignedBuffer memory_;
  std::vector<uint32_t> slot_of_;   // by neuron of the model
  std::vector<uint16_t> heat_;      // same
  std::vector<uint8_t> fires_;      // by neuron of the layer at hand
  std::vector<uint32_t> owner_of_;  // by slot: its neuron, or kNone
  uint32_t n_slots_ = 0;            // that the budget allows
  uint32_t n_started_ = 0;          // slots below are in use
  uint32_t n_committed_ = 0;        // slots below have memory
  uint32_t hand_ = 0;
  std::vector<CacheStats> stats_;  // by layer
};

}  // namespace pantry
