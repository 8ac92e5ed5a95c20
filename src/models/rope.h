// SPDX-License-Identifier: Apache-2.0
// A RopeTable turns a position into the cosines and sines by which queries and keys are rotated.
//
// Pair p of a head turns by position * frequency[p]. Everything that models do to reach longer contexts changes the frequencies or the
// length of the rotated vector, and is settled once, here: linear scaling, YaRN, Llama-3 and LongRoPE factors. All in double; only the
// results are rounded to F32, so a position's row does not depend on how it was reached.
// Threads: immutable; Fill() from any thread.
// Source: RoFormer (Su et al. 2021); YaRN (Peng et al. 2023) section 3.2; LongRoPE (Ding et al. 2024).
#pragma once

#include <cstdint>
#include <vector>

#include "weights/model_shape.h"

namespace pantry {

class RopeTable {
 public:
  RopeTable() = default;
  // `factors` [n_dims / 2] divide the frequencies one by one (Llama-3's rope_freqs.weight, LongRoPE's lists); null: all ones.
  RopeTable(const RopeShape& shape, const float* factors);

  // cos_sin[2p] = cos, cos_sin[2p + 1] = sin of pair p, times the table's magnitude. cos_sin: [n_dims].
  void Fill(int64_t position, float* cos_sin) const;

  int32_t n_dims() const { return static_cast<int32_t>(2 * frequencies_.size()); }
  const std::vector<double>& frequencies() const { return frequencies_; }  // [n_dims / 2], radians per position
  double magnitude() const { return magnitude_; }

 private:
  std::vector<double> frequencies_;
  double magnitude_ = 1.0;
};

}  // namespace pantry
