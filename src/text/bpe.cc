// SPDX-License-Identifier: Apache-2.0
#include "text/bpe.h"

#include <bit>
#include <utility>

namespace pantry {

void MergeTable::Reserve(size_t n_merges) {
  const size_t n_slots = std::bit_ceil(std::max<size_t>(16, 2 * n_merges + 2));
  if (n_slots <= slots_.size()) return;
  const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(n_slots));
  mask_ = n_slots - 1;
  for (const Slot& slot : old) {
    if (slot.key == kEmpty) continue;
    size_t i = Hash(slot.key) & mask_;
    while (slots_[i].key != kEmpty) i = (i + 1) & mask_;
    slots_[i] = slot;
  }
}

void MergeTable::Add(int32_t left, int32_t right, int32_t rank, int32_t result) {
  if (2 * (size_ + 1) > slots_.size()) Reserve(2 * (size_ + 1));
  const uint64_t key = Key(left, right);
  size_t i = Hash(key) & mask_;
  for (; slots_[i].key != kEmpty; i = (i + 1) & mask_) {
    if (slots_[i].key == key) return;
  }
  slots_[i] = {key, {rank, result}};
  ++size_;
}

}  // namespace pantry
