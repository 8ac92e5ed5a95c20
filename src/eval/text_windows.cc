// SPDX-License-Identifier: Apache-2.0
#include "eval/text_windows.h"

#include <algorithm>
#include <memory>
#include <string>

namespace pantry {

Status WindowOptions::Validate() const {
  constexpr int64_t kMaxWindow = int64_t{1} << 30;
  if (n_ctx < 4 || n_ctx > kMaxWindow) {
    return InvalidArgumentError("--ctx-size {}: expected a window of 4 to {} tokens", n_ctx, kMaxWindow);
  }
  if (max_chunks == 0 || max_chunks < -1) {
    return InvalidArgumentError("--chunks {}: expected -1 (all) or at least 1", max_chunks);
  }
  return OkStatus();
}

SessionOptions WindowOptions::session() const {
  SessionOptions options;
  options.n_ctx = n_ctx;
  options.n_batch = n_batch;
  options.k_type = k_type;
  options.v_type = v_type;
  options.all_logits = true;
  return options;
}

Status CheckTokens(std::span<const TokenId> tokens, int32_t n_vocab) {
  const auto beyond = std::ranges::find_if(tokens, [=](TokenId token) { return token >= n_vocab; });
  if (beyond == tokens.end()) return OkStatus();
  return CorruptionError("the tokenizer gives token {}, the model has only {}: they do not belong together", *beyond,
                         n_vocab);
}

Result<std::vector<TokenId>> EncodeWindows(const Engine& engine, std::string_view text, const WindowOptions& options,
                                           int64_t n_least) {
  const Tokenizer& tokenizer = engine.tokenizer();
  std::vector<TokenId> tokens = tokenizer.Encode(text, EncodeOptions{});
  const auto n_tokens = static_cast<int64_t>(tokens.size());
  int64_t n_windows = n_tokens / options.n_ctx;
  if (tokenizer.adds_bos()) {
    for (int64_t i = 0; i < n_windows; ++i) tokens[static_cast<size_t>(i * options.n_ctx)] = tokenizer.bos();
  }
  PANTRY_RETURN_IF_ERROR(CheckTokens(tokens, engine.shape().n_vocab));  // a rest, too: it tells as well
  if (n_windows < n_least) {
    const std::string needed = n_least == 1
                                   ? fmt::format("a window has {}", options.n_ctx)
                                   : fmt::format("two windows of {} need {}", options.n_ctx, 2 * options.n_ctx);
    return InvalidArgumentError("the text has {} tokens, {}; use a longer text or a smaller --ctx-size", n_tokens,
                                needed);
  }
  if (options.max_chunks > 0) n_windows = std::min(n_windows, options.max_chunks);
  tokens.resize(static_cast<size_t>(n_windows * options.n_ctx));
  return tokens;
}

Status VisitWindow(Engine& engine, Session& session, std::span<const TokenId> window, const RowVisitor& visit,
                   const std::function<bool(int64_t n_done)>& keep_going) {
  Status visited;
  const auto from = [&](int64_t base) -> std::function<bool(int64_t, int64_t)> {
    if (!keep_going) return {};
    return [&, base](int64_t n_done, int64_t) { return visited.ok() && keep_going(base + n_done); };
  };
  if (engine.depends_on_cache()) engine.stream()->Forget();
  session.Truncate(0);
  const size_t first = window.size() / 2;
  // The logits of the first half are not wanted, and the last token predicts nothing that is in the window.
  PANTRY_RETURN_IF_ERROR(session.Feed(window.first(first), from(0)));
  Status fed = session.FeedAll(
      window.subspan(first, window.size() - 1 - first),
      [&](int64_t row, std::span<const float> logits) {
        if (visited.ok()) visited = visit(row, window[first + static_cast<size_t>(row) + 1], logits);
      },
      from(static_cast<int64_t>(first)));
  return visited.ok() ? fed : visited;
}

Status VisitWindows(Engine& engine, std::span<const TokenId> tokens, const WindowOptions& options,
                    const RowVisitor& visit, const WindowCallbacks& callbacks) {
  const auto n_ctx = static_cast<size_t>(options.n_ctx);
  PANTRY_CHECK(tokens.size() % n_ctx == 0);
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, engine.NewSession(options.session()));
  const auto n_windows = static_cast<int64_t>(tokens.size() / n_ctx);
  const int64_t n_rows = options.n_ctx - 1 - options.n_ctx / 2;  // of a window
  for (int64_t i = 0; i < n_windows; ++i) {
    const int64_t begin = i * options.n_ctx;
    const auto visit_row = [&](int64_t row, TokenId next, std::span<const float> logits) {
      return visit(i * n_rows + row, next, logits);
    };
    std::function<bool(int64_t)> in_window;
    if (callbacks.keep_going) {
      in_window = [&](int64_t n_done) {
        return callbacks.keep_going(begin + n_done, static_cast<int64_t>(tokens.size()));
      };
    }
    const auto window = tokens.subspan(static_cast<size_t>(begin), n_ctx);
    PANTRY_RETURN_IF_ERROR(VisitWindow(engine, *session, window, visit_row, in_window));
    if (callbacks.on_window) PANTRY_RETURN_IF_ERROR(callbacks.on_window(i + 1, n_windows));
  }
  return OkStatus();
}

}  // namespace pantry
