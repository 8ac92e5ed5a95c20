// SPDX-License-Identifier: Apache-2.0
#include "residency/cache/block_cache.h"

#include <algorithm>
#include <limits>

#include "base/units.h"

namespace pantry {
namespace {

constexpr size_t kMaxSizeClasses = 64;  // a model has 1 to 4; each costs a search when memory moves between them
constexpr int64_t kLeastForHugePages = 64 * kMiB;

}  // namespace

Status BlockCacheOptions::Validate() const {
  if (budget_bytes <= 0)
    return InvalidArgumentError("block cache: budget is {} bytes; it must be positive", budget_bytes);
  if (max_budget_bytes != 0 && max_budget_bytes < budget_bytes) {
    return InvalidArgumentError("block cache: the largest budget ({} bytes) is less than the budget ({} bytes)",
                                max_budget_bytes, budget_bytes);
  }
  if (floor_bytes < 0 || floor_bytes > budget_bytes) {
    return InvalidArgumentError("block cache: floor is {} bytes; it must lie in 0 to the budget ({} bytes)",
                                floor_bytes, budget_bytes);
  }
  return policy.Validate();
}

Result<std::unique_ptr<BlockCache>> BlockCache::Create(std::span<const BlockInfo> blocks,
                                                       const BlockCacheOptions& options,
                                                       std::unique_ptr<EvictionPolicy> policy) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  std::unique_ptr<BlockCache> cache(new BlockCache());
  PANTRY_RETURN_IF_ERROR(cache->Lay(blocks, options));
  cache->policy_ = policy != nullptr ? std::move(policy) : MakeEvictionPolicy(options.policy, blocks);
  return cache;
}

int64_t BlockCache::SlotBytes(int64_t n_bytes) {
  return AlignUp(n_bytes, static_cast<int64_t>(AlignedBuffer::PageBytes()));
}

Status BlockCache::Lay(std::span<const BlockInfo> blocks, const BlockCacheOptions& options) {
  if (blocks.empty() || blocks.size() >= kNoBlock.value()) {
    return InvalidArgumentError("block cache: {} blocks; there must be 1 to {}", blocks.size(), kNoBlock.value() - 1);
  }
  budget_bytes_ = options.budget_bytes;
  max_budget_bytes_ = std::max(options.max_budget_bytes, options.budget_bytes);
  floor_bytes_ = options.floor_bytes;
  step_ = 1;

  struct SizeClass {
    int64_t slot_bytes;
    int64_t n_blocks;
  };
  std::vector<SizeClass> classes;
  records_.resize(blocks.size());
  int32_t n_layers = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const auto [layer, n_bytes] = blocks[i];
    if (layer < 0 || layer > std::numeric_limits<uint16_t>::max() || n_bytes <= 0 ||
        n_bytes > std::numeric_limits<uint32_t>::max()) {
      return InvalidArgumentError(
          "block cache: block {} of layer {} has {} bytes; layers are 0 to 65535, bytes 1 to 2^32 - 1", i, layer,
          n_bytes);
    }
    const int64_t slot_bytes = SlotBytes(n_bytes);
    auto it =
        std::find_if(classes.begin(), classes.end(), [&](const SizeClass& c) { return c.slot_bytes == slot_bytes; });
    if (it == classes.end()) {
      if (classes.size() == kMaxSizeClasses) {
        return UnsupportedError("block cache: more than {} block sizes; round them up to fewer", kMaxSizeClasses);
      }
      it = classes.insert(it, {slot_bytes, 0});
    }
    ++it->n_blocks;
    records_[i].n_bytes = static_cast<uint32_t>(n_bytes);
    records_[i].layer = static_cast<uint16_t>(layer);
    records_[i].size_class = static_cast<uint8_t>(it - classes.begin());
    n_layers = std::max(n_layers, layer + 1);
  }

  int64_t smallest = std::numeric_limits<int64_t>::max();
  int64_t largest = 0;
  for (const auto& [slot_bytes, n_blocks] : classes) {
    const int64_t n_slots = std::min(n_blocks, max_budget_bytes_ / slot_bytes);
    // A slot counts with the huge page that it begins, which must not cost a small budget one of its few slots.
    const bool is_large = budget_bytes_ >= kLeastForHugePages || max_budget_bytes_ == budget_bytes_;
    const bool huge =
        options.huge_pages && is_large && (classes.size() == 1 || slot_bytes % AlignedBuffer::kHugePageBytes == 0);
    PANTRY_ASSIGN_OR_RETURN(SlotArena arena, SlotArena::Create(slot_bytes, static_cast<uint32_t>(n_slots), huge));
    if (!arena.CanTake() || arena.CostOfTake() > budget_bytes_) {
      return OutOfBudgetError("block cache: a block needs {} in memory, the budget is {}",
                              FormatBytes(arena.CanTake() ? arena.CostOfTake() : slot_bytes),
                              FormatBytes(budget_bytes_));
    }
    arenas_.push_back(std::move(arena));
    blocks_of_class_.push_back(n_blocks);
    smallest = std::min(smallest, slot_bytes);
    largest = std::max(largest, slot_bytes);
  }
  evictable_of_class_.assign(classes.size(), 0);
  stats_.resize(static_cast<size_t>(n_layers));
  evicted_.reserve(static_cast<size_t>(largest / smallest) + 2);
  return OkStatus();
}

