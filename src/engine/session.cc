// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>

#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "policy/planner/context_plan.h"
#include "sys/aligned_buffer.h"
#include "sys/memory_info.h"

namespace pantry {
namespace {

// Logits of all rows of a batch are large (a vocabulary of 150000 makes 600 kB per row): FeedAll() works in runs that fit in this.
constexpr int64_t kAllLogitsBytes = int64_t{64} << 20;

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

int64_t KvBytesPerPositionOf(const ModelShape& shape, KvType k_type, KvType v_type) {
  return KvBytesPerPosition(shape, KvRowBytes(k_type, shape.head_dim), KvRowBytes(v_type, shape.head_dim));
}

int64_t LogitsBytes(const ModelShape& shape) { return int64_t{shape.n_vocab} * int64_t{sizeof(float)}; }

// Rows of FeedAll()'s runs.
int64_t AllLogitsRows(const ModelShape& shape, int64_t n_batch) {
  return std::clamp<int64_t>(kAllLogitsBytes / std::max<int64_t>(LogitsBytes(shape), 1), 1, n_batch);
}

Result<ContextPlan> Plan(const Model& model, const SessionOptions& options, int64_t n_batch, const MemoryPlan* budget) {
  const ModelShape& shape = model.shape();
  ContextRequest request;
  request.n_ctx = options.n_ctx;
  request.n_ctx_train = shape.n_ctx_train;
  request.weight_bytes = model.weight_bytes();
  request.scratch_bytes = model.WorkspaceBytes(n_batch) + LogitsBytes(shape);
  request.kv_bytes_per_position = KvBytesPerPositionOf(shape, options.k_type, options.v_type);
  if (KvCache::CheckType(shape, KvType::kQ8_0).ok()) {
    request.kv_bytes_per_position_q8 = KvBytesPerPositionOf(shape, KvType::kQ8_0, KvType::kQ8_0);
  }
  request.free_bytes = AvailableMemoryBytes();
  if (budget != nullptr) {  // what the rest leaves to a session
    const int64_t planned = budget->budget_bytes - (budget->total_bytes() - budget->kv_bytes - budget->scratch_bytes);
    request.free_bytes = request.free_bytes < 0 ? planned : std::min(request.free_bytes, planned);
    if (request.n_ctx == 0) request.n_ctx = budget->n_ctx;
  }
  return PlanContext(request);
}

// A batch larger than the context is never used.
int64_t BatchOf(const ModelShape& shape, const SessionOptions& options) {
  const int64_t most = options.n_ctx > 0 ? options.n_ctx : std::max(shape.n_ctx_train, 1);
  return std::min<int64_t>(options.n_batch, most);
}

}  // namespace

int64_t SessionScratchBytes(const ModelShape& shape, const SessionOptions& options) {
  const int64_t n_batch = BatchOf(shape, options), logits = LogitsBytes(shape);
  return ForwardWorkspaceBytes(shape, n_batch) + logits +
         (options.all_logits ? AllLogitsRows(shape, n_batch) * logits : 0);
}

int64_t SessionKvBytesPerPosition(const ModelShape& shape, const SessionOptions& options) {
  return KvBytesPerPositionOf(shape, options.k_type, options.v_type);
}

using KeepGoing = std::function<bool(int64_t n_done, int64_t n_total)>;

struct Session::Impl {
  Engine& engine;
  ContextPlan plan;
  KvCache kv;
  std::unique_ptr<Workspace> workspace;
  int64_t n_batch = 0;
  int64_t kv_bytes_per_position = 0;
  std::vector<TokenId> tokens = {};  // capacity n_ctx
  std::vector<float> logits = {};    // [n_vocab], of the last token
  bool has_logits = false;
  std::vector<float> all_logits = {};     // [n_all_rows, n_vocab], empty until FeedAll()
  std::vector<int32_t> row_numbers = {};  // 0, 1, 2, ...: the rows of a run
  int64_t n_committed_positions = 0;      // that keys and values were ever written to
  int64_t n_committed_rows = 0;           // that the workspace holds memory for

