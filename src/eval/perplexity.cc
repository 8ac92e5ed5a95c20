// SPDX-License-Identifier: Apache-2.0
#include "eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "eval/log_softmax.h"

namespace pantry {
namespace {

// The losses of tokens, their sum and the sum of their squares.
class LossSum {
 public:
  void Add(double loss) {
    sum_ += loss;
    sum_of_squares_ += loss * loss;
    ++n_;
  }
  int64_t n() const { return n_; }
  double Perplexity() const { return std::exp(sum_ / static_cast<double>(n_)); }
  // Of the perplexity: exp() of the mean loss, whose own standard error is sqrt(variance / (n - 1)).
  double StandardError() const {
    const double mean = sum_ / static_cast<double>(n_);
    const double variance = sum_of_squares_ / static_cast<double>(n_) - mean * mean;
    return n_ > 1 && variance > 0 ? std::sqrt(variance / static_cast<double>(n_ - 1)) * Perplexity() : 0.0;
  }

 private:
  double sum_ = 0;
  double sum_of_squares_ = 0;
  int64_t n_ = 0;
};

// Adds the losses of the second half of `window`. `keep_going` hears how many of its tokens are done; it may be empty.
Status ScoreWindow(Engine& engine, Session& session, std::span<const TokenId> window, LossSum& losses,
                   const std::function<bool(int64_t n_done)>& keep_going) {
  const auto from = [&](int64_t base) -> std::function<bool(int64_t, int64_t)> {
    if (!keep_going) return {};
    return [&keep_going, base](int64_t n_done, int64_t) { return keep_going(base + n_done); };
  };
  session.Truncate(0);
  const size_t first = window.size() / 2;
  // The logits of the first half are not wanted, and the last token predicts nothing that is in the window.
  PANTRY_RETURN_IF_ERROR(session.Feed(window.first(first), from(0)));
  return session.FeedAll(
      window.subspan(first, window.size() - 1 - first),
      [&](int64_t index, std::span<const float> logits) {
        const TokenId next = window[first + static_cast<size_t>(index) + 1];
        losses.Add(-LogProbability(engine.pool(), logits, next));
      },
      from(static_cast<int64_t>(first)));
}

}  // namespace

Status PerplexityOptions::Validate() const {
  constexpr int64_t kMaxWindow = int64_t{1} << 30;
  if (n_ctx < 4 || n_ctx > kMaxWindow) {
    return InvalidArgumentError("--ctx-size {}: expected a window of 4 to {} tokens", n_ctx, kMaxWindow);
  }
  if (max_chunks == 0 || max_chunks < -1) {
    return InvalidArgumentError("--chunks {}: expected -1 (all) or at least 1", max_chunks);
  }
  return OkStatus();
}

Result<PerplexityResult> MeasurePerplexity(Engine& engine, std::string_view text, const PerplexityOptions& options,
                                           const std::function<bool(int64_t done, int64_t total, double ppl)>& on_chunk,
                                           const std::function<bool(int64_t n_done, int64_t n_total)>& keep_going) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  const int64_t start_us = engine.clock().NowUs();
  const Tokenizer& tokenizer = engine.tokenizer();
  std::vector<TokenId> tokens = tokenizer.Encode(text, EncodeOptions{});
  const auto n_tokens = static_cast<int64_t>(tokens.size());
  const int32_t n_vocab = engine.shape().n_vocab;
  const auto beyond = std::find_if(tokens.begin(), tokens.end(), [=](TokenId token) { return token >= n_vocab; });
  if (beyond != tokens.end()) {
    return CorruptionError("the tokenizer gives token {}, the model has only {}: they do not belong together", *beyond,
                           n_vocab);
  }
  if (n_tokens < 2 * options.n_ctx) {
    return InvalidArgumentError(
        "the text has {} tokens, two windows of {} need {}; use a longer text or a smaller --ctx-size", n_tokens,
        options.n_ctx, 2 * options.n_ctx);
  }
  SessionOptions session_options;
  session_options.n_ctx = options.n_ctx;
  session_options.n_batch = options.n_batch;
  session_options.k_type = options.kv_type;
  session_options.v_type = options.kv_type;
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, engine.NewSession(session_options));

  int64_t n_chunks = n_tokens / options.n_ctx;
  if (options.max_chunks > 0) n_chunks = std::min(n_chunks, options.max_chunks);
  LossSum losses;
  for (int64_t chunk = 0; chunk < n_chunks; ++chunk) {
    const std::span<TokenId> window(tokens.data() + chunk * options.n_ctx, static_cast<size_t>(options.n_ctx));
    if (engine.router() != nullptr) engine.stream()->Forget();
    if (tokenizer.adds_bos()) window[0] = tokenizer.bos();
    std::function<bool(int64_t)> in_window;
    if (keep_going) {
      in_window = [&, chunk](int64_t n_done) {
        return keep_going(chunk * options.n_ctx + n_done, n_chunks * options.n_ctx);
      };
    }
    PANTRY_RETURN_IF_ERROR(ScoreWindow(engine, *session, window, losses, in_window));
    if (on_chunk && !on_chunk(chunk + 1, n_chunks, losses.Perplexity())) {
      return CancelledError("perplexity stopped after {} of {} windows", chunk + 1, n_chunks);
    }
  }
  PerplexityResult result;
  result.ppl = losses.Perplexity();
  result.ppl_stderr = losses.StandardError();
  result.n_tokens = losses.n();
  result.n_chunks = n_chunks;
  result.seconds = static_cast<double>(engine.clock().NowUs() - start_us) * 1e-6;
  return result;
}

}  // namespace pantry
