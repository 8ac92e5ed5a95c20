// SPDX-License-Identifier: Apache-2.0
// Rotation: every token wants every block, in the order of their numbers. The block whose next use is furthest ahead goes first.
//
// For such an order that is Belady's choice, so nothing could hit more: of a model twice the cache, one half. It counts no uses, so it is as
// good at the first token as later, and after a long prompt.
// One bit a block says whether it may go; the victim is the first such bit at or before the last use, walking backwards.
#include <bit>
#include <vector>

#include "residency/cache/eviction_policy.h"

namespace pantry {
namespace {

class Rotation final : public EvictionPolicy {
 public:
  explicit Rotation(size_t n_blocks) : n_blocks_(n_blocks), words_((n_blocks + kBits - 1) / kBits) {}

  void BeginStep(int64_t) override {}
  void Demanded(int, std::span<const BlockId> blocks) override {
    for (const BlockId block : blocks) here_ = block.value();
  }
  void Expected(BlockId, double) override {}

  void Insert(BlockId block) override { words_[block.value() / kBits] |= Bit(block.value()); }
  void Erase(BlockId block) override { words_[block.value() / kBits] &= ~Bit(block.value()); }

  BlockId Coldest() const override {
    const size_t last = here_ / kBits, n_words = words_.size();
    const uint64_t upto = ~uint64_t{0} >> (kBits - 1 - here_ % kBits);  // blocks of the last word that lie behind
    if (const uint64_t bits = words_[last] & upto) return Highest(last, bits);
    for (size_t i = 1; i < n_words; ++i) {
      const size_t word = (last + n_words - i) % n_words;
      if (words_[word] != 0) return Highest(word, words_[word]);
    }
    if (const uint64_t bits = words_[last] & ~upto) return Highest(last, bits);
    return kNoBlock;
  }

  bool IsColder(BlockId victim, BlockId guess, double) const override { return Ahead(victim) > Ahead(guess); }

  void Forget() override {
    for (const uint64_t word : words_) PANTRY_CHECK(word == 0);
    here_ = 0;
  }

  int64_t bookkeeping_bytes() const override { return static_cast<int64_t>(words_.capacity() * sizeof(uint64_t)); }

 private:
  static constexpr size_t kBits = 64;
  static uint64_t Bit(uint32_t id) { return uint64_t{1} << (id % kBits); }
  static BlockId Highest(size_t word, uint64_t bits) {
    return BlockId(static_cast<uint32_t>(word * kBits + static_cast<size_t>(std::bit_width(bits)) - 1));
  }
  // Blocks that come before this one is wanted again.
  size_t Ahead(BlockId block) const { return (block.value() + n_blocks_ - here_ - 1) % n_blocks_; }

  size_t n_blocks_;
  std::vector<uint64_t> words_;
  size_t here_ = 0;  // the block wanted last
};

}  // namespace

std::unique_ptr<EvictionPolicy> MakeRotation(size_t n_blocks) { return std::make_unique<Rotation>(n_blocks); }

}  // namespace pantry