  void LendIdleMemory(WeightStream& stream, int64_t n_tokens);
  Status CheckFits(std::span<const TokenId> more) const;
  // Computes one run; logits of its rows `rows` go to `out`. Nothing changes when it fails.
  Status Forward(std::span<const TokenId> run, std::span<const int32_t> rows, std::span<float> out,
                 const KeepGoing& keep_going, size_t n_done, size_t n_total);
};

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

// What the rest of the context and longer runs than this one would take is the stream's meanwhile. A single session was planned for.
void Session::Impl::LendIdleMemory(WeightStream& stream, int64_t n_tokens) {
  const auto n_positions = static_cast<int64_t>(tokens.size()) + n_tokens;
  n_committed_positions = std::max(n_committed_positions, n_positions);
  if (n_tokens < n_committed_rows) workspace->Trim(n_tokens);
  n_committed_rows = n_tokens;
  if (engine.n_sessions() > 1) return stream.Lend(0);
  const Model& model = engine.model();
  stream.Lend(kv.n_bytes() - kv.BytesFor(n_committed_positions) + model.WorkspaceBytes(n_batch) -
              model.WorkspaceBytes(n_committed_rows));
}

Status Session::Impl::Forward(std::span<const TokenId> run, std::span<const int32_t> rows, std::span<float> out,
                              const KeepGoing& keep_going, size_t n_done, size_t n_total) {
  ForwardRun forward;
  forward.tokens = run;
  forward.first_position = static_cast<int64_t>(tokens.size());
  forward.kv = kv.layers();
  forward.logit_rows = rows;
  forward.logits = out;
  std::function<bool()> at_layer;
  if (WeightStream* const stream = engine.stream()) {
    forward.experts = stream;
    forward.matrices = stream;
    forward.neuron_source = stream;
    forward.embedding = stream->embedding();
    if (keep_going) {
      at_layer = [&] { return keep_going(static_cast<int64_t>(n_done), static_cast<int64_t>(n_total)); };
    }
    LendIdleMemory(*stream, static_cast<int64_t>(run.size()));
    stream->BeginRun(engine.pool(), static_cast<int64_t>(run.size()), at_layer ? &at_layer : nullptr);
  }
  has_logits = false;
  const RunObserver& observer = engine.run_observer();
  ExpertRouter* const router = engine.router();
  const int64_t begin_us = observer || router != nullptr ? engine.clock().NowUs() : 0;
  if (router != nullptr) router->BeginRun();
  forward.chooser = engine.expert_chooser();
  forward.routing = engine.routing_observer();
  forward.neurons = engine.neuron_observer();
  RestingNeurons* const resting = engine.resting();
  if (resting != nullptr) {
    resting->BeginRun();
    forward.firing = resting->firing();
    forward.n_firing = &resting->n_firing();
  }
  NeuronPrior* const neuron_prior = engine.neuron_prior();
  if (neuron_prior != nullptr) {
    neuron_prior->BeginRun();
    forward.neuron_prior = neuron_prior;
  }
  if (engine.predicted() != nullptr) {
    forward.prediction = &engine.predicted()->BeginRun(static_cast<int64_t>(run.size()));
  }
  PANTRY_RETURN_IF_ERROR(engine.model().Forward(forward, engine.pool(), *workspace));
  if (engine.stream() != nullptr) PANTRY_RETURN_IF_ERROR(engine.stream()->EndRun());
  tokens.insert(tokens.end(), run.begin(), run.end());
  const int64_t us = observer || router != nullptr ? engine.clock().NowUs() - begin_us : 0;
  const auto n_tokens = static_cast<int64_t>(run.size());
  if (resting != nullptr) resting->EndRun(n_tokens);
  if (neuron_prior != nullptr) neuron_prior->EndRun();
  if (observer) observer({forward.first_position, n_tokens, us});
  if (router != nullptr) router->EndRun(n_tokens, us);
  return OkStatus();
}

Result<std::unique_ptr<Session>> Engine::NewSession(const SessionOptions& options) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  PANTRY_RETURN_IF_ERROR(KvCache::CheckType(shape(), options.k_type));
  PANTRY_RETURN_IF_ERROR(KvCache::CheckType(shape(), options.v_type));
  if (stream() != nullptr) stream()->Lend(0);  // what an earlier session left idle is this one's
  const int64_t n_batch = BatchOf(shape(), options);
  PANTRY_ASSIGN_OR_RETURN(ContextPlan plan, Plan(model(), options, n_batch, memory_plan()));
  if (plan.is_cut || plan.n_ctx > shape().n_ctx_train) log_.Info("context: {}", plan.reason);

  PANTRY_ASSIGN_OR_RETURN(KvCache kv, KvCache::Allocate(shape(), options.k_type, options.v_type, plan.n_ctx));
  PANTRY_ASSIGN_OR_RETURN(std::unique_ptr<Workspace> workspace, model().MakeWorkspace(n_batch));
  auto impl =
      std::unique_ptr<Session::Impl>(new Session::Impl{*this, std::move(plan), std::move(kv), std::move(workspace)});
  impl->n_batch = n_batch;
  impl->kv_bytes_per_position = KvBytesPerPositionOf(shape(), options.k_type, options.v_type);
  impl->tokens.reserve(static_cast<size_t>(impl->plan.n_ctx));
  impl->logits.resize(static_cast<size_t>(shape().n_vocab));
  impl->row_numbers.resize(static_cast<size_t>(n_batch));
  std::iota(impl->row_numbers.begin(), impl->row_numbers.end(), 0);
  return std::unique_ptr<Session>(new Session(std::move(impl)));
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)), n_open_(impl_->engine.n_sessions_) {
  ++*n_open_;
}
Session::~Session() { --*n_open_; }

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

Status Session::Feed(std::span<const TokenId> tokens,
                     const std::function<bool(int64_t n_done, int64_t n_total)>& keep_going) {
  Impl& s = *impl_;
  PANTRY_RETURN_IF_ERROR(s.CheckFits(tokens));
  RunLength length(s.engine.clock(), s.n_batch, keep_going && s.engine.stream() == nullptr);
  for (size_t done = 0; done < tokens.size();) {
    const size_t n = length.Next(tokens.size() - done);
    const bool is_last = done + n == tokens.size();
    const std::span<const int32_t> rows(s.row_numbers.data() + n - 1, is_last ? 1 : 0);
    PANTRY_RETURN_IF_ERROR(s.Forward(tokens.subspan(done, n), rows,
                                     std::span<float>(s.logits.data(), is_last ? s.logits.size() : 0), keep_going, done,
                                     tokens.size()));
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
  for (size_t done = 0; done < tokens.size();) {
    const size_t n = length.Next(tokens.size() - done);
    const std::span<float> out(s.all_logits.data(), n * n_vocab);
    PANTRY_RETURN_IF_ERROR(
        s.Forward(tokens.subspan(done, n), std::span(s.row_numbers).first(n), out, keep_going, done, tokens.size()));
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

}  // namespace pantry
