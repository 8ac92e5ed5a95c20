// SPDX-License-Identifier: Apache-2.0
#include "eval/routing/routing_sweep.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>

#include "eval/log_softmax.h"
#include "eval/routing/routing_run.h"
#include "eval/routing/run_set.h"

namespace pantry {
namespace {

// The engine's runs are routed by `run` while this lives.
class Routed {
 public:
  Routed(Engine& engine, RoutingRun& run) : engine_(engine) { engine.SetExpertChooser(&run); }
  ~Routed() { engine_.SetExpertChooser(nullptr); }
  Routed(const Routed&) = delete;
  Routed& operator=(const Routed&) = delete;

 private:
  Engine& engine_;
};

Status RunWindow(Engine& engine, Session& session, std::span<const TokenId> window, RoutingRun& run,
                 const std::function<bool(int64_t n_done)>& keep_going) {
  const Routed routed(engine, run);
  run.BeginWindow();
  const auto add = [&](int64_t, TokenId next, std::span<const float> logits) {
    const double loss = -LogProbability(engine.pool(), logits, next);
    run.AddLoss(loss);
    return std::isfinite(loss) ? OkStatus() : NoProbabilities();
  };
  return VisitWindow(engine, session, window, add, keep_going);
}

}  // namespace

Status RoutingSweepOptions::Validate() const {
  PANTRY_RETURN_IF_ERROR(windows.Validate());
  if (cache_shares.empty()) return InvalidArgumentError("--cache-shares: expected at least one, such as 0.5");
  for (const double share : cache_shares) {
    if (!(share > 0 && share <= 1)) {
      return InvalidArgumentError("--cache-shares {}: expected shares above 0 and up to 1", share);
    }
  }
  if (n_spared_layers < 0) return InvalidArgumentError("--expert-policy-skip {}: expected 0 or more", n_spared_layers);
  return OkStatus();
}

Result<ExpertLayers> ExpertLayersOf(const ModelShape& shape) {
  if (!shape.has_experts()) {
    return InvalidArgumentError("the model is dense ({}): it has no experts to route to", shape.architecture);
  }
  return ExpertLayers{.first_layer = shape.n_dense_layers,
                      .n_layers = shape.n_layers - shape.n_dense_layers,
                      .n_experts = shape.n_experts,
                      .n_used = shape.n_experts_used};
}

Result<RoutingSweep> MeasureRouting(Engine& engine, std::string_view text, const RoutingSweepOptions& options,
                                    const std::function<bool(const SweepProgress& progress)>& keep_going) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  const int64_t start_us = engine.clock().NowUs();
  RoutingSweep sweep;
  PANTRY_ASSIGN_OR_RETURN(sweep.layers, ExpertLayersOf(engine.shape()));
  WindowOptions windows = options.windows;
  windows.n_ctx = sweep.n_ctx = std::min<int64_t>(windows.n_ctx, engine.shape().n_ctx_train);
  PANTRY_ASSIGN_OR_RETURN(const std::vector<TokenId> tokens, EncodeWindows(engine, text, windows, 2));
  PANTRY_ASSIGN_OR_RETURN(RunSet runs, RunSet::Create(options, sweep.layers));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, engine.NewSession(windows.session()));

  const auto n_ctx = static_cast<size_t>(sweep.n_ctx);
  sweep.n_windows_planned = static_cast<int64_t>(tokens.size() / n_ctx);
  SweepProgress progress;
  progress.n_windows = sweep.n_windows_planned;
  progress.n_total = static_cast<int64_t>(tokens.size() * runs.n_runs());
  bool is_stopped = false;
  for (size_t begin = 0; begin < tokens.size(); begin += n_ctx) {
    progress.window = sweep.n_windows;
    for (size_t i = 0; i < runs.n_runs(); ++i) {
      const auto base = static_cast<int64_t>(begin * runs.n_runs() + i * n_ctx);
      const auto in_window = [&](int64_t n_done) {
        progress.n_done = base + n_done;
        is_stopped = is_stopped || (keep_going && !keep_going(progress));
        return !is_stopped;
      };
      const Status status =
          RunWindow(engine, *session, std::span(tokens).subspan(begin, n_ctx), runs.run(i), in_window);
      if (is_stopped) break;
      PANTRY_RETURN_IF_ERROR(status);
    }
    if (is_stopped) break;
    PANTRY_RETURN_IF_ERROR(runs.CommitWindow());
    ++sweep.n_windows;
  }
  if (sweep.n_windows == 0) return CancelledError("routing: stopped before the first window was through");
  sweep.rows = runs.Rows();
  sweep.n_tokens = runs.n_tokens();
  sweep.seconds = static_cast<double>(engine.clock().NowUs() - start_us) * 1e-6;
  return sweep;
}

Result<RoutingSweep> ReplayRouting(const RecordedRouting& recording, const RoutingSweepOptions& options) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  const RoutingHeader& header = recording.header;
  RoutingSweep sweep;
  sweep.layers = {header.first_layer, header.n_layers, header.n_experts, header.n_used};
  PANTRY_ASSIGN_OR_RETURN(RunSet runs, RunSet::Create(options, sweep.layers));
  std::vector<int32_t> chosen(static_cast<size_t>(header.n_used));
  int64_t n_events = 0;
  for (size_t i = 0; i < runs.n_runs(); ++i) {
    RoutingRun& run = runs.run(i);
    run.BeginWindow();
    for (size_t event = 0; event < recording.trace.events.size(); ++event) {
      const auto logits = recording.trace.logits_of(event);
      if (logits.empty()) continue;
      run.Choose(header.first_layer + recording.trace.events[event].layer, 1, logits, chosen);
      ++n_events;
    }
  }
  if (n_events == 0) return InvalidArgumentError("routing: the recording has no logits of single tokens");
  PANTRY_RETURN_IF_ERROR(runs.CommitWindow());
  sweep.n_windows = sweep.n_windows_planned = 1;
  sweep.n_ctx = n_events / static_cast<int64_t>(runs.n_runs()) / header.n_layers;
  sweep.rows = runs.Rows();
  return sweep;
}

}  // namespace pantry
