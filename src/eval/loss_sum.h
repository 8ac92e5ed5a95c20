// SPDX-License-Identifier: Apache-2.0
// A LossSum adds up the losses of tokens, or how far they rose against others: their mean, and how sure it is.
#pragma once

#include <cmath>
#include <cstdint>

namespace pantry {

class LossSum {
 public:
  void Add(double loss) {
    sum_ += loss;
    sum_of_squares_ += loss * loss;
    ++n_;
  }
  int64_t n() const { return n_; }

  // All of these: REQUIRES n() > 0.
  double Mean() const { return sum_ / static_cast<double>(n_); }
  // Of the mean: sqrt(variance / (n - 1)).
  double StandardError() const {
    const double mean = Mean();
    const double variance = sum_of_squares_ / static_cast<double>(n_) - mean * mean;
    return n_ > 1 && variance > 0 ? std::sqrt(variance / static_cast<double>(n_ - 1)) : 0.0;
  }
  double Perplexity() const { return std::exp(Mean()); }
  double PerplexityError() const { return StandardError() * Perplexity(); }  // to first order

 private:
  double sum_ = 0;
  double sum_of_squares_ = 0;
  int64_t n_ = 0;
};

}  // namespace pantry