void BlockCache::BeginStep(int64_t n_tokens) {
  PANTRY_CHECK(n_tokens >= 0);
  ++step_;
  policy_->BeginStep(n_tokens);
}

void BlockCache::Demand(int layer, std::span<const BlockId> wanted, std::span<BlockState> before) {
  PANTRY_CHECK(layer >= 0 && static_cast<size_t>(layer) < stats_.size() && before.size() >= wanted.size());
  CacheStats& stats = stats_[static_cast<size_t>(layer)];
  for (size_t i = 0; i < wanted.size(); ++i) {
    Record& record = Get(wanted[i]);
    PANTRY_CHECK(record.layer == layer);
    before[i] = record.state;
    record.demanded_step = step_;
    ++stats.n_demanded;
    stats.demanded_bytes += record.n_bytes;
    if (record.state == BlockState::kAbsent) {
      ++stats.n_misses;
      stats.missed_bytes += record.n_bytes;
      continue;
    }
    if (record.state == BlockState::kReading) {
      ++stats.n_late;
      stats.late_bytes += record.n_bytes;
    } else {
      ++stats.n_hits;
    }
    if (record.guessed) ++stats.n_guesses_used;
    record.guessed = false;
    Pin(wanted[i]);
  }
  policy_->Demanded(layer, wanted);
}

BlockCache::Admission BlockCache::Admit(BlockId block) {
  const Admission admission = AdmitAs(block, Room::kEvict, 0);
  if (admission.memory != nullptr) Get(block).n_pins = 1;
  return admission;
}

BlockCache::Admission BlockCache::AdmitGuess(BlockId block, double likelihood) {
  const Admission admission = AdmitAs(block, Room::kEvictColder, likelihood);
  if (admission.memory == nullptr) return admission;
  Record& record = Get(block);
  record.guessed = true;
  ++stats_[record.layer].n_guesses;
  policy_->Expected(block, likelihood);
  return admission;
}

BlockCache::Admission BlockCache::AdmitCertain(BlockId block) { return AdmitAs(block, Room::kEvictColder, 1); }

BlockCache::Admission BlockCache::AdmitIfRoom(BlockId block) { return AdmitAs(block, Room::kFree, 0); }

BlockCache::Admission BlockCache::AdmitAs(BlockId block, Room room, double likelihood) {
  Record& record = Get(block);
  PANTRY_CHECK(record.state == BlockState::kAbsent);
  CacheStats& stats = stats_[record.layer];
  evicted_.clear();
  if (!MakeRoom(block, room, likelihood)) {
    ++stats.n_refused;
    return {};
  }
  SlotArena& arena = ArenaOf(record);
  committed_bytes_ += arena.CostOfTake();
  held_bytes_ += arena.slot_bytes();
  record.slot = arena.Take();
  record.state = BlockState::kReading;
  record.admitted_step = step_;
  ++stats.n_admitted;
  stats.admitted_bytes += record.n_bytes;
  ++stats.n_resident;
  stats.resident_bytes += arena.slot_bytes();
  return {arena.memory(record.slot), evicted_};
}

