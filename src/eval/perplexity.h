// SPDX-License-Identifier: Apache-2.0
// Perplexity of a model on a text, by llama.cpp's protocol, so that figures compare directly.
//
// Text, windows and scored tokens are those of eval/text_windows.h.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/status.h"
#include "engine/engine.h"
#include "eval/text_windows.h"

namespace pantry {

using PerplexityOptions = WindowOptions;

struct PerplexityResult {
  double ppl = 0;
  double ppl_stderr = 0;  // standard error of ppl, from the spread of the token losses (delta method)
  int64_t n_tokens = 0;   // scored
  int64_t n_chunks = 0;
  double seconds = 0;
};

// kInvalidArgument when the text is shorter than two windows; kCancelled when `on_chunk(windows done, total, ppl so far)` or
// `keep_going(tokens done, total)`, which is asked within windows too, returns false.
Result<PerplexityResult> MeasurePerplexity(
    Engine& engine, std::string_view text, const PerplexityOptions& options,
    const std::function<bool(int64_t done, int64_t total, double ppl)>& on_chunk = {},
    const std::function<bool(int64_t n_done, int64_t n_total)>& keep_going = {});

}  // namespace pantry
