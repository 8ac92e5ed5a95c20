// SPDX-License-Identifier: Apache-2.0
#include "eval/agreement.h"

#include "eval/log_softmax.h"

namespace pantry {

Result<std::vector<TokenId>> TopTokens(Engine& engine, std::span<const TokenId> tokens, int64_t n_ctx) {
  if (n_ctx < 1) return InvalidArgumentError("--ctx-size {}: a window needs at least 1 token", n_ctx);
  SessionOptions options;
  options.n_ctx = n_ctx;
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, engine.NewSession(options));
  const auto window_size = static_cast<size_t>(n_ctx);
  std::vector<TokenId> top;
  for (size_t begin = 0; begin + window_size <= tokens.size(); begin += window_size) {
    std::vector<TokenId> window(tokens.begin() + static_cast<ptrdiff_t>(begin),
                                tokens.begin() + static_cast<ptrdiff_t>(begin + window_size));
    if (engine.tokenizer().adds_bos()) window[0] = engine.tokenizer().bos();
    session->Truncate(0);
    PANTRY_RETURN_IF_ERROR(
        session->FeedAll(window, [&](int64_t, std::span<const float> logits) { top.push_back(BestToken(logits)); }));
  }
  return top;
}

double AgreementShare(std::span<const TokenId> a, std::span<const TokenId> b) {
  PANTRY_CHECK(a.size() == b.size() && !a.empty());
  size_t n_same = 0;
  for (size_t i = 0; i < a.size(); ++i) n_same += a[i] == b[i] ? 1 : 0;
  return static_cast<double>(n_same) / static_cast<double>(a.size());
}

}  // namespace pantry