// Sees to it that the block's arena has a slot to take within the budget. Evicts nothing unless it succeeds.
bool BlockCache::MakeRoom(BlockId block, Room room, double likelihood) {
  const uint8_t size_class = Get(block).size_class;
  const SlotArena& arena = arenas_[size_class];
  const auto fits = [&](int64_t freed_bytes) {
    return arena.CanTake() && committed_bytes_ - freed_bytes + arena.CostOfTake() <= budget_bytes_;
  };
  while (!fits(0) && GiveBackAnyFree()) {
  }
  if (fits(0)) return true;
  if (room == Room::kFree) return false;
  if (evictable_of_class_[size_class] == 0 && !fits(evictable_bytes_)) return false;
  do {
    const BlockId victim = policy_->Coldest();
    if (room == Room::kEvictColder && !MayEvictFor(block, victim, likelihood)) return false;
    Evict(victim);
    evicted_.push_back(victim);
    while (!fits(0) && GiveBackAnyFree()) {
    }
  } while (!fits(0));
  return true;
}

// A guess takes the place of one block or of none.
bool BlockCache::MayEvictFor(BlockId guess, BlockId victim, double likelihood) const {
  const Record& coming = records_[guess.value()];
  const Record& going = records_[victim.value()];
  const bool may_be_of_step = likelihood >= 1 || policy_->knows_order();
  if ((going.demanded_step == step_ && !may_be_of_step) || !policy_->IsColder(victim, guess, likelihood)) return false;
  if (going.size_class == coming.size_class) return true;
  const SlotArena& arena = arenas_[coming.size_class];
  return arena.CanTake() &&
         committed_bytes_ - arenas_[going.size_class].slot_bytes() + arena.CostOfTake() <= budget_bytes_;
}

void BlockCache::GiveBackOne(SlotArena& arena) {
  arena.GiveBackOne();
  committed_bytes_ -= arena.slot_bytes();
}

bool BlockCache::GiveBackAnyFree() {
  const auto it = std::find_if(arenas_.begin(), arenas_.end(), [](const SlotArena& arena) { return arena.has_free(); });
  if (it == arenas_.end()) return false;
  GiveBackOne(*it);
  return true;
}

void BlockCache::Evict(BlockId block) {
  const Record& record = Get(block);
  CacheStats& stats = stats_[record.layer];
  ++stats.n_evicted;
  stats.evicted_age_steps += step_ - record.admitted_step;
  NoLongerEvictable(block);
  Leave(block);
}

// The slot becomes free, the block absent. REQUIRES: it counts as held.
void BlockCache::Leave(BlockId block) {
  Record& record = Get(block);
  SlotArena& arena = ArenaOf(record);
  CacheStats& stats = stats_[record.layer];
  arena.Release(record.slot);
  held_bytes_ -= arena.slot_bytes();
  --stats.n_resident;
  stats.resident_bytes -= arena.slot_bytes();
  if (record.guessed) ++stats.n_guesses_wasted;
  record.guessed = false;
  record.n_pins = 0;
  record.state = BlockState::kAbsent;
}

void BlockCache::BecomeEvictable(BlockId block) {
  const Record& record = Get(block);
  const int64_t bytes = ArenaOf(record).slot_bytes();
  held_bytes_ -= bytes;
  evictable_bytes_ += bytes;
  ++evictable_of_class_[record.size_class];
  policy_->Insert(block);
}

void BlockCache::NoLongerEvictable(BlockId block) {
  const Record& record = Get(block);
  const int64_t bytes = ArenaOf(record).slot_bytes();
  held_bytes_ += bytes;
  evictable_bytes_ -= bytes;
  --evictable_of_class_[record.size_class];
  policy_->Erase(block);
}

void BlockCache::Arrived(BlockId block) {
  Record& record = Get(block);
  PANTRY_CHECK(record.state == BlockState::kReading);
  record.state = BlockState::kResident;
  if (record.n_pins == 0) BecomeEvictable(block);
}

void BlockCache::Failed(BlockId block) {
  const Record& record = Get(block);
  PANTRY_CHECK(record.state == BlockState::kReading);
  ++stats_[record.layer].n_failed;
  Leave(block);
}

void BlockCache::Pin(BlockId block) {
  Record& record = Get(block);
  PANTRY_CHECK(record.state != BlockState::kAbsent && record.n_pins < std::numeric_limits<uint16_t>::max());
  if (evictable(record)) NoLongerEvictable(block);
  ++record.n_pins;
}

