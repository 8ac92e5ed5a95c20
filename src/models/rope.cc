// SPDX-License-Identifier: Apache-2.0
#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace pantry {
namespace {

// The pair whose wave turns `n_turns` times over the original context.
double PairThatTurns(const RopeShape& shape, double n_turns) {
  return shape.n_dims * std::log(shape.original_context / (n_turns * 2 * std::numbers::pi)) /
         (2 * std::log(shape.freq_base));
}

// How much of pair p's frequency is interpolated (divided by the scale factor): 0 for fast pairs, 1 for slow ones, a ramp in between.
double YarnInterpolatedShare(const RopeShape& shape, int32_t pair) {
  const double low = std::max(0.0, std::floor(PairThatTurns(shape, shape.yarn_beta_fast)));
  const double high = std::min(shape.n_dims - 1.0, std::ceil(PairThatTurns(shape, shape.yarn_beta_slow)));
  return std::clamp((pair - low) / std::max(0.001, high - low), 0.0, 1.0);
}

}  // namespace

RopeTable::RopeTable(const RopeShape& shape, const float* factors) : magnitude_(shape.attn_factor) {
  for (int32_t pair = 0; pair < shape.n_dims / 2; ++pair) {
    double frequency = std::pow(shape.freq_base, -2.0 * pair / shape.n_dims);
    if (factors != nullptr) frequency /= static_cast<double>(factors[pair]);
    if (shape.scaling == RopeScaling::kLinear) frequency /= shape.scale_factor;
    if (shape.scaling == RopeScaling::kYarn) {
      const double share = YarnInterpolatedShare(shape, pair);
      frequency = frequency * (1 - share) + frequency / shape.scale_factor * share;
    }
    frequencies_.push_back(frequency);
  }
  // YaRN's remedy for the entropy of attention over a longer context: q and k both grow, so their product by the square.
  if (shape.scaling == RopeScaling::kYarn && shape.scale_factor > 1)
    magnitude_ *= 1 + 0.1 * std::log(shape.scale_factor);
}

void RopeTable::Fill(int64_t position, float* cos_sin) const {
  for (double frequency : frequencies_) {
    const double angle = static_cast<double>(position) * frequency;
    *cos_sin++ = static_cast<float>(std::cos(angle) * magnitude_);
    *cos_sin++ = static_cast<float>(std::sin(angle) * magnitude_);
  }
}

}  // namespace pantry
