// SPDX-License-Identifier: Apache-2.0
// The most probable next token at every position of a given text: what two engines, or two number formats, are compared by.
//
// The text is cut into windows of n_ctx tokens that do not overlap; the first token of each is replaced by BOS where the model adds one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"

namespace pantry {

// [n] for the first n = tokens.size() / n_ctx * n_ctx tokens: the token that the model would choose after each.
Result<std::vector<TokenId>> TopTokens(Engine& engine, std::span<const TokenId> tokens, int64_t n_ctx);

// The share of positions at which both chose the same token. REQUIRES: the same length, not empty.
double AgreementShare(std::span<const TokenId> a, std::span<const TokenId> b);

}  // namespace pantry
