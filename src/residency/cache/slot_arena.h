// SPDX-License-Identifier: Apache-2.0
// A SlotArena is the memory for blocks of one size: equal slots in one reserved range, committed one by one.
//
// Address space for all slots is reserved at construction and costs nothing. A slot commits memory when it is taken for the first time and
// keeps it when it becomes free, to be taken again, until it is given back to the system.
//
//   fresh --Take--> taken --Release--> free --Take--> taken       fresh, given back: no memory; taken, free: slot_bytes() each
//                                      free --GiveBackOne--> given back --Take--> taken
//
// Huge pages straddle slots, so they are asked for only where that cannot break the count: fresh slots are taken in ascending order and
// committed_bytes() counts to the end of the huge page in which the last one ends. The first slot given back ends huge pages here: the
// system would fill the hole again.
// Threads: thread-compatible. No allocation after construction. Cost: O(1), and a system call where memory is given back.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "sys/aligned_buffer.h"

namespace pantry {

class SlotArena {
 public:
  // slot_bytes: a multiple of AlignedBuffer::PageBytes(). kOutOfBudget when the address space is refused.
  static Result<SlotArena> Create(int64_t slot_bytes, uint32_t n_slots, bool huge_pages);

  int64_t slot_bytes() const { return slot_bytes_; }
  uint32_t n_slots() const { return static_cast<uint32_t>(next_.size()); }
  int64_t committed_bytes() const { return FrontierBytes(n_started_) - n_given_back_ * slot_bytes_; }
  int64_t bookkeeping_bytes() const { return static_cast<int64_t>(next_.capacity() * sizeof(uint32_t)); }

  // Whether there is a free slot: one that Take() hands out without more memory.
  bool has_free() const { return free_ != kNone; }
  int64_t free_bytes() const { return n_free_ * slot_bytes_; }
  // Whether there is any slot to take, and what committed_bytes() grows by.
  bool CanTake() const { return has_free() || CanTakeFresh(); }
  int64_t CostOfTake() const { return has_free() ? 0 : CostOfFresh(); }
  // The same of slots that have no memory.
  bool CanTakeFresh() const { return given_back_ != kNone || n_started_ < n_slots(); }
  int64_t CostOfFresh() const;
  int64_t n_with_memory() const { return n_started_ - n_given_back_; }  // slots

  uint32_t Take();              // a free one if there is one. REQUIRES: CanTake()
  uint32_t TakeFresh();         // REQUIRES: CanTakeFresh()
  void Release(uint32_t slot);  // REQUIRES: it is taken
  void GiveBackOne();           // REQUIRES: has_free()

  uint8_t* memory(uint32_t slot) {
    return buffer_.data() + static_cast<size_t>(slot) * static_cast<size_t>(slot_bytes_);
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  int64_t FrontierBytes(uint32_t n_started) const;
  static uint32_t Pop(uint32_t& head, std::vector<uint32_t>& next);

  AlignedBuffer buffer_;
  int64_t slot_bytes_ = 0;
  bool huge_pages_ = false;
  std::vector<uint32_t> next_;   // by slot: the one below it on its stack
  uint32_t free_ = kNone;        // stack of slots with memory
  uint32_t given_back_ = kNone;  // stack of slots without
  uint32_t n_started_ = 0;       // slots below this one were taken at some time
  int64_t n_free_ = 0;
  int64_t n_given_back_ = 0;
};

}  // namespace pantry
