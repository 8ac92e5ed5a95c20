// SPDX-License-Identifier: Apache-2.0
// An EvictionPolicy says which of the evictable blocks is the coldest.
//
// It knows uses and order, nothing of bytes, slots or states: the BlockCache tells it what was demanded and which blocks may go (resident,
// not pinned), and asks for one victim at a time. It remembers the heat of absent blocks too, so that a block which comes back is not new.
// Blocks are compared by the value of a use, not per byte, also where sizes differ: what keeping a block saves (bytes read per use)
// and what it costs (bytes held) both grow with its size.
// Threads: thread-compatible. No allocation after construction.
// Invariants: the heat of a block changes only while it is not evictable (before Insert() or after Erase()).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/block_id.h"
#include "base/status.h"
#include "residency/cache/block_info.h"

namespace pantry {

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;

  // Time goes on: `n_tokens` >= 0 are about to be computed, layer after layer.
  virtual void BeginStep(int64_t n_tokens) = 0;
  // `layer` wants `blocks` now, together, whether they are there or not; the last counts as the most recent. None is evictable.
  virtual void Demanded(int layer, std::span<const BlockId> blocks) = 0;
  // `block` is expected to be wanted, or was used unseen: as good as `n_uses` uses now (a guess: its likelihood). It is not evictable.
  virtual void Expected(BlockId block, double n_uses) = 0;

  // `block` may be evicted from now on. REQUIRES: it is not inserted.
  virtual void Insert(BlockId block) = 0;
  // `block` is pinned, or gone. REQUIRES: it is inserted.
  virtual void Erase(BlockId block) = 0;
  // The evictable block to miss least; kNoBlock when nothing is evictable.
  virtual BlockId Coldest() const = 0;
  // Whether `victim` is worth less than `guess`, which will be wanted with `likelihood`, would be if it were brought in now. Equal is not
  // colder.
  virtual bool IsColder(BlockId victim, BlockId guess, double likelihood) const = 0;
  // Whether IsColder() goes by the order of layers, so that what was wanted in this step may be colder than what will be wanted in it.
  virtual bool knows_order() const { return false; }

  // Forgets all heat, as if new. REQUIRES: nothing is inserted.
  virtual void Forget() = 0;
  virtual int64_t bookkeeping_bytes() const = 0;
};

// In the order of docs and tables.
enum class PolicyKind : uint8_t { kLru, kLfu, kLrfu, kCycle, kRotation };
inline constexpr PolicyKind kPolicyKinds[] = {PolicyKind::kLru, PolicyKind::kLfu, PolicyKind::kLrfu, PolicyKind::kCycle,
                                              PolicyKind::kRotation};
std::string_view PolicyName(PolicyKind kind);               // "lru", "lfu", "lrfu", "cycle", "rotation"
Result<PolicyKind> ParsePolicyName(std::string_view name);  // the same names

struct PolicyOptions {
  PolicyKind kind = PolicyKind::kCycle;  // measured: residency/README.md
  double half_life_tokens =
      0;  // after so many tokens a use counts half; 0: the policy's own (measured). LRU and rotation have none.

  Status Validate() const;
};
// "cycle", "cycle:32": a name, or with a half-life in tokens. kInvalidArgument.
Result<PolicyOptions> ParsePolicy(std::string_view text);
// What half_life_tokens = 0 stands for.
double DefaultHalfLife(PolicyKind kind);

// REQUIRES: options.Validate().ok().
std::unique_ptr<EvictionPolicy> MakeEvictionPolicy(const PolicyOptions& options, std::span<const BlockInfo> blocks);

// One file each: lru.cc, lfu.cc, lrfu.cc, cycle.cc, rotation.cc.
std::unique_ptr<EvictionPolicy> MakeLru(size_t n_blocks);
std::unique_ptr<EvictionPolicy> MakeLfu(size_t n_blocks, double half_life_tokens);
std::unique_ptr<EvictionPolicy> MakeLrfu(size_t n_blocks, double half_life_tokens);
std::unique_ptr<EvictionPolicy> MakeCycle(std::span<const BlockInfo> blocks, double half_life_tokens);
std::unique_ptr<EvictionPolicy> MakeRotation(size_t n_blocks);

}  // namespace pantry
