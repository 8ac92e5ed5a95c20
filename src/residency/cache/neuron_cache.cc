// SPDX-License-Identifier: Apache-2.0
#include "residency/cache/neuron_cache.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/units.h"

namespace pantry {
namespace {

constexpr uint32_t kFullHeat = UINT16_MAX;  // of a neuron that always fires
constexpr int kMemoryShift = 5;             // a token counts a 32nd
constexpr int64_t kHugePage = AlignedBuffer::kHugePageBytes;
// A free slot is taken for a neuron that fires for so many of a run of tokens; those of single tokens take any.
constexpr int64_t kFewTokens = 4;
constexpr int64_t kWarmShare = 8;  // one in

// What is left of 65536 parts of heat after n tokens.
uint32_t KeptAfter(int64_t n_tokens) {
  uint64_t kept = 1 << 16;
  for (int64_t i = 0; i < n_tokens && kept > 0; ++i) kept -= (kept >> kMemoryShift) + 1;
  return static_cast<uint32_t>(kept);
}

}  // namespace

int64_t NeuronCache::BookkeepingBytes(const NeuronCacheOptions& options) {
  const int64_t n_neurons = int64_t{options.n_layers} * options.n_networks * options.n_neurons;
  const int64_t n_slots = std::max(options.budget_bytes, options.max_budget_bytes) / options.slot_bytes;
  return n_neurons * 6 + std::min(n_slots, n_neurons) * 4;
}

Result<std::unique_ptr<NeuronCache>> NeuronCache::Create(const NeuronCacheOptions& options) {
  const int64_t of_layer = int64_t{options.n_networks} * options.n_neurons;
  if (options.n_layers < 1 || options.n_networks < 1 || options.n_neurons < 1 || of_layer >= kNone / options.n_layers ||
      options.slot_bytes < 1 || options.budget_bytes < 0) {
    return InvalidArgumentError("a cache of {} layers of {} networks of {} neurons of {} bytes", options.n_layers,
                                options.n_networks, options.n_neurons, options.slot_bytes);
  }
  const int64_t n_neurons = options.n_layers * of_layer;
  auto cache = std::unique_ptr<NeuronCache>(new NeuronCache());
  cache->n_neurons_ = options.n_neurons;
  cache->slot_bytes_ = options.slot_bytes;
  cache->max_budget_bytes_ = std::max(options.budget_bytes, options.max_budget_bytes);
  const int64_t n_slots = std::min(cache->max_budget_bytes_ / options.slot_bytes, n_neurons);
  PANTRY_ASSIGN_OR_RETURN(cache->memory_, AlignedBuffer::Reserve(static_cast<size_t>(n_slots * options.slot_bytes)));
  cache->slot_of_.assign(static_cast<size_t>(n_neurons), kNone);
  cache->heat_.assign(static_cast<size_t>(n_neurons), 0);
  cache->fires_.assign(static_cast<size_t>(of_layer), 0);
  cache->owner_of_.assign(static_cast<size_t>(n_slots), kNone);
  cache->stats_.resize(static_cast<size_t>(options.n_layers));
  cache->SetBudget(options.budget_bytes);
  return cache;
}

int64_t NeuronCache::committed_bytes() const {
  const int64_t end = n_committed_ * slot_bytes_;
  return std::min(AlignUp(end, kHugePage), static_cast<int64_t>(memory_.size()));
}

std::span<uint8_t> NeuronCache::CommitMore() {
  const int64_t begin = n_committed_ * slot_bytes_;
  const int64_t end = std::min((begin / kHugePage + 1) * kHugePage, n_slots_ * slot_bytes_);
  if (begin >= end) return {};
  n_committed_ = static_cast<uint32_t>((end + slot_bytes_ - 1) / slot_bytes_);
  return {memory_.data() + begin, static_cast<size_t>(end - begin)};
}

void NeuronCache::BeginEvent(int32_t layer, int64_t n_tokens) {
  layer_ = layer;
  network_ = 0;
  n_tokens_ = n_tokens;
  std::fill(fires_.begin(), fires_.end(), uint8_t{0});
  const uint32_t kept = KeptAfter(n_tokens);
  gain_ = static_cast<uint32_t>((uint64_t{kFullHeat} * ((1 << 16) - kept)) >> 16);
  uint16_t* const heat = heat_.data() + At(0);
  for (size_t i = 0; i < fires_.size(); ++i) heat[i] = static_cast<uint16_t>((uint32_t{heat[i]} * kept) >> 16);
}

void NeuronCache::Use(std::span<const int32_t> neurons, std::span<const uint16_t> n_uses) {
  int64_t n_hits = 0;
  for (size_t i = 0; i < neurons.size(); ++i) {
    const size_t at = At(neurons[i]);
    const uint64_t uses = n_uses.empty() ? 1 : n_uses[i];
    const uint64_t heat = heat_[at] + gain_ * uses / static_cast<uint64_t>(n_tokens_);
    heat_[at] = static_cast<uint16_t>(std::min<uint64_t>(heat, kFullHeat));
    n_hits += slot_of_[at] != kNone ? 1 : 0;
    fires_[InLayer(neurons[i])] = 1;
  }
  CacheStats& stats = stats_[static_cast<size_t>(layer_)];
  const auto n = static_cast<int64_t>(neurons.size());
  stats.n_demanded += n;
  stats.n_hits += n_hits;
  stats.n_misses += n - n_hits;
  stats.demanded_bytes += n * slot_bytes_;
  stats.missed_bytes += (n - n_hits) * slot_bytes_;
}

// Of the next kSample slots, all in use, without those that fire at hand; kNone: there is none among them.
uint32_t NeuronCache::ColdestOfSome() {
  uint32_t coldest = kNone;
  const auto begin = static_cast<uint32_t>(static_cast<size_t>(layer_) * fires_.size());
  for (int i = 0; i < kSample; ++i) {
    hand_ = hand_ + 1 < n_started_ ? hand_ + 1 : 0;
    const uint32_t owner = owner_of_[hand_];
    if (owner - begin < fires_.size() && fires_[owner - begin] != 0) continue;
    if (coldest == kNone || heat_[owner] < heat_[owner_of_[coldest]]) coldest = hand_;
  }
  return coldest;
}

void NeuronCache::Evict(uint32_t slot) {
  const uint32_t owner = owner_of_[slot];
  slot_of_[owner] = kNone;
  owner_of_[slot] = kNone;
  CacheStats& stats = StatsOf(owner);
  ++stats.n_evicted;
  --stats.n_resident;
  stats.resident_bytes -= slot_bytes_;
}

// Moves what is warm into slots below `n_slots`, over what is cold there.
void NeuronCache::GatherWarmest(uint32_t n_slots) {
  constexpr int kShift = 4;
  std::array<uint32_t, (kFullHeat >> kShift) + 1> counts = {};
  for (uint32_t slot = 0; slot < n_started_; ++slot) ++counts[HeatOf(slot) >> kShift];
  uint32_t n_warm = 0, least = counts.size();  // warm: so hot or hotter, of which there are at most n_slots
  while (least > 0 && n_warm + counts[least - 1] <= n_slots) n_warm += counts[--least];
  for (const uint32_t bin :
       {least, least - std::min(least, 1U)}) {  // then as many of the next ones as there is room for
    uint32_t to = 0;
    for (uint32_t slot = n_slots; slot < n_started_; ++slot) {
      const uint32_t owner = owner_of_[slot];
      if (owner == kNone || heat_[owner] >> kShift < bin) continue;
      while (to < n_slots && HeatOf(to) >> kShift >= bin) ++to;
      if (to == n_slots) break;
      Evict(to);
      const auto n_bytes = static_cast<size_t>(slot_bytes_);
      std::memcpy(memory_.data() + to * n_bytes, SlotAt(slot), n_bytes);
      owner_of_[to] = owner;
      slot_of_[owner] = to;
      owner_of_[slot] = kNone;
    }
  }
}

uint8_t* NeuronCache::Admit(int32_t neuron) {
  const size_t at = At(neuron);
  uint32_t slot = kNone;
  if (n_started_ < n_slots_) {
    if (n_tokens_ >= kFewTokens && heat_[at] < gain_ / kWarmShare) return nullptr;
    slot = n_started_++;
    n_committed_ = std::max(n_committed_, n_started_);
  } else {
    if (n_slots_ == 0) return nullptr;
    const uint32_t coldest = ColdestOfSome();
    if (coldest == kNone || heat_[owner_of_[coldest]] >= heat_[at]) return nullptr;
    Evict(coldest);
    slot = coldest;
  }
  slot_of_[at] = slot;
  owner_of_[slot] = static_cast<uint32_t>(at);
  CacheStats& stats = stats_[static_cast<size_t>(layer_)];
  ++stats.n_admitted;
  stats.admitted_bytes += slot_bytes_;
  ++stats.n_resident;
  stats.resident_bytes += slot_bytes_;
  return memory_.data() + slot * static_cast<size_t>(slot_bytes_);
}

void NeuronCache::SeedHeat(int32_t layer, std::span<const uint16_t> frequency) {
  PANTRY_CHECK(frequency.size() == fires_.size());
  uint16_t* const heat = heat_.data() + static_cast<size_t>(layer) * fires_.size();
  for (size_t i = 0; i < frequency.size(); ++i) {
    heat[i] =
        static_cast<uint16_t>((uint32_t{frequency[i]} * kProfileTokens + (1 << kMemoryShift) - 1) >> kMemoryShift);
  }
}

std::vector<std::vector<int32_t>> NeuronCache::WarmestAbsent(std::span<const uint16_t> uses) const {
  PANTRY_CHECK(uses.empty() || heat_.size() % uses.size() == 0);
  const auto is_absent = [&](uint32_t id) { return slot_of_[id] == kNone && heat_[id] > 0; };
  size_t n_absent = 0;
  for (uint32_t id = 0; id < heat_.size(); ++id) n_absent += is_absent(id) ? 1 : 0;
  std::vector<uint32_t> absent;  // no larger than it must be: millions, which no plan knows
  absent.reserve(n_absent);
  for (uint32_t id = 0; id < heat_.size(); ++id) {
    if (is_absent(id)) absent.push_back(id);
  }
  const size_t n = std::min<size_t>(absent.size(), n_slots_ - n_started_);
  const size_t n_of_network = uses.empty() ? heat_.size() : heat_.size() / uses.size();
  const auto use_of = [&](uint32_t id) { return uses.empty() ? 0 : uses[id / n_of_network]; };
  const auto warmer = [&](uint32_t a, uint32_t b) {
    if (heat_[a] != heat_[b]) return heat_[a] > heat_[b];
    return use_of(a) != use_of(b) ? use_of(a) > use_of(b) : a < b;
  };
  std::nth_element(absent.begin(), absent.begin() + static_cast<int64_t>(n), absent.end(), warmer);
  absent.resize(n);
  std::sort(absent.begin(), absent.end());
  std::vector<std::vector<int32_t>> by_layer(stats_.size());
  const auto n_neurons = static_cast<uint32_t>(fires_.size());  // of a layer
  for (const uint32_t id : absent) by_layer[id / n_neurons].push_back(static_cast<int32_t>(id % n_neurons));
  return by_layer;
}

int64_t NeuronCache::SetBudget(int64_t budget_bytes) {
  budget_bytes = std::clamp<int64_t>(budget_bytes, 0, max_budget_bytes_);
  n_slots_ =
      static_cast<uint32_t>(std::min<int64_t>(budget_bytes / slot_bytes_, static_cast<int64_t>(owner_of_.size())));
  if (n_committed_ > n_slots_) {
    if (n_started_ > n_slots_) GatherWarmest(n_slots_);
    for (uint32_t slot = n_slots_; slot < n_started_; ++slot) {
      if (owner_of_[slot] != kNone) Evict(slot);
    }
    n_started_ = std::min(n_started_, n_slots_);
    n_committed_ = n_slots_;
    const auto page = static_cast<int64_t>(AlignedBuffer::PageBytes());
    const int64_t begin = AlignUp(n_slots_ * slot_bytes_, page);
    const int64_t end = static_cast<int64_t>(memory_.size()) / page * page;
    if (begin < end) memory_.GiveBack(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    hand_ = 0;
  }
  return budget_bytes_ = budget_bytes;
}

void NeuronCache::Forget() {
  for (uint32_t slot = 0; slot < n_started_; ++slot) Evict(slot);
  n_started_ = 0;
  hand_ = 0;
  std::fill(heat_.begin(), heat_.end(), uint16_t{0});
}

}  // namespace pantry
