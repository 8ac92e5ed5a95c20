// SPDX-License-Identifier: Apache-2.0
#include "eval/log_softmax.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace pantry {

LogNormalizer NormalizerOf(ThreadPool& pool, std::span<const float> logits) {
  // A fixed number of slices, so that the order of summation does not depend on the threads.
  constexpr size_t kSlices = 16;
  const size_t slice_size = (logits.size() + kSlices - 1) / kSlices;
  const float largest = *std::max_element(logits.begin(), logits.end());
  std::array<double, kSlices> sums{};
  pool.ParallelFor(kSlices, [&](int64_t slice, int) {
    const size_t begin = std::min(static_cast<size_t>(slice) * slice_size, logits.size());
    const size_t end = std::min(begin + slice_size, logits.size());
    double sum = 0;
    for (size_t i = begin; i < end; ++i) sum += std::exp(static_cast<double>(logits[i]) - largest);
    sums[static_cast<size_t>(slice)] = sum;
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return {largest, std::log(total)};
}

double LogProbability(ThreadPool& pool, std::span<const float> logits, TokenId token) {
  PANTRY_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size());
  return NormalizerOf(pool, logits).Of(logits[static_cast<size_t>(token)]);
}

Status NoProbabilities() {
  return CorruptionError("the model gives no probabilities: its logits are not finite numbers");
}

TokenId BestToken(std::span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace pantry
