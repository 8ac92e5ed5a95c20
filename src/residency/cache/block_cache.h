// SPDX-License-Identifier: Apache-2.0
// A BlockCache keeps a byte-budgeted set of weight blocks in memory, the ones most worth having.
//
// One budget serves all layers and block sizes: the eviction policy compares blocks of the whole model, so a layer holds as many as pay
// there. The cache is passive: it knows BlockIds, bytes and slots, and nothing of files, threads or models. Whoever owns it (the streaming
// pipeline, the simulator) says what is wanted, reads into the slots it gets, and reports back.
//
// One layer of one token is an event:
//   Demand()                    judges all wanted blocks against what was there before, and pins those that are resident or being read
//   Admit() each absent one     a free slot, or an evicted block's; pinned. The caller begins to read into the memory returned
//   Arrived() / Failed()        as reads end, in any order
//   Unpin() each wanted one     when it was computed
//
//                  Admit*                Arrived                   states; a pin is held on reading or resident blocks only
//        absent ------------> reading ------------> resident
//          ^ ^-----------------'  Failed                |
//          '--------------------------------------------'          evicted by Admit*() or SetBudget(), or Drop(); unpinned only
//
// Threads: thread-compatible; one thread at a time. No allocation after construction.
// Invariants: (1) committed_bytes() <= budget_bytes() at any moment, slots rounded up to pages. (2) Pinned blocks and blocks being read are
// never evicted and do not move. (3) A guess evicts nothing that is warmer than it, or was demanded in this step where the
// policy does not know the order of layers.
// Cost: O(log blocks of a layer) an operation, and O(layers) an eviction with the cycle policy; at most 64 bytes a block.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/block_id.h"
#include "base/status.h"
#include "residency/cache/block_info.h"
#include "residency/cache/budgeted_cache.h"
#include "residency/cache/cache_stats.h"
#include "residency/cache/eviction_policy.h"
#include "residency/cache/slot_arena.h"

namespace pantry {

struct BlockCacheOptions {
  int64_t budget_bytes = 0;      // for slots; bookkeeping_bytes() come on top
  int64_t max_budget_bytes = 0;  // SetBudget() may grow to this (address space is reserved for it); 0: budget_bytes
  int64_t floor_bytes = 0;       // SetBudget() shrinks no further
  bool huge_pages = true;        // where the count stays exact: one block size, or sizes that are multiples of 2 MiB
  PolicyOptions policy;

  Status Validate() const;
};

enum class BlockState : uint8_t { kAbsent, kReading, kResident };

class BlockCache final : public BudgetedCache {
 public:
  // kOutOfBudget when the budget cannot hold the largest block or the system refuses the address space; kInvalidArgument when the options
  // or the table are wrong. `blocks` is read once. A `policy` given takes the place of options.policy.
  static Result<std::unique_ptr<BlockCache>> Create(std::span<const BlockInfo> blocks, const BlockCacheOptions& options,
                                                    std::unique_ptr<EvictionPolicy> policy = nullptr);

  static int64_t SlotBytes(int64_t n_bytes);  // what a block takes of the budget: whole pages
  // ---- an event --------------------------------------------------------------------------------------------------------------------
  // A token begins, or a chunk of `n_tokens`: steps are the clock of heat and of "demanded in this step".
  void BeginStep(int64_t n_tokens = 1);
  // before[i] = state of wanted[i]. Those not absent get a pin each; all get warmer, the last one counts as the most recent.
  // REQUIRES: blocks of `layer`, each once; before.size() >= wanted.size().
  void Demand(int layer, std::span<const BlockId> wanted, std::span<BlockState> before);

  struct Admission {
    uint8_t* memory = nullptr;         // the block's slot, page-aligned; null: refused, and nothing was evicted
    std::span<const BlockId> evicted;  // valid until the next admission; more than one only where sizes differ
  };
  // For a demanded block: pinned. Refused when what is pinned or being read leaves no room. REQUIRES: absent.
  Admission Admit(BlockId block);
  // Before it is demanded: not pinned. Takes free room or the place of one block that is colder than the guess, which counts as
  // `likelihood` (0 .. 1) of a use, and that was not demanded in this step unless the policy knows the order. REQUIRES: absent.
  Admission AdmitGuess(BlockId block, double likelihood);
  // Before it is demanded, for certain: as a guess of likelihood 1, and in the place of what was demanded in this step, too, if that is needed
  // later. REQUIRES: absent.
  Admission AdmitCertain(BlockId block);
  // For a warm start, in the order of worth: takes free room only, not pinned. Warm() tells its heat. REQUIRES: absent.
  Admission AdmitIfRoom(BlockId block);

