// SPDX-License-Identifier: Apache-2.0
#include "residency/cache/slot_arena.h"

#include <algorithm>

#include "base/units.h"

namespace pantry {
namespace {

constexpr int64_t kHugePage = AlignedBuffer::kHugePageBytes;

}  // namespace

Result<SlotArena> SlotArena::Create(int64_t slot_bytes, uint32_t n_slots, bool huge_pages) {
  PANTRY_CHECK(slot_bytes > 0 && static_cast<size_t>(slot_bytes) % AlignedBuffer::PageBytes() == 0);
  SlotArena arena;
  arena.slot_bytes_ = slot_bytes;
  arena.huge_pages_ = huge_pages;
  arena.next_.assign(n_slots, kNone);
  const auto pages = huge_pages ? AlignedBuffer::HugePages::kWanted : AlignedBuffer::HugePages::kNever;
  auto buffer = AlignedBuffer::Reserve(static_cast<size_t>(slot_bytes) * n_slots, pages);
  if (!buffer.ok()) return buffer.status().WithContext("block cache: address space");
  arena.buffer_ = std::move(buffer).value();
  return arena;
}

int64_t SlotArena::FrontierBytes(uint32_t n_started) const {
  const int64_t end = n_started * slot_bytes_;
  if (!huge_pages_) return end;
  return std::min(AlignUp(end, kHugePage), n_slots() * slot_bytes_);
}

int64_t SlotArena::CostOfFresh() const {
  if (given_back_ != kNone) return slot_bytes_;
  return FrontierBytes(n_started_ + 1) - FrontierBytes(n_started_);
}

uint32_t SlotArena::Pop(uint32_t& head, std::vector<uint32_t>& next) {
  const uint32_t slot = head;
  head = next[slot];
  return slot;
}

uint32_t SlotArena::Take() {
  if (!has_free()) return TakeFresh();
  --n_free_;
  return Pop(free_, next_);
}

uint32_t SlotArena::TakeFresh() {
  PANTRY_CHECK(CanTakeFresh());
  if (given_back_ != kNone) {
    --n_given_back_;
    return Pop(given_back_, next_);
  }
  return n_started_++;
}

void SlotArena::Release(uint32_t slot) {
  next_[slot] = free_;
  free_ = slot;
  ++n_free_;
}

void SlotArena::GiveBackOne() {
  PANTRY_CHECK(has_free());
  if (huge_pages_ && slot_bytes_ % kHugePage != 0 && n_given_back_ == 0) buffer_.RefuseHugePages();
  --n_free_;
  const uint32_t slot = Pop(free_, next_);
  buffer_.GiveBack(static_cast<size_t>(slot) * static_cast<size_t>(slot_bytes_), static_cast<size_t>(slot_bytes_));
  next_[slot] = given_back_;
  given_back_ = slot;
  ++n_given_back_;
}

}  // namespace pantry
