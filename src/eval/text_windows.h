// SPDX-License-Identifier: Apache-2.0
// Windows are what a text is cut into to be scored, by llama.cpp's protocol, so that figures compare directly.
//
// The whole text is tokenised (with BOS where the model adds one), cut into windows of n_ctx tokens that do not overlap (a rest is dropped);
// the first token of each window is replaced by BOS where the model adds one; only predictions of the second half are scored: tokens
// first+1 .. n_ctx-1 with first = n_ctx/2, each from the logits of the position before.
// Where a policy of experts or neurons lets what is in memory decide, each window begins with an empty cache, so that windows depend on each
// other only by what the policy learns of the model, the mean range of its logits or the usual largest gate (the protocol of arXiv 2412.00099).
// Threads: as Session.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"

namespace pantry {

struct WindowOptions {
  int64_t n_ctx = 512;
  int64_t max_chunks = -1;  // windows; -1: all
  int32_t n_batch = 512;
  KvType k_type = KvType::kF16;
  KvType v_type = KvType::kF16;
  Status Validate() const;
  SessionOptions session() const;  // what scoring asks of the engine
};

// kCorruption: the model does not have one of them.
Status CheckTokens(std::span<const TokenId> tokens, int32_t n_vocab);

// The text's windows one behind the other: [n_windows, n_ctx], as they are fed. kInvalidArgument when the whole text has fewer than
// `n_least`; kCorruption as CheckTokens(). REQUIRES: `options` are valid; n_least is 1 or 2.
Result<std::vector<TokenId>> EncodeWindows(const Engine& engine, std::string_view text, const WindowOptions& options,
                                           int64_t n_least);

// Gets logits, and the token of the text that they predict. An error ends it.
using RowVisitor = std::function<Status(int64_t row, TokenId next, std::span<const float> logits)>;

// Feeds `window` to the session, emptied before, and visits its scored predictions; the first is row 0. kCancelled when `keep_going`, which
// may be empty, says no.
Status VisitWindow(Engine& engine, Session& session, std::span<const TokenId> window, const RowVisitor& visit,
                   const std::function<bool(int64_t n_done)>& keep_going = {});

struct WindowCallbacks {
  std::function<bool(int64_t n_done, int64_t n_total)> keep_going = {};   // tokens; false: kCancelled
  std::function<Status(int64_t n_done, int64_t n_total)> on_window = {};  // they are through; an error ends it
};
// All of `tokens`, window by window, in a session of their own; rows count through all of them. REQUIRES: whole windows.
Status VisitWindows(Engine& engine, std::span<const TokenId> tokens, const WindowOptions& options,
                    const RowVisitor& visit, const WindowCallbacks& callbacks);

}  // namespace pantry
