// SPDX-License-Identifier: Apache-2.0
// A run of sessions: memory, the sources of weights, and whoever chooses or listens, around Model::Forward().
#include <algorithm>

#include "engine/session_impl.h"

namespace pantry {
namespace {

// What is told of a run before and after it, to those that there are.
class RunWatch {
 public:
  RunWatch(Engine& engine, const RunReport& run) : engine_(engine), run_(run) {
    if (is_timed()) begin_us_ = engine.clock().NowUs();
    if (engine.router() != nullptr) engine.router()->BeginRun();
    if (engine.resting() != nullptr) engine.resting()->BeginRun();
    if (engine.neuron_prior() != nullptr) engine.neuron_prior()->BeginRun();
  }
  // It succeeded.
  void End() {
    if (is_timed()) run_.us = engine_.clock().NowUs() - begin_us_;
    if (engine_.resting() != nullptr) engine_.resting()->EndRun(run_.n_tokens);
    if (engine_.neuron_prior() != nullptr) engine_.neuron_prior()->EndRun();
    if (engine_.run_observer()) engine_.run_observer()(run_);
    if (engine_.router() != nullptr) engine_.router()->EndRun(run_.n_tokens, run_.us);
  }

 private:
  bool is_timed() const { return engine_.run_observer() || engine_.router() != nullptr; }
  Engine& engine_;
  RunReport run_;
  int64_t begin_us_ = 0;
};

// Who chooses what runs, and who listens.
void AddPolicies(Engine& engine, ForwardRun& forward) {
  forward.chooser = engine.expert_chooser();
  forward.routing = engine.routing_observer();
  forward.neurons = engine.neuron_observer();
  forward.neuron_prior = engine.neuron_prior();
  if (RestingNeurons* const resting = engine.resting()) {
    forward.firing = resting->firing();
    forward.n_firing = &resting->n_firing();
  }
  if (engine.predicted() != nullptr) {
    forward.prediction = &engine.predicted()->BeginRun(static_cast<int64_t>(forward.tokens.size()));
  }
}

void AddSources(WeightStream& stream, ForwardRun& forward) {
  forward.experts = &stream;
  forward.matrices = &stream;
  forward.neuron_source = &stream;
  forward.embedding = stream.embedding();
}

}  // namespace

void Session::Impl::WillHold(int64_t n_positions) {
  if (n_positions <= n_committed_positions) return;
  scratch->committed_kv_bytes += kv.BytesFor(n_positions) - kv.BytesFor(n_committed_positions);
  n_committed_positions = n_positions;
}

// Sessions beyond those that were planned for take it all back.
void Session::Impl::LendIdleMemory(int64_t n_rows) {
  WeightStream* const stream = engine.stream();
  if (stream == nullptr) return;
  Workspace& workspace = *scratch->workspace;
  if (n_rows < scratch->n_committed_rows) workspace.Trim(n_rows);
  scratch->n_committed_rows = n_rows;
  const MemoryPlan* const budget = engine.memory_plan();
  if (engine.n_sessions() > (budget != nullptr ? budget->n_sessions : 1)) return stream->Lend(0);
  // Of what was planned, whatever sessions were opened then.
  int64_t kv_bytes = scratch->kv_bytes, workspace_bytes = engine.model().WorkspaceBytes(workspace.max_tokens());
  if (budget != nullptr) {
    kv_bytes = budget->kv_bytes;
    workspace_bytes = std::min(workspace_bytes, budget->scratch_bytes);
  }
  const int64_t used_bytes = scratch->committed_kv_bytes + engine.model().WorkspaceBytes(n_rows);
  stream->Lend(std::max<int64_t>(kv_bytes + workspace_bytes - used_bytes, 0));
}

Status Session::Impl::Compute(const Run& run) {
  const Impl& first = *run.sessions.front()->impl_;
  Engine& engine = first.engine;
  SessionScratch& scratch = *first.scratch;
  const auto n_tokens = static_cast<int64_t>(run.tokens.size());
  const int64_t n_each = n_tokens / static_cast<int64_t>(run.sessions.size());
  const RunReport report = {.first_position = static_cast<int64_t>(first.tokens.size()), .n_tokens = n_tokens};
  scratch.parts.clear();
  for (const Session* session : run.sessions) {
    Impl& s = *session->impl_;
    const auto n_before = static_cast<int64_t>(s.tokens.size());
    scratch.parts.push_back({.first_row = static_cast<int64_t>(scratch.parts.size()) * n_each,
                             .n_rows = n_each,
                             .first_position = n_before,
                             .kv = s.kv.layers()});
    s.has_logits = false;
    s.WillHold(n_before + n_each);
  }
  ForwardRun forward;
  forward.tokens = run.tokens;
  forward.parts = scratch.parts;
  forward.logit_rows = run.logit_rows;
  forward.logits = run.logits;
  AddPolicies(engine, forward);
  WeightStream* const stream = engine.stream();
  if (stream != nullptr) {
    AddSources(*stream, forward);
    run.sessions.front()->impl_->LendIdleMemory(n_tokens);
    stream->BeginRun(engine.pool(), n_tokens, run.keep_going);
  }
  RunWatch watch(engine, report);
  PANTRY_RETURN_IF_ERROR(engine.model().Forward(forward, engine.pool(), *scratch.workspace));
  if (stream != nullptr) PANTRY_RETURN_IF_ERROR(stream->EndRun());
  auto fed = run.tokens.begin();
  for (const Session* session : run.sessions) {
    std::vector<TokenId>& tokens = session->impl_->tokens;
    tokens.insert(tokens.end(), fed, fed + n_each);
    fed += n_each;
  }
  watch.End();
  return OkStatus();
}

}  // namespace pantry
