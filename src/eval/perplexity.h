// SPDX-License-Identifier: Apache-2.0
// Perplexity of a model on a text, by llama.cpp's protocol, so that figures compare directly.
//
// The whole text is tokenised (with BOS where the model adds one), cut into windows of n_ctx tokens that do not overlap (a rest is dropped);
// the first token of each window is replaced by BOS where the model adds one; only predictions of the second half are scored: tokens
// first+1 .. n_ctx-1 with first = n_ctx/2, each from the logits of the position before.
// Where an expert policy lets what is in memory decide, each window begins with an empty cache, so that windows do not depend on each other
// (the protocol of arXiv 2412.00099).
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/status.h"
#include "engine/engine.h"

namespace pantry {

struct PerplexityOptions {
  int64_t n_ctx = 512;
  int64_t max_chunks = -1;  // windows; -1: all
  int32_t n_batch = 512;
  KvType kv_type = KvType::kF16;
  Status Validate() const;
};

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
