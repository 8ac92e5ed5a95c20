// SPDX-License-Identifier: Apache-2.0
// LRU: the block whose last use is the longest ago goes first. A guess is not a use.
//
// A list of the evictable blocks in the order of their last use. A block re-enters where its last use belongs, which is near the warm end
// for what was just computed and the cold end for what was never used: a few steps of a walk, whatever the size of the cache.
#include <vector>

#include "residency/cache/eviction_policy.h"

namespace pantry {
namespace {

constexpr uint32_t kNone = kNoBlock.value();

class Lru final : public EvictionPolicy {
 public:
  explicit Lru(size_t n_blocks) : nodes_(n_blocks) {}

  void BeginStep(int64_t) override {}
  void Demanded(int, std::span<const BlockId> blocks) override {
    for (const BlockId block : blocks) nodes_[block.value()].last_use = ++n_uses_;
  }
  void Expected(BlockId, double) override {}

  void Insert(BlockId block) override {
    const uint32_t id = block.value();
    Node& node = nodes_[id];
    uint32_t before = warm_;  // the one after which `block` goes; kNone: it becomes the coldest
    if (cold_ != kNone && node.last_use <= nodes_[cold_].last_use) before = kNone;
    while (before != kNone && nodes_[before].last_use > node.last_use) before = nodes_[before].colder;
    node.colder = before;
    uint32_t& link = before == kNone ? cold_ : nodes_[before].warmer;
    node.warmer = link;
    link = id;
    (node.warmer == kNone ? warm_ : nodes_[node.warmer].colder) = id;
  }

  void Erase(BlockId block) override {
    const Node& node = nodes_[block.value()];
    (node.colder == kNone ? cold_ : nodes_[node.colder].warmer) = node.warmer;
    (node.warmer == kNone ? warm_ : nodes_[node.warmer].colder) = node.colder;
  }

  BlockId Coldest() const override { return BlockId(cold_); }

  bool IsColder(BlockId victim, BlockId guess, double) const override {
    return nodes_[victim.value()].last_use < nodes_[guess.value()].last_use;
  }

  void Forget() override {
    PANTRY_CHECK(cold_ == kNone);
    for (Node& node : nodes_) node = Node();
    n_uses_ = 0;
  }

  int64_t bookkeeping_bytes() const override { return static_cast<int64_t>(nodes_.capacity() * sizeof(Node)); }

 private:
  struct Node {
    uint32_t colder = kNone;
    uint32_t warmer = kNone;
    uint64_t last_use = 0;  // 0: never
  };
  std::vector<Node> nodes_;
  uint32_t cold_ = kNone;
  uint32_t warm_ = kNone;
  uint64_t n_uses_ = 0;
};

}  // namespace

std::unique_ptr<EvictionPolicy> MakeLru(size_t n_blocks) { return std::make_unique<Lru>(n_blocks); }

}  // namespace pantry