void BlockCache::Unpin(BlockId block) {
  Record& record = Get(block);
  PANTRY_CHECK(record.n_pins > 0);
  --record.n_pins;
  if (evictable(record)) BecomeEvictable(block);
}

void BlockCache::Drop(BlockId block) {
  PANTRY_CHECK(evictable(Get(block)));
  NoLongerEvictable(block);
  Leave(block);
}

uint8_t* BlockCache::memory(BlockId block) {
  const Record& record = Get(block);
  PANTRY_CHECK(record.state != BlockState::kAbsent);
  return ArenaOf(record).memory(record.slot);
}

int64_t BlockCache::SetBudget(int64_t budget_bytes) {
  const int64_t wanted = std::clamp(budget_bytes, floor_bytes_, max_budget_bytes_);
  while (committed_bytes_ > wanted) {
    if (GiveBackAnyFree()) continue;
    const BlockId victim = policy_->Coldest();
    if (victim == kNoBlock) break;
    Evict(victim);
  }
  budget_bytes_ = std::max(wanted, committed_bytes_);
  return budget_bytes_;
}

// Sizes in step, so that each has the share of memory that it has of the blocks.
std::span<uint8_t> BlockCache::CommitMore() {
  SlotArena* arena = nullptr;
  double least = 0;
  for (size_t i = 0; i < arenas_.size(); ++i) {
    if (!arenas_[i].CanTakeFresh()) continue;
    const double share = static_cast<double>(arenas_[i].n_with_memory()) / static_cast<double>(blocks_of_class_[i]);
    if (arena != nullptr && share >= least) continue;
    arena = &arenas_[i];
    least = share;
  }
  if (arena == nullptr || committed_bytes_ + arena->CostOfFresh() > budget_bytes_) return {};
  committed_bytes_ += arena->CostOfFresh();
  const uint32_t slot = arena->TakeFresh();
  arena->Release(slot);
  return {arena->memory(slot), static_cast<size_t>(arena->slot_bytes())};
}

void BlockCache::Warm(BlockId block, double n_uses) {
  const bool was_evictable = evictable(Get(block));
  if (was_evictable) policy_->Erase(block);
  policy_->Expected(block, n_uses);
  if (was_evictable) policy_->Insert(block);
}

void BlockCache::Forget() {
  PANTRY_CHECK(held_bytes_ == 0);
  for (uint32_t i = 0; i < records_.size(); ++i) {
    if (records_[i].state != BlockState::kAbsent) Drop(BlockId(i));
    records_[i].demanded_step = 0;
  }
  policy_->Forget();
}

int64_t BlockCache::bookkeeping_bytes() const {
  int64_t bytes =
      static_cast<int64_t>(sizeof(*this) + records_.capacity() * sizeof(Record) +
                           arenas_.capacity() * sizeof(SlotArena) + stats_.capacity() * sizeof(CacheStats) +
                           (blocks_of_class_.capacity() + evictable_of_class_.capacity()) * sizeof(int64_t) +
                           evicted_.capacity() * sizeof(BlockId)) +
      policy_->bookkeeping_bytes();
  for (const SlotArena& arena : arenas_) bytes += arena.bookkeeping_bytes();
  return bytes;
}

void BlockCache::ResetCounts() {
  for (CacheStats& stats : stats_) {
    CacheStats fresh;
    fresh.n_resident = stats.n_resident;
    fresh.resident_bytes = stats.resident_bytes;
    stats = fresh;
  }
}

CacheStats& CacheStats::operator+=(const CacheStats& other) {
  n_demanded += other.n_demanded;
  n_hits += other.n_hits;
  n_late += other.n_late;
  n_misses += other.n_misses;
  demanded_bytes += other.demanded_bytes;
  late_bytes += other.late_bytes;
  missed_bytes += other.missed_bytes;
  n_admitted += other.n_admitted;
  admitted_bytes += other.admitted_bytes;
  n_refused += other.n_refused;
  n_failed += other.n_failed;
  n_evicted += other.n_evicted;
  evicted_age_steps += other.evicted_age_steps;
  n_guesses += other.n_guesses;
  n_guesses_used += other.n_guesses_used;
  n_guesses_wasted += other.n_guesses_wasted;
  n_resident += other.n_resident;
  resident_bytes += other.resident_bytes;
  return *this;
}

}  // namespace pantry
