// SPDX-License-Identifier: Apache-2.0
#include "residency/stream/rotation_ahead.h"

#include <algorithm>

namespace pantry {

RotationAhead::RotationAhead(const BlockCache& cache, BlockStream& stream)
    : cache_(cache), stream_(stream), is_ahead_(cache.n_blocks()) {
  BudgetChanged();
}

void RotationAhead::BudgetChanged() { most_bytes_ = std::min(kMostBytes, cache_.budget_bytes() / kShareOfCache); }

void RotationAhead::Wanted(std::span<const BlockId> blocks) {
  for (const BlockId block : blocks) {
    uint8_t& is_ahead = is_ahead_[block.value()];
    if (is_ahead != 0) ahead_bytes_ -= cache_.n_bytes(block);
    is_ahead = 0;
  }
  first_wanted_ = blocks.front();
  last_wanted_ = blocks.back();
  next_ = 1;
}

void RotationAhead::Read() {
  if (!stream_.all_admitted()) return;  // what is wanted now comes first
  const auto n_blocks = static_cast<uint32_t>(is_ahead_.size());
  for (; next_ < n_blocks && ahead_bytes_ < most_bytes_; ++next_) {
    const BlockId block((last_wanted_.value() + next_) % n_blocks);
    if (block == first_wanted_) return;
    if (cache_.state(block) != BlockState::kAbsent) continue;
    if (stream_.Expect({&block, 1}, 1) == 0) return;  // all that is there is wanted sooner
    uint8_t& is_ahead = is_ahead_[block.value()];
    if (is_ahead == 0) ahead_bytes_ += cache_.n_bytes(block);
    is_ahead = 1;
  }
}

void RotationAhead::Forget() {
  std::fill(is_ahead_.begin(), is_ahead_.end(), uint8_t{0});
  ahead_bytes_ = 0;
}

}  // namespace pantry
