// SPDX-License-Identifier: Apache-2.0
// A HeatTable keeps for each block the sum of its uses, each counting half after a half-life.
//
// Cooling everything at once would cost O(blocks) a token. Instead what a use weighs grows: a use at time t adds 2^(t / half-life), so the
// order of two blocks that are not used never changes, and nothing has to be touched. When the weight gets near the end of a
// double's range, all is divided by a power of two (exact; once in some hundred half-lives).
// Source: the "combined recency and frequency" value of LRFU (Lee et al., IEEE Trans. Computers 50(12), 2001).
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "base/block_id.h"

namespace pantry {

class HeatTable {
 public:
  explicit HeatTable(size_t n_blocks) : heat_(n_blocks, 0.0), last_use_(n_blocks, 0) {}

  // What one use weighs now.
  double unit() const { return unit_; }
  double heat(BlockId block) const { return heat_[block.value()]; }
  uint32_t last_use(BlockId block) const { return last_use_[block.value()]; }

  void Add(BlockId block, double n_uses) {
    heat_[block.value()] += n_uses * unit_;
    last_use_[block.value()] = ++n_uses_;
  }

  // Sets the time. Returns the factor (a power of two, mostly 1) by which all heat was multiplied: copies must follow.
  double SetTime(double half_lives) {
    double factor = 1;
    if (half_lives - base_ > kLimit) {
      const double new_base = std::floor(half_lives);
      factor = std::exp2(base_ - new_base);  // 0 when an age has passed: all is forgotten
      for (double& heat : heat_) heat *= factor;
      base_ = new_base;
    }
    unit_ = std::exp2(half_lives - base_);
    return factor;
  }

  void Forget() {
    for (double& heat : heat_) heat = 0;
    for (uint32_t& last_use : last_use_) last_use = 0;
    n_uses_ = 0;
    base_ = 0;
    unit_ = 1;
  }

  int64_t bookkeeping_bytes() const {
    return static_cast<int64_t>(heat_.capacity() * sizeof(double) + last_use_.capacity() * sizeof(uint32_t));
  }

 private:
  static constexpr double kLimit = 400;  // 2^400 times any count stays far from the largest double, 2^1024
  std::vector<double> heat_;             // in units of 2^base_
  std::vector<uint32_t> last_use_;       // counts uses; wraps
  double base_ = 0;
  double unit_ = 1;
  uint32_t n_uses_ = 0;
};

}  // namespace pantry
