// SPDX-License-Identifier: Apache-2.0
// A RunningMean is the mean of the values seen so far, less those that are not finite. Threads: a value.
#pragma once

#include <cmath>
#include <cstdint>

namespace pantry {

struct RunningMean {
  double sum = 0;
  int64_t n = 0;

  void Add(double value) {
    if (!std::isfinite(value)) return;
    sum += value;
    ++n;
  }
  RunningMean& operator+=(const RunningMean& more) {
    sum += more.sum;
    n += more.n;
    return *this;
  }
  double mean() const { return n > 0 ? sum / static_cast<double>(n) : 0; }  // 0 before the first
};

}  // namespace pantry
