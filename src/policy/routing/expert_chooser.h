// SPDX-License-Identifier: Apache-2.0
// An ExpertChooser says which experts tokens run, where that is not simply those that their router likes best.
//
// Models ask it between router and mixing; the weights that results are mixed with come from the router's own logits, whatever was chosen
// (models/expert_routing.h).
// Threads: called by the thread that runs the model.
#pragma once

#include <cstdint>
#include <span>

namespace pantry {

class ExpertChooser {
 public:
  // A slot without an expert: fewer run than the model uses. Such slots are a token's last.
  static constexpr int32_t kNone = -1;

  virtual ~ExpertChooser() = default;
  // Layer `layer` of the model: sets each token's distinct experts, in descending order of the router's liking.
  virtual void Choose(int32_t layer, int64_t n_tokens, std::span<const float> logits,  // [n_tokens, n_experts]
                      std::span<int32_t> chosen) = 0;                                  // [n_tokens, n_used]
  // What a single token of such logits would be given. Changes and counts nothing.
  virtual void Guess(int32_t layer, std::span<const float> logits, std::span<int32_t> chosen) const = 0;
};

}  // namespace pantry
