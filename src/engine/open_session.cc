// SPDX-License-Identifier: Apache-2.0
// What sessions take, and how one is opened.
#include <algorithm>
#include <numeric>

#include "engine/session_impl.h"
#include "sys/memory_info.h"
#include "text/sampler.h"

namespace pantry {
namespace {

// Logits of all rows of a batch are large (a vocabulary of 150000 makes 600 kB per row): FeedAll() works in runs that fit in this.
constexpr int64_t kAllLogitsBytes = int64_t{64} << 20;
constexpr int64_t kSpareBytes = int64_t{4} << 20;  // that a first session leaves to what is counted nowhere

int64_t KvBytesPerPositionOf(const ModelShape& shape, KvType k_type, KvType v_type) {
  return KvBytesPerPosition(shape, KvRowBytes(k_type, shape.head_dim), KvRowBytes(v_type, shape.head_dim));
}

int64_t LogitsBytes(const ModelShape& shape) { return int64_t{shape.n_vocab} * int64_t{sizeof(float)}; }

// Sessions of an engine that are open already.
struct OpenSessions {
  int32_t n = 0;
  int64_t n_rows = 0;    // that their scratch is for
  int64_t kv_bytes = 0;  // address space
  int64_t committed_kv_bytes = 0;
};

Result<ContextPlan> Plan(const Model& model, const SessionOptions& options, int64_t n_rows, const MemoryPlan* budget,
                         const OpenSessions& open) {
  const ModelShape& shape = model.shape();
  ContextRequest request;
  request.n_ctx = options.n_ctx;
  request.n_ctx_train = shape.n_ctx_train;
  request.weight_bytes = model.weight_bytes();
  request.scratch_bytes = model.WorkspaceBytes(std::max(n_rows, open.n_rows)) + LogitsBytes(shape);
  request.kv_bytes_per_position = KvBytesPerPositionOf(shape, options.k_type, options.v_type);
  if (KvCache::CheckType(shape, KvType::kQ8_0).ok()) {
    request.kv_bytes_per_position_q8 = KvBytesPerPositionOf(shape, KvType::kQ8_0, KvType::kQ8_0);
  }
  // One session's share of what the open ones leave: keys and values are its own, scratch is not. Who comes when all that were planned for are
  // there gets as much as if he were the first.
  const auto share_of = [&](int64_t n_bytes, int32_t n_planned, int64_t of_open) {
    const bool is_planned = open.n < n_planned;
    const int64_t for_kv = n_bytes - request.scratch_bytes - (is_planned ? of_open : 0);
    return for_kv < 0 ? std::min(n_bytes, request.scratch_bytes)
                      : request.scratch_bytes + for_kv / (is_planned ? n_planned - open.n : n_planned);
  };
  // What the open ones have taken is not available any more; what they will take is.
  request.free_bytes = share_of(AvailableMemoryBytes(), options.n_sessions, open.kv_bytes - open.committed_kv_bytes);
  if (budget != nullptr) {  // what the rest leaves to sessions
    const int64_t planned =
        share_of(budget->budget_bytes - (budget->total_bytes() - budget->kv_bytes - budget->scratch_bytes),
                 budget->n_sessions, open.kv_bytes);
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

// Rows of a session's longest run.
int64_t MostRows(const ModelShape& shape, const SessionOptions& options) {
  return std::max<int64_t>(BatchOf(shape, options), options.n_sessions);
}

}  // namespace

int64_t AllLogitsRows(const ModelShape& shape, int64_t n_batch) {
  return std::clamp<int64_t>(kAllLogitsBytes / std::max<int64_t>(LogitsBytes(shape), 1), 1, n_batch);
}

int64_t SessionScratchBytes(const ModelShape& shape, const SessionOptions& options) {
  const int64_t n_batch = BatchOf(shape, options), logits = LogitsBytes(shape);
  const int64_t n_last = options.n_sessions;  // each has those of its last token, a run of several those of all
  const int64_t samplers = (n_last - 1) * shape.n_vocab * Sampler::kBytesPerToken;  // the first one's is the process's
  return ForwardWorkspaceBytes(shape, MostRows(shape, options)) + (n_last + (n_last > 1 ? n_last : 0)) * logits +
         samplers + (options.all_logits ? AllLogitsRows(shape, n_batch) * logits : 0);
}

int64_t SessionKvBytesPerPosition(const ModelShape& shape, const SessionOptions& options) {
  return options.n_sessions * KvBytesPerPositionOf(shape, options.k_type, options.v_type);
}

Session::Impl::Impl(Engine& its_engine, std::shared_ptr<SessionScratch> shared, ContextPlan its_plan, KvCache cache)
    : engine(its_engine), scratch(std::move(shared)), plan(std::move(its_plan)), kv(std::move(cache)) {
  scratch->kv_bytes += kv.n_bytes();
}

// The memory goes first: who counts it as free may lend it.
Session::Impl::~Impl() {
  const int64_t n_bytes = kv.n_bytes(), n_committed = kv.BytesFor(n_committed_positions);
  {
    const KvCache gone = std::move(kv);
  }
  scratch->kv_bytes -= n_bytes;
  scratch->committed_kv_bytes -= n_committed;
}

// For runs of up to `n_rows`, with sessions that are open already.
Result<std::shared_ptr<SessionScratch>> Engine::ScratchFor(int64_t n_rows) {
  std::shared_ptr<SessionScratch> scratch = scratch_.lock();
  if (scratch == nullptr) scratch = std::make_shared<SessionScratch>();
  if (scratch->workspace == nullptr || scratch->workspace->max_tokens() < n_rows) {
    PANTRY_ASSIGN_OR_RETURN(scratch->workspace, model().MakeWorkspace(n_rows));
    scratch->n_committed_rows = 0;
    scratch->row_numbers.resize(static_cast<size_t>(n_rows));
    std::iota(scratch->row_numbers.begin(), scratch->row_numbers.end(), 0);
    scratch->parts.reserve(1);
  }
  scratch_ = scratch;
  return scratch;
}

// What an earlier session left idle is this one's; and a cache that a warm start has filled keeps nothing from the first.
void Engine::MakeRoomForSessions() {
  stream()->Lend(0);
  const int64_t available_bytes = AvailableMemoryBytes();
  if (memory_plan() == nullptr || n_sessions() > 0 || available_bytes < 0) return;
  const int64_t missing_bytes = memory_plan()->kv_bytes + memory_plan()->scratch_bytes - available_bytes;
  if (missing_bytes > 0) stream()->GiveWay(missing_bytes + kSpareBytes);
}

Result<std::unique_ptr<Session>> Engine::NewSession(const SessionOptions& options) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  PANTRY_RETURN_IF_ERROR(KvCache::CheckType(shape(), options.k_type));
  PANTRY_RETURN_IF_ERROR(KvCache::CheckType(shape(), options.v_type));
  if (stream() != nullptr) MakeRoomForSessions();
  const int64_t n_batch = BatchOf(shape(), options);
  const int64_t n_rows = MostRows(shape(), options);
  OpenSessions open;
  if (const std::shared_ptr<SessionScratch> scratch = scratch_.lock()) {
    open = {n_sessions(), scratch->workspace->max_tokens(), scratch->kv_bytes, scratch->committed_kv_bytes};
  }
  PANTRY_ASSIGN_OR_RETURN(ContextPlan plan, Plan(model(), options, n_rows, memory_plan(), open));
  if (plan.is_cut || plan.n_ctx > shape().n_ctx_train) log_.Info("context: {}", plan.reason);

  PANTRY_ASSIGN_OR_RETURN(KvCache kv, KvCache::Allocate(shape(), options.k_type, options.v_type, plan.n_ctx));
  PANTRY_ASSIGN_OR_RETURN(std::shared_ptr<SessionScratch> scratch, ScratchFor(n_rows));
  auto impl = std::make_unique<Session::Impl>(*this, std::move(scratch), std::move(plan), std::move(kv));
  impl->n_batch = n_batch;
  impl->kv_bytes_per_position = KvBytesPerPositionOf(shape(), options.k_type, options.v_type);
  impl->tokens.reserve(static_cast<size_t>(impl->plan.n_ctx));
  impl->logits.resize(static_cast<size_t>(shape().n_vocab));
  return std::unique_ptr<Session>(new Session(std::move(impl)));
}

}  // namespace pantry
