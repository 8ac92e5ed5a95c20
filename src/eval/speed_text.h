// SPDX-License-Identifier: Apache-2.0
// Tokens to measure speed with: plain English that does not repeat itself in the same order, or random ids.
//
// What is computed for a dense model does not depend on the tokens; which experts or neurons are needed does, and random ids need
// more of them than text. Sentences come in random order, so that the text has no end and no period.
#pragma once

#include <cstdint>
#include <vector>

#include "base/strong_id.h"
#include "text/tokenizer.h"

namespace pantry {

// n tokens below n_vocab, the same for the same seed; BOS first where the model adds one. A tokenizer that knows no English gives random ids.
std::vector<TokenId> TextTokens(const Tokenizer& tokenizer, int32_t n_vocab, int64_t n, uint64_t seed);
std::vector<TokenId> RandomTokens(int32_t n_vocab, int64_t n, uint64_t seed);

}  // namespace pantry
