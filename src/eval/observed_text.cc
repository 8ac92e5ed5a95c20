// SPDX-License-Identifier: Apache-2.0
#include "eval/observed_text.h"

#include <algorithm>

#include "eval/text_windows.h"

namespace pantry {
namespace {

// Observes while it lives.
class Listening {
 public:
  Listening(Engine& engine, NeuronObserver& observer) : engine_(engine) { engine_.ObserveNeurons(&observer); }
  ~Listening() { engine_.ObserveNeurons(nullptr); }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;

 private:
  Engine& engine_;
};

}  // namespace

Status ObservedTextOptions::Validate(int64_t n_least, int64_t n_least_ctx) const {
  if (max_tokens < n_least) {
    return InvalidArgumentError("--n-tokens {}: expected {} tokens or more", max_tokens, n_least);
  }
  if (n_ctx >= n_least_ctx) return OkStatus();
  return InvalidArgumentError("--ctx-size {}: expected a window of {} tokens or more", n_ctx, n_least_ctx);
}

SessionOptions ObservedTextOptions::session() const {
  SessionOptions session;
  session.n_ctx = std::min(n_ctx, max_tokens);
  session.n_batch = n_batch;
  return session;
}

Result<ObservedText> ObservedText::Cut(const Engine& engine, std::string_view text, int64_t n_ctx, int64_t max_tokens,
                                       int64_t n_least) {
  const Tokenizer& tokenizer = engine.tokenizer();
  const std::vector<TokenId> all = tokenizer.Encode(text, EncodeOptions{});
  PANTRY_RETURN_IF_ERROR(CheckTokens(all, engine.shape().n_vocab));
  const auto n_all = static_cast<int64_t>(all.size());
  if (n_all < n_least) {
    return InvalidArgumentError("the text has {} tokens, a profile needs {} at least; use a longer text", n_all,
                                n_least);
  }
  ObservedText windows;
  windows.length = static_cast<size_t>(std::min({n_ctx, max_tokens, n_all}));
  const size_t n_there = all.size() / windows.length;
  const size_t n = std::min(n_there, static_cast<size_t>(max_tokens) / windows.length);
  for (size_t i = 0; i < n; ++i) {
    const auto begin = all.begin() + static_cast<ptrdiff_t>(i * n_there / n * windows.length);
    windows.tokens.insert(windows.tokens.end(), begin, begin + static_cast<ptrdiff_t>(windows.length));
    if (tokenizer.adds_bos()) windows.tokens[i * windows.length] = tokenizer.bos();
  }
  return windows;
}

Status ObservedText::Read(Engine& engine, Session& session, size_t begin, size_t end, NeuronObserver& observer,
                          const std::function<Status(size_t window)>& at_window,
                          const std::function<bool(int64_t n_done)>& keep_going) const {
  const Listening listening(engine, observer);
  for (size_t i = begin; i < end; ++i) {
    session.Truncate(0);
    PANTRY_RETURN_IF_ERROR(at_window(i));
    const auto n_before = static_cast<int64_t>((i - begin) * length);
    std::function<bool(int64_t, int64_t)> in_window;
    if (keep_going) in_window = [&](int64_t n_done, int64_t) { return keep_going(n_before + n_done); };
    PANTRY_RETURN_IF_ERROR(session.Feed(At(i), in_window));
  }
  return at_window(end);
}

Status SilentNeurons(const ModelShape& shape) {
  return UnsupportedError("models of architecture '{}' do not tell yet what their neurons do", shape.architecture);
}

}  // namespace pantry
