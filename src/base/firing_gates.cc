// SPDX-License-Identifier: Apache-2.0
#include "base/firing_gates.h"

#include <cmath>

namespace pantry {
namespace {

double Silu(double x) { return x / (1 + std::exp(-x)); }

// Where silu reaches `value` between `below`, where it is smaller, and `above`.
float Reaches(double value, double below, double above) {
  for (int i = 0; i < 200; ++i) {  // until the ends are neighbours, also near zero
    const double middle = below + (above - below) / 2;
    (Silu(middle) < value ? below : above) = middle;
  }
  return static_cast<float>(above);
}

}  // namespace

FiringGates FiringGates::OfSilu(float threshold) {
  constexpr double kDeepestAt = -1.2784645427610738;
  constexpr double kFarLeft = -200;  // |silu| is less than any positive float there
  constexpr float kEverything = -std::numeric_limits<float>::infinity();
  FiringGates gates;
  if (!(threshold > 0)) {
    gates.from = kEverything;
    return gates;
  }
  gates.from = Reaches(threshold, 0, 2.0 + threshold);  // silu(x) > x - 0.279
  if (threshold > -Silu(kDeepestAt)) return gates;
  gates.low = Reaches(-static_cast<double>(threshold), kDeepestAt, kFarLeft);
  gates.high = Reaches(-static_cast<double>(threshold), kDeepestAt, 0);
  return gates;
}

}  // namespace pantry
