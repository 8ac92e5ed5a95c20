// SPDX-License-Identifier: Apache-2.0
// Sums over rows of F32 numbers, written so that compilers for any instruction set do several at once. For training, not for inference.
#pragma once

#include <cstdint>

namespace pantry {

float Dot(const float* a, const float* b, int64_t n);

// to += scale * from
inline void AddScaled(float* to, float scale, const float* from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] += scale * from[i];
}

}  // namespace pantry
