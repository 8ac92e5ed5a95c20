// SPDX-License-Identifier: Apache-2.0
// ObservedText is a text cut into windows that a model reads while somebody observes its neurons.
//
// The text is cut into windows of n_ctx tokens, of which as many as wanted are read, evenly spread over it; where the model adds BOS, the
// first token of a window is replaced by it.
// Threads: as Session.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "base/neuron_observer.h"
#include "base/status.h"
#include "engine/engine.h"

namespace pantry {

struct ObservedTextOptions {
  int64_t max_tokens = 4096;  // of the text that are read
  int64_t n_ctx = 512;        // tokens of a window
  int32_t n_batch = 512;
  // Whether windows have n_least_ctx tokens and all of them together n_least.
  Status Validate(int64_t n_least, int64_t n_least_ctx) const;
  SessionOptions session() const;  // what they ask of the engine
};

struct ObservedText {
  std::vector<TokenId> tokens;  // windows one behind the other
  size_t length = 0;            // of a window

  size_t n() const { return tokens.size() / length; }
  std::span<const TokenId> At(size_t i) const { return std::span(tokens).subspan(i * length, length); }

  // At most max_tokens in windows of n_ctx. kInvalidArgument: the text has fewer than `n_least` tokens; kCorruption as CheckTokens().
  static Result<ObservedText> Cut(const Engine& engine, std::string_view text, int64_t n_ctx, int64_t max_tokens,
                                  int64_t n_least);
  // Feeds windows [begin, end) to the session and tells `observer`. `at_window(i)` is called before each, with the session empty, and once
  // more with `end`; an error of it ends the reading. kCancelled when `keep_going(tokens of these windows done)`, which may be empty, says no.
  // REQUIRES: nobody else observes the neurons.
  Status Read(Engine& engine, Session& session, size_t begin, size_t end, NeuronObserver& observer,
              const std::function<Status(size_t window)>& at_window,
              const std::function<bool(int64_t n_done)>& keep_going) const;
};

// kUnsupported: the model computes and tells nobody of its neurons.
Status SilentNeurons(const ModelShape& shape);

}  // namespace pantry
