// SPDX-License-Identifier: Apache-2.0
#include "policy/predict/low_rank_predictor.h"

#include <algorithm>

#include "policy/predict/vector_math.h"

namespace pantry {

void LowRankPredictor::Score(const float* x, float* scores) const {
  std::copy_n(bias.data(), n_neurons, scores);
  for (int64_t k = 0; k < rank; ++k) {
    AddScaled(scores, Dot(v.data() + k * n_inputs, x, n_inputs), u.data() + k * n_neurons, n_neurons);
  }
}

}  // namespace pantry