  void Arrived(BlockId block);  // REQUIRES: being read
  // The read failed or was cancelled, and nobody writes to the slot any more; the block's pins are void. REQUIRES: being read
  void Failed(BlockId block);
  void Pin(BlockId block);    // REQUIRES: not absent
  void Unpin(BlockId block);  // REQUIRES: pinned
  void Drop(BlockId block);   // REQUIRES: resident and not pinned

  // ---- a block ---------------------------------------------------------------------------------------------------------------------
  BlockState state(BlockId block) const { return records_[block.value()].state; }
  // Which of the blocks from `first` on are in memory or on their way there; all are set.
  void Look(BlockId first, std::span<uint8_t> is_near) const {
    for (uint32_t i = 0; i < is_near.size(); ++i) {
      is_near[i] = state(BlockId(first.value() + i)) != BlockState::kAbsent ? 1 : 0;
    }
  }
  bool pinned(BlockId block) const { return records_[block.value()].n_pins > 0; }
  int64_t n_bytes(BlockId block) const { return records_[block.value()].n_bytes; }
  uint8_t* memory(BlockId block);  // REQUIRES: not absent

  // ---- all of it -------------------------------------------------------------------------------------------------------------------
  // Grows or shrinks: gives free slots, then the coldest blocks back to the system. Returns the budget that holds from now on: at least
  // the floor and what is pinned or being read (ask again when that has gone), at most max_budget_bytes.
  int64_t SetBudget(int64_t budget_bytes) override;
  // `n_uses` uses that the cache did not see: of the prompt, or of an earlier run. Any state.
  void Warm(BlockId block, double n_uses);
  // Everything becomes absent and cold, counts stay, memory is kept for reuse. REQUIRES: nothing pinned or being read.
  void Forget();
  size_t n_blocks() const { return records_.size(); }
  int64_t budget_bytes() const override { return budget_bytes_; }
  int64_t committed_bytes() const override { return committed_bytes_; }  // slots in use or free
  std::span<uint8_t> CommitMore() override;                              // a slot
  int64_t evictable_bytes() const { return evictable_bytes_; }
  int64_t bookkeeping_bytes() const;
  std::span<const CacheStats> layer_stats() const override { return stats_; }
  void ResetCounts();  // what lies in memory stays counted

 private:
  struct Record {  // 24 bytes
    uint32_t n_bytes = 0;
    uint32_t slot = 0;
    uint32_t demanded_step = 0;
    uint32_t admitted_step = 0;
    uint16_t layer = 0;
    uint16_t n_pins = 0;
    uint8_t size_class = 0;
    BlockState state = BlockState::kAbsent;
    bool guessed = false;  // admitted for a guess and not demanded since
  };
  enum class Room : uint8_t { kEvict, kEvictColder, kFree };

  BlockCache() = default;
  Status Lay(std::span<const BlockInfo> blocks, const BlockCacheOptions& options);
  Admission AdmitAs(BlockId block, Room room, double likelihood);
  bool MakeRoom(BlockId block, Room room, double likelihood);
  bool MayEvictFor(BlockId guess, BlockId victim, double likelihood) const;
  void GiveBackOne(SlotArena& arena);
  bool GiveBackAnyFree();
  void Evict(BlockId block);
  void Leave(BlockId block);
  bool evictable(const Record& record) const { return record.state == BlockState::kResident && record.n_pins == 0; }
  void BecomeEvictable(BlockId block);
  void NoLongerEvictable(BlockId block);
  Record& Get(BlockId block) { return records_[block.value()]; }
  SlotArena& ArenaOf(const Record& record) { return arenas_[record.size_class]; }

  std::vector<Record> records_;    // by block
  std::vector<SlotArena> arenas_;  // by size class
  std::vector<int64_t> blocks_of_class_;
  std::vector<int64_t> evictable_of_class_;
  std::unique_ptr<EvictionPolicy> policy_;
  std::vector<CacheStats> stats_;  // by layer
  std::vector<BlockId> evicted_;   // by the admission at hand
  int64_t budget_bytes_ = 0;
  int64_t max_budget_bytes_ = 0;
  int64_t floor_bytes_ = 0;
  int64_t committed_bytes_ = 0;
  int64_t evictable_bytes_ = 0;  // slots of blocks that may be evicted
  int64_t held_bytes_ = 0;       // slots of blocks that may not
  uint32_t step_ = 0;
};

}  // namespace pantry
