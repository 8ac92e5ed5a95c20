// SPDX-License-Identifier: Apache-2.0
// LRFU: recency and frequency in one number. Each use counts 2^(-age / half-life); a short half-life is nearly LRU, a long one LFU.
// Age is counted in whole tokens: within a token all layers are of one age, so that those visited early do not look colder.
#include "residency/cache/heat_policy.h"

namespace pantry {
namespace {

class Lrfu final : public HeatPolicy {
 public:
  Lrfu(size_t n_blocks, double half_life_tokens) : HeatPolicy(n_blocks), half_life_tokens_(half_life_tokens) {}

  void BeginStep(int64_t n_tokens) override {
    time_ += static_cast<double>(n_tokens);
    SetTime(time_ / half_life_tokens_);
  }

 private:
  void Restart() override { time_ = 0; }
  const double half_life_tokens_;
  double time_ = 0;  // tokens
};

}  // namespace

std::unique_ptr<EvictionPolicy> MakeLrfu(size_t n_blocks, double half_life_tokens) {
  return std::make_unique<Lrfu>(n_blocks, half_life_tokens);
}

}  // namespace pantry
