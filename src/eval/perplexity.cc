// SPDX-License-Identifier: Apache-2.0
#include "eval/perplexity.h"

#include <span>
#include <vector>

#include "eval/log_softmax.h"
#include "eval/loss_sum.h"

namespace pantry {

Result<PerplexityResult> MeasurePerplexity(Engine& engine, std::string_view text, const PerplexityOptions& options,
                                           const std::function<bool(int64_t done, int64_t total, double ppl)>& on_chunk,
                                           const std::function<bool(int64_t n_done, int64_t n_total)>& keep_going) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  const int64_t start_us = engine.clock().NowUs();
  PANTRY_ASSIGN_OR_RETURN(const std::vector<TokenId> tokens, EncodeWindows(engine, text, options, 2));
  LossSum losses;
  const auto add = [&](int64_t, TokenId next, std::span<const float> logits) {
    losses.Add(-LogProbability(engine.pool(), logits, next));
    return OkStatus();
  };
  const auto on_window = [&](int64_t n_done, int64_t n_total) {
    if (!on_chunk || on_chunk(n_done, n_total, losses.Perplexity())) return OkStatus();
    return CancelledError("perplexity stopped after {} of {} windows", n_done, n_total);
  };
  PANTRY_RETURN_IF_ERROR(
      VisitWindows(engine, tokens, options, add, {.keep_going = keep_going, .on_window = on_window}));
  PerplexityResult result;
  result.ppl = losses.Perplexity();
  result.ppl_stderr = losses.PerplexityError();
  result.n_tokens = losses.n();
  result.n_chunks = static_cast<int64_t>(tokens.size()) / options.n_ctx;
  result.seconds = static_cast<double>(engine.clock().NowUs() - start_us) * 1e-6;
  return result;
}

}  // namespace pantry
