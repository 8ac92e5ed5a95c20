// SPDX-License-Identifier: Apache-2.0
// LFU with decay: the block with the fewest uses goes first; once in a half-life all counts are halved. Equal counts: the least recent.
#include <cmath>

#include "residency/cache/heat_policy.h"

namespace pantry {
namespace {

class Lfu final : public HeatPolicy {
 public:
  Lfu(size_t n_blocks, double half_life_tokens) : HeatPolicy(n_blocks), half_life_tokens_(half_life_tokens) {}

  void BeginStep(int64_t n_tokens) override {
    time_ += static_cast<double>(n_tokens);
    SetTime(std::floor(time_ / half_life_tokens_));
  }

 private:
  void Restart() override { time_ = 0; }
  const double half_life_tokens_;
  double time_ = 0;  // tokens
};

}  // namespace

std::unique_ptr<EvictionPolicy> MakeLfu(size_t n_blocks, double half_life_tokens) {
  return std::make_unique<Lfu>(n_blocks, half_life_tokens);
}

}  // namespace pantry
