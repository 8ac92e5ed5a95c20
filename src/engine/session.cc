// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "engine/session_impl.h"

namespace pantry {
namespace {

// How many tokens the next run computes. Results do not depend on it, but who may cancel must not wait for long: with `is_watched` runs
// begin short, and grow only while they are quick.
class RunLength {
 public:
  // A streamed run reads experts anew for each of them, so there they are as long as can be; it looks up at each layer instead.
  RunLength(const Clock& clock, int64_t most, bool is_watched)
      : clock_(clock), most_(most), n_(is_watched ? std::min(most, kFirst) : most), is_watched_(is_watched) {}
  size_t Next(size_t n_left) {
    if (is_watched_) start_us_ = clock_.NowUs();
    return std::min(n_left, static_cast<size_t>(n_));
  }
  void Done() {
    if (!is_watched_) return;
    const int64_t took_us = clock_.NowUs() - start_us_;
    if (took_us > kSlowUs) n_ = std::min(n_, std::max(n_ / 2, kLeast));
    if (took_us < kSlowUs / 4) n_ = std::min({n_ * 2, most_, kMost});
  }

 private:
  static constexpr int64_t kFirst = 128;
  static constexpr int64_t kLeast = 32;
  static constexpr int64_t kMost = 512;
  static constexpr int64_t kSlowUs = 800'000;
  const Clock& clock_;
  int64_t most_;
  int64_t n_;
  bool is_watched_;
  int64_t start_us_ = 0;
};

// Who is asked after each run may be asked at each layer, too.
std::function<bool()> AtLayer(const std::function<bool(int64_t n_done, int64_t n_total)>& keep_going,
                              const size_t& n_done, size_t n_total) {
  if (!keep_going) return {};
  return [&keep_going, &n_done, n_total] {
    return keep_going(static_cast<int64_t>(n_done), static_cast<int64_t>(n_total));
  };
}

}  // namespace

Status Session::Impl::CheckFits(std::span<const TokenId> more) const {
  const auto n_needed = static_cast<int64_t>(tokens.size() + more.size());
  if (n_needed > plan.n_ctx) {
    return InvalidArgumentError(
        "prompt has {} tokens, context is {}; {}", n_needed, plan.n_ctx,
        AdviseLargerContext(n_needed, plan.n_ctx, engine.shape().n_ctx_train, kv_bytes_per_position));
  }
  const int32_t n_vocab = engine.shape().n_vocab;
  for (size_t i = 0; i < more.size(); ++i) {
    if (more[i] < 0 || more[i] >= n_vocab) {
      return InvalidArgumentError("token {} at index {}: the model's tokens are 0 to {}", more[i], i, n_vocab - 1);
    }
  }
  return OkStatus();
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)), n_open_(impl_->engine.n_sessions_) {
  ++*n_open_;
}
Session::~Session() {
  impl_.reset();
  --*n_open_;
}

int64_t Session::n_ctx() const { return impl_->plan.n_ctx; }
std::span<const TokenId> Session::tokens() const { return impl_->tokens; }
const ContextPlan& Session::plan() const { return impl_->plan; }
int64_t Session::kv_bytes() const { return impl_->kv.n_bytes(); }
int64_t Session::scratch_bytes() const {
  return impl_->plan.scratch_bytes + static_cast<int64_t>(impl_->all_logits.size() * sizeof(float));
}

std::span<const float> Session::logits() const {
  return impl_->has_logits ? std::span<const float>(impl_->logits) : std::span<const float>();
}

int64_t Session::ReusePrefix(std::span<const TokenId> prompt) {
  const std::vector<TokenId>& have = impl_->tokens;
  const size_t most = prompt.empty() ? 0 : std::min(have.size(), prompt.size() - 1);
  size_t n_kept = 0;
  while (n_kept < most && have[n_kept] == prompt[n_kept]) ++n_kept;
  Truncate(static_cast<int64_t>(n_kept));
  return static_cast<int64_t>(n_kept);
}

void Session::Truncate(int64_t n_tokens) {
  const auto keep = static_cast<size_t>(std::max<int64_t>(n_tokens, 0));
  if (keep >= impl_->tokens.size()) return;
  impl_->tokens.resize(keep);
  impl_->has_logits = false;
}

Status Session::CopyFrom(const Session& other, int64_t n_kept) {
  Impl& s = *impl_;
  const Impl& from = *other.impl_;
  if (&s == &from) return OkStatus();
  if (&s.engine != &from.engine || s.plan.n_ctx != from.plan.n_ctx || !s.kv.IsLike(from.kv)) {
    return InvalidArgumentError("a copy needs a session of the same engine, context ({} here, {} there) and KV types",
                                s.plan.n_ctx, from.plan.n_ctx);
  }
  const auto n_tokens = static_cast<int64_t>(from.tokens.size()), n_own = static_cast<int64_t>(s.tokens.size());
  if (n_kept < 0 || n_kept > std::min(n_tokens, n_own) ||
      !std::equal(s.tokens.begin(), s.tokens.begin() + n_kept, from.tokens.begin())) {
    return InvalidArgumentError(
        "a copy that keeps its first {} tokens must begin with the same; there are {} here, {} there", n_kept, n_own,
        n_tokens);
  }
  s.has_logits = false;
  s.WillHold(n_tokens);
  s.LendIdleMemory(s.scratch->n_committed_rows);
  s.kv.CopyFrom(from.kv, n_kept, n_tokens);
  s.tokens.assign(from.tokens.begin(), from.tokens.end());
  std::copy(from.logits.begin(), from.logits.end(), s.logits.begin());
  s.has_logits = from.has_logits;
  return OkStatus();
}

