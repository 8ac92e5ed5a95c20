// SPDX-License-Identifier: Apache-2.0
// Belady's MIN as an eviction policy: it has the trace, and looks up when each block is wanted next.
#include <algorithm>
#include <limits>
#include <vector>

#include "residency/cache/block_heap.h"
#include "sim/replay.h"

namespace pantry {
namespace {

constexpr uint32_t kNever = std::numeric_limits<uint32_t>::max();

class Belady final : public EvictionPolicy {
 public:
  Belady(const RoutingTrace& trace, size_t n_blocks)
      : trace_(trace),
        next_use_after_(trace.wanted.size(), kNever),
        next_use_(n_blocks, kNever),
        entries_(n_blocks),
        positions_(n_blocks),
        heap_(entries_, positions_) {
    for (size_t event = trace.events.size(); event-- > 0;) {
      const auto wanted = trace.blocks_of(event);
      for (size_t i = 0; i < wanted.size(); ++i) {
        uint32_t& next = next_use_[wanted[i].value()];
        next_use_after_[trace.events[event].begin + i] = next;
        next = static_cast<uint32_t>(event);
      }
    }
    first_use_ = next_use_;
  }

  void BeginStep(int64_t) override {}
  void Demanded(int, std::span<const BlockId> blocks) override {
    PANTRY_CHECK(event_ < trace_.events.size() && std::ranges::equal(blocks, trace_.blocks_of(event_)));
    const size_t begin = trace_.events[event_++].begin;
    for (size_t i = 0; i < blocks.size(); ++i) next_use_[blocks[i].value()] = next_use_after_[begin + i];
  }
  void Expected(BlockId, double) override {}
  void Insert(BlockId block) override {
    heap_.Push({-static_cast<double>(next_use_[block.value()]), 0, block.value()});
  }
  void Erase(BlockId block) override { heap_.Erase(block); }
  BlockId Coldest() const override { return heap_.empty() ? kNoBlock : BlockId(heap_.coldest().id); }
  bool IsColder(BlockId victim, BlockId guess, double) const override {
    return next_use_[victim.value()] > next_use_[guess.value()];
  }
  bool knows_order() const override { return true; }
  void Forget() override {
    next_use_ = first_use_;
    event_ = 0;
  }
  int64_t bookkeeping_bytes() const override { return 0; }  // not for use in the engine

 private:
  const RoutingTrace& trace_;
  std::vector<uint32_t> next_use_after_;  // by place in trace.wanted: the event that wants the block next
  std::vector<uint32_t> next_use_;        // by block, from now
  std::vector<uint32_t> first_use_;
  std::vector<BlockHeap::Entry> entries_;
  std::vector<uint32_t> positions_;
  BlockHeap heap_;
  size_t event_ = 0;
};

}  // namespace

std::unique_ptr<EvictionPolicy> MakeBelady(const RoutingTrace& trace, size_t n_blocks) {
  return std::make_unique<Belady>(trace, n_blocks);
}

}  // namespace pantry
