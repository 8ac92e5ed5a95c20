// SPDX-License-Identifier: Apache-2.0
// Cycle: LRFU that knows the order of the layers. The block whose next use is expected last goes first.
//
// A token visits layer 0, 1, 2 ... and begins again, so a block of the layer just computed cannot be needed for nearly a whole token,
// while one of the next layer may be needed at once. A policy by age has that backwards: at layer l the oldest blocks are those of l + 1.
//   share = sum over the visits of its own layer, 2^(-age in visits / half-life) where the block was used, over the same sum for all visits:
//           how likely a visit uses it
//   wait  = tokens until its layer is visited again (0 < .. <= 1) + (1 / share - 1) visits that do not use it
// The victim has the largest wait. Where every visit uses all blocks (dense layers in a rotation) that is the layer furthest ahead, which
// is Belady's choice, where LRU would not hit at all.
// One heap a layer: the order inside a layer does not change between its visits. Coldest() compares the heads: O(layers).
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "residency/cache/block_heap.h"
#include "residency/cache/eviction_policy.h"
#include "residency/cache/heat.h"

namespace pantry {
namespace {

class Cycle final : public EvictionPolicy {
 public:
  Cycle(std::span<const BlockInfo> blocks, double half_life_tokens)
      : heat_(blocks.size()),
        layer_of_(blocks.size()),
        entries_(blocks.size()),
        positions_(blocks.size()),
        half_life_tokens_(half_life_tokens) {
    std::vector<size_t> n_of_layer;
    for (size_t i = 0; i < blocks.size(); ++i) {
      const auto layer = static_cast<size_t>(blocks[i].layer);
      if (layer >= n_of_layer.size()) n_of_layer.resize(layer + 1);
      ++n_of_layer[layer];
      layer_of_[i] = static_cast<uint16_t>(layer);
    }
    size_t begin = 0;
    for (const size_t n : n_of_layer) {
      heaps_.emplace_back(std::span(entries_).subspan(begin, n), positions_);
      begin += n;
    }
    visits_.assign(heaps_.size(), 1.0);
  }

  void BeginStep(int64_t n_tokens) override {
    time_ += static_cast<double>(n_tokens);
    const double factor = heat_.SetTime(time_ / half_life_tokens_);
    if (factor == 1) return;
    for (BlockHeap& heap : heaps_) heap.Scale(factor);
    for (double& visits : visits_) visits = std::max(visits * factor, std::numeric_limits<double>::min());
  }

  void Demanded(int layer, std::span<const BlockId> blocks) override {
    here_ = static_cast<size_t>(layer);
    visits_[here_] += heat_.unit();
    for (const BlockId block : blocks) heat_.Add(block, 1);
  }
  void Expected(BlockId block, double n_uses) override { heat_.Add(block, n_uses); }

  void Insert(BlockId block) override {
    heaps_[LayerOf(block)].Push({heat_.heat(block), heat_.last_use(block), block.value()});
  }
  void Erase(BlockId block) override { heaps_[LayerOf(block)].Erase(block); }

  BlockId Coldest() const override {
    BlockId coldest;
    double longest = -1;
    for (size_t layer = 0; layer < heaps_.size(); ++layer) {
      if (heaps_[layer].empty()) continue;
      const BlockHeap::Entry& head = heaps_[layer].coldest();
      const double wait = Wait(layer, head.heat);
      if (wait <= longest) continue;
      longest = wait;
      coldest = BlockId(head.id);
    }
    return coldest;
  }

  // A right guess would bring the block in at its layer's visit anyway, and evict the same victim then; a wrong one costs what the victim
  // is worth. So with even odds it is enough that the victim is needed later than the guess, and the less likely the later.
  bool IsColder(BlockId victim, BlockId guess, double likelihood) const override {
    const double odds = likelihood / std::max(1 - likelihood, 1e-9);
    return Wait(LayerOf(victim), heat_.heat(victim)) * odds > UntilVisit(LayerOf(guess));
  }

  bool knows_order() const override { return true; }

  void Forget() override {
    for (const BlockHeap& heap : heaps_) PANTRY_CHECK(heap.empty());
    heat_.Forget();
    std::fill(visits_.begin(), visits_.end(), 1.0);
    time_ = 0;
    here_ = 0;
  }

  int64_t bookkeeping_bytes() const override {
    return heat_.bookkeeping_bytes() +
           static_cast<int64_t>(layer_of_.capacity() * sizeof(uint16_t) + positions_.capacity() * sizeof(uint32_t) +
                                entries_.capacity() * sizeof(BlockHeap::Entry) + heaps_.capacity() * sizeof(BlockHeap) +
                                visits_.capacity() * sizeof(double));
  }

 private:
  size_t LayerOf(BlockId block) const { return layer_of_[block.value()]; }

  // Tokens until the layer is visited again.
  double UntilVisit(size_t layer) const {
    const size_t ahead = layer > here_ ? layer - here_ : layer + heaps_.size() - here_;
    return static_cast<double>(ahead) / static_cast<double>(heaps_.size());
  }

  // Tokens until a block of `layer` with this much heat is expected to be used.
  double Wait(size_t layer, double heat) const {
    constexpr double kLeast = 1e-30;  // never used: a wait of the age of the universe, but the layer's distance is moot
    return UntilVisit(layer) + visits_[layer] / std::max(heat, kLeast * visits_[layer]) - 1;
  }

  HeatTable heat_;
  std::vector<uint16_t> layer_of_;
  std::vector<BlockHeap::Entry> entries_;
  std::vector<uint32_t> positions_;
  std::vector<BlockHeap> heaps_;  // by layer
  std::vector<double> visits_;    // by layer: the heat of a block that all its visits used, and one before the first
  const double half_life_tokens_;
  double time_ = 0;  // tokens
  size_t here_ = 0;  // the layer visited last
};

}  // namespace

std::unique_ptr<EvictionPolicy> MakeCycle(std::span<const BlockInfo> blocks, double half_life_tokens) {
  return std::make_unique<Cycle>(blocks, half_life_tokens);
}

}  // namespace pantry