Status Session::Feed(std::span<const TokenId> tokens,
                     const std::function<bool(int64_t n_done, int64_t n_total)>& keep_going) {
  Impl& s = *impl_;
  PANTRY_RETURN_IF_ERROR(s.CheckFits(tokens));
  RunLength length(s.engine.clock(), s.n_batch, keep_going && s.engine.stream() == nullptr);
  Session* const self = this;
  size_t done = 0;
  const std::function<bool()> at_layer = AtLayer(keep_going, done, tokens.size());
  while (done < tokens.size()) {
    const size_t n = length.Next(tokens.size() - done);
    const bool is_last = done + n == tokens.size();
    PANTRY_RETURN_IF_ERROR(
        Impl::Compute({.sessions = {&self, 1},
                       .tokens = tokens.subspan(done, n),
                       .logit_rows = std::span(s.scratch->row_numbers).subspan(n - 1, is_last ? 1 : 0),
                       .logits = std::span(s.logits).first(is_last ? s.logits.size() : 0),
                       .keep_going = keep_going ? &at_layer : nullptr}));
    s.has_logits = is_last;
    done += n;
    length.Done();
    if (keep_going && !keep_going(static_cast<int64_t>(done), static_cast<int64_t>(tokens.size()))) {
      return CancelledError("stopped after {} of {} tokens", done, tokens.size());
    }
  }
  return OkStatus();
}

Status Session::FeedAll(std::span<const TokenId> tokens,
                        const std::function<void(int64_t index, std::span<const float> logits)>& visit,
                        const std::function<bool(int64_t n_done, int64_t n_total)>& keep_going) {
  Impl& s = *impl_;
  PANTRY_RETURN_IF_ERROR(s.CheckFits(tokens));
  const size_t n_vocab = s.logits.size();
  if (s.all_logits.empty()) {
    s.all_logits.resize(static_cast<size_t>(AllLogitsRows(s.engine.shape(), s.n_batch)) * n_vocab);
  }
  RunLength length(s.engine.clock(), static_cast<int64_t>(s.all_logits.size() / n_vocab),
                   keep_going && s.engine.stream() == nullptr);
  Session* const self = this;
  size_t done = 0;
  const std::function<bool()> at_layer = AtLayer(keep_going, done, tokens.size());
  while (done < tokens.size()) {
    const size_t n = length.Next(tokens.size() - done);
    const std::span<float> out(s.all_logits.data(), n * n_vocab);
    PANTRY_RETURN_IF_ERROR(Impl::Compute({.sessions = {&self, 1},
                                          .tokens = tokens.subspan(done, n),
                                          .logit_rows = std::span(s.scratch->row_numbers).first(n),
                                          .logits = out,
                                          .keep_going = keep_going ? &at_layer : nullptr}));
    for (size_t i = 0; i < n; ++i) visit(static_cast<int64_t>(done + i), out.subspan(i * n_vocab, n_vocab));
    done += n;
    if (done == tokens.size()) std::copy_n(out.data() + (n - 1) * n_vocab, n_vocab, s.logits.data());
    s.has_logits = done == tokens.size();
    length.Done();
    if (keep_going && !keep_going(static_cast<int64_t>(done), static_cast<int64_t>(tokens.size()))) {
      return CancelledError("stopped after {} of {} tokens", done, tokens.size());
    }
  }
  return OkStatus();
}

Status Session::FeedTogether(std::span<Session* const> sessions, std::span<const TokenId> tokens) {
  if (sessions.empty() || sessions.size() != tokens.size()) {
    return InvalidArgumentError("{} tokens for {} sessions: expected one for each", tokens.size(), sessions.size());
  }
  const Impl& first = *sessions.front()->impl_;
  SessionScratch& scratch = *first.scratch;
  if (scratch.workspace->max_tokens() < static_cast<int64_t>(sessions.size())) {
    return InvalidArgumentError(
        "{} sessions together: there is scratch for {}; open them with SessionOptions::n_sessions", sessions.size(),
        scratch.workspace->max_tokens());
  }
  Status status;
  for (size_t i = 0; i < sessions.size() && status.ok(); ++i) {
    Impl& s = *sessions[i]->impl_;
    status = s.CheckFits(tokens.subspan(i, 1));
    if (&s.engine != &first.engine) status = InvalidArgumentError("session {} is another engine's", i);
    if (s.is_in_run) status = InvalidArgumentError("session {} is there twice", i);
    s.is_in_run = true;
  }
  for (const Session* session : sessions) session->impl_->is_in_run = false;
  PANTRY_RETURN_IF_ERROR(status);

  const size_t n_vocab = first.logits.size();
  if (scratch.logits.size() < sessions.size() * n_vocab) scratch.logits.resize(sessions.size() * n_vocab);
  PANTRY_RETURN_IF_ERROR(Impl::Compute({.sessions = sessions,
                                        .tokens = tokens,
                                        .logit_rows = std::span(scratch.row_numbers).first(sessions.size()),
                                        .logits = std::span(scratch.logits).first(sessions.size() * n_vocab)}));
  for (size_t i = 0; i < sessions.size(); ++i) {
    Impl& s = *sessions[i]->impl_;
    std::copy_n(scratch.logits.data() + i * n_vocab, n_vocab, s.logits.data());
    s.has_logits = true;
  }
  return OkStatus();
}

}  // namespace pantry
