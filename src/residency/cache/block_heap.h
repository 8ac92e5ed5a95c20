// SPDX-License-Identifier: Apache-2.0
// A BlockHeap hands out the coldest of a set of blocks: a heap of four children a node over memory that its owner lent.
//
// Several heaps over disjoint sets of blocks (one a layer) share one array of positions. Equal heat: the earlier use goes first, then the
// smaller id, so that the order never depends on how the heap came about.
// Cost: Push() and Erase() O(log n), Coldest() O(1); 20 bytes a block.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "base/block_id.h"

namespace pantry {

class BlockHeap {
 public:
  struct Entry {
    double heat = 0;
    uint32_t last_use = 0;
    uint32_t id = 0;

    bool ColderThan(const Entry& other) const {
      if (heat != other.heat) return heat < other.heat;
      const auto later = static_cast<int32_t>(last_use - other.last_use);  // the count of uses may wrap around
      return later != 0 ? later < 0 : id < other.id;
    }
  };

  // `memory` holds as many entries as there will ever be blocks in the heap; `positions` is indexed by BlockId. Both outlive the heap.
  BlockHeap(std::span<Entry> memory, std::span<uint32_t> positions) : entries_(memory), positions_(positions) {}

  bool empty() const { return n_ == 0; }
  const Entry& coldest() const { return entries_[0]; }  // REQUIRES: !empty()

  void Push(const Entry& entry) {
    entries_[n_] = entry;
    Rise(n_++);
  }

  // REQUIRES: `block` is in.
  void Erase(BlockId block) {
    const uint32_t at = positions_[block.value()];
    if (at == --n_) return;
    entries_[at] = entries_[n_];
    if (at > 0 && entries_[at].ColderThan(entries_[(at - 1) / 4])) {
      Rise(at);
    } else {
      Sink(at);
    }
  }

  // Multiplies all heat by a power of two that keeps the order.
  void Scale(double factor) {
    for (Entry& entry : entries_.first(n_)) entry.heat *= factor;
  }

 private:
  void Put(uint32_t at, const Entry& entry) {
    entries_[at] = entry;
    positions_[entry.id] = at;
  }
  void Rise(uint32_t at) {
    const Entry entry = entries_[at];
    for (uint32_t parent; at > 0 && entry.ColderThan(entries_[parent = (at - 1) / 4]); at = parent) {
      Put(at, entries_[parent]);
    }
    Put(at, entry);
  }
  void Sink(uint32_t at) {
    const Entry entry = entries_[at];
    while (true) {
      const uint32_t first = 4 * at + 1;
      if (first >= n_) break;
      uint32_t coldest = first;
      for (uint32_t child = first + 1; child < first + 4 && child < n_; ++child) {
        if (entries_[child].ColderThan(entries_[coldest])) coldest = child;
      }
      if (!entries_[coldest].ColderThan(entry)) break;
      Put(at, entries_[coldest]);
      at = coldest;
    }
    Put(at, entry);
  }

  std::span<Entry> entries_;
  std::span<uint32_t> positions_;
  uint32_t n_ = 0;
};

}  // namespace pantry
