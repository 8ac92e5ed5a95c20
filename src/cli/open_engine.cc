// SPDX-License-Identifier: Apache-2.0
#include "cli/open_engine.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/units.h"
#include "cli/interrupt.h"
#include "cli/known_machine.h"
#include "cli/neuron_flags.h"
#include "cli/run_records.h"
#include "engine/warm_up.h"
#include "sys/memory_info.h"

namespace pantry {
namespace {

// --memory, --stream, --io, --cache-policy, --expert-policy, --neuron-policy.
Status SetMemoryOptions(const CliOptions& options, int64_t available_bytes, EngineOptions& engine) {
  if (options.memory != "auto") {
    PANTRY_ASSIGN_OR_RETURN(engine.memory_bytes, ParseMemoryBudget(options.memory, available_bytes));
  }
  if (options.stream == "on") engine.stream = StreamMode::kOn;
  else if (options.stream == "off") engine.stream = StreamMode::kOff;
  else if (options.stream != "auto") {
    return InvalidArgumentError("--stream: expected auto, on or off, found '{}'", options.stream);
  }
  PANTRY_ASSIGN_OR_RETURN(engine.disk_access, ParseDiskAccess(options.io));
  engine.lookahead = options.lookahead;
  engine.sparse = options.sparse;
  if (!options.sparsity.empty()) {
    PANTRY_ASSIGN_OR_RETURN(engine.sparsity.sparsity, ParseSparsity(options.sparsity));
  }
  engine.sparsity.profile = options.profile;
  engine.predictor.file = options.predictor;
  if (!options.cache_policy.empty()) {
    PANTRY_ASSIGN_OR_RETURN(engine.cache_policy, ParsePolicy(options.cache_policy));
  }
  PANTRY_ASSIGN_OR_RETURN(engine.expert_policy, ExpertPolicyOf(options));
  PANTRY_ASSIGN_OR_RETURN(engine.neuron_prior_strength, NeuronPriorStrengthOf(options));
  return OkStatus();
}

std::string StreamedLine(Engine& engine, const WeightStream& stream) {
  const MemoryPlan& plan = *engine.memory_plan();
  const int64_t needed = plan.total_bytes() - plan.cache_bytes + plan.block_bytes;
  const bool fits = needed <= plan.budget_bytes;
  return fmt::format("mode: streaming (needs {} {} budget {}{}) · {} {} of {} in memory · {}", FormatBytes(needed),
                     fits ? "of" : ">", FormatBytes(plan.budget_bytes),
                     !fits                                  ? ""
                     : stream.placer().neurons() != nullptr ? ", neuron by neuron"
                                                            : ", but --stream on",
                     plan.blocks, FormatBytes(stream.cache_bytes()), FormatBytes(plan.block_bytes),
                     stream.queue_name());
}

// Evaluation empties the cache before each text where answers depend on it.
bool StartsWarm(VerbContext& context, Engine& engine) {
  const bool is_emptied = context.invocation.verb == kEval && engine.depends_on_cache();
  return context.options().warm_start && StreamsProfiled(engine) && !is_emptied;
}

// What was asked of a profile that nobody reads here.
void WarnOfIdleFlags(VerbContext& context, Engine& engine) {
  const auto is_given = [&](const char* flag) { return context.invocation.SourceOf(flag) == ValueSource::kFlag; };
  const bool is_warmed = StartsWarm(context, engine), has_profiles = StreamsProfiled(engine);
  if (context.options().warm_start && !is_warmed && is_given("--warm-start")) {
    context.console.Warning("--warm-start: no effect here because {}",
                            has_profiles
                                ? "each text begins with nothing in memory where a policy by what is there is evaluated"
                                : "neither single neurons nor experts that gate by ReLU are streamed");
  }
  if (engine.resting() != nullptr || is_warmed || !is_given("--profile")) return;
  context.console.Warning("--profile: no effect here because {}",
                          has_profiles ? "it is for the warm start, which is off"
                                       : "there is no --sparsity, and neither single neurons nor experts that gate "
                                         "by ReLU are streamed");
}

// With progress, and a line of what came of it. It changes no answer, so what goes wrong is a warning.
Status WarmUpCaches(VerbContext& context, Engine& engine) {
  const SteadyClock clock;
  const int64_t begin_us = clock.NowUs();
  const auto seconds = [&] { return 1e-6 * static_cast<double>(clock.NowUs() - begin_us); };
  const Result<std::optional<WarmCache>> warm =
      WarmUp(engine, context.options().profile, [&](int64_t n_done, int64_t n_total) {
        context.console.Progress(LoadingLine(n_done, n_total, seconds(), "warming up"));
        return !Interrupted();
      });
  context.console.EndProgress();
  const StatusCode code = warm.status().code();
  if (code == StatusCode::kCancelled || code == StatusCode::kNotFound) return warm.status();  // no file --profile
  if (!warm.ok()) context.console.Warning("the warm start failed: {}", warm.status().message());
  if (!warm.ok() || !*warm) return OkStatus();
  std::string what;
  if ((*warm)->n_experts > 0) what = fmt::format("{} experts", (*warm)->n_experts);
  if ((*warm)->n_neurons > 0) what += fmt::format("{}{} neurons", what.empty() ? "" : ", ", (*warm)->n_neurons);
  context.console.Note(fmt::format("warm start: {} ({}) in {:.1f} s, by {}", what.empty() ? "nothing" : what,
                                   FormatBytes((*warm)->n_bytes), seconds(), (*warm)->profile));
  return OkStatus();
}

}  // namespace

Result<ExpertPolicyOptions> ExpertPolicyOf(const CliOptions& options) {
  Result<ExpertPolicySpec> policy = ParseExpertPolicy(options.expert_policy);
  if (!policy.ok()) return policy.status().WithContext("--expert-policy");
  policy->top_j = options.expert_policy_top;
  const ExpertPolicyOptions checked = {*policy, options.expert_policy_skip, options.expert_policy_prompts};
  PANTRY_RETURN_IF_ERROR(checked.Validate());
  return checked;
}

Result<EngineOptions> EngineOptionsOf(const CliOptions& options, const SessionOptions& session,
                                      int64_t available_bytes) {
  if (options.threads < -1 || options.threads > 1024) {
    return InvalidArgumentError("--threads: expected -1 (physical cores) or 1 to 1024, found {}", options.threads);
  }
  EngineOptions engine;
  engine.n_threads = std::max(options.threads, 0);
  engine.isa = options.isa;
  engine.session = session;
  PANTRY_RETURN_IF_ERROR(SetMemoryOptions(options, available_bytes, engine));
  return engine;
}

Result<std::unique_ptr<Engine>> OpenEngine(VerbContext& context, const std::string& path,
                                           const SessionOptions& session) {
  const CliOptions& options = context.options();
  PANTRY_ASSIGN_OR_RETURN(EngineOptions engine_options, EngineOptionsOf(options, session, AvailableMemoryBytes()));
  if (options.threads_batch >= 0 && options.threads_batch != options.threads) {
    context.console.Warning(
        "--threads-batch: no effect here because one set of threads (--threads) does prompt and answer");
  }
  engine_options.predictor.all_rows = context.invocation.verb == kEval;  // a text stands for tokens that are generated
  PANTRY_ASSIGN_OR_RETURN(std::unique_ptr<RunRecords> records, RunRecords::Open(options, context.console));
  const SteadyClock clock;
  const int64_t begin_us = clock.NowUs();
  const auto progress = [&](int64_t n_done, int64_t n_total) {
    context.console.Progress(LoadingLine(n_done, n_total, 1e-6 * static_cast<double>(clock.NowUs() - begin_us)));
    return !Interrupted();
  };
  Result<std::unique_ptr<Engine>> engine = Engine::Open(path, engine_options, context.console, progress);
  context.console.EndProgress();
  if (!engine.ok()) return engine;
  WarnOfIdleFlags(context, **engine);
  if (StartsWarm(context, **engine)) PANTRY_RETURN_IF_ERROR(WarmUpCaches(context, **engine));
  RunRecords::Attach(std::move(records), **engine);
  return engine;
}

std::string LoadingLine(int64_t n_done, int64_t n_total, double seconds, std::string_view what) {
  constexpr double kWorthAnEstimate = 2;  // seconds in all
  std::string line = fmt::format("{} {} / {}", what, FormatBytes(n_done), FormatBytes(n_total));
  if (n_done <= 0 || seconds <= 0) return line;
  const double bytes_per_s = static_cast<double>(n_done) / seconds;
  const double seconds_left = static_cast<double>(n_total - n_done) / bytes_per_s;
  if (seconds + seconds_left < kWorthAnEstimate) return line;
  return line + fmt::format(" · {}/s · {:.0f} s left", FormatBytes(static_cast<int64_t>(bytes_per_s)), seconds_left);
}

Result<SessionOptions> SessionOptionsOf(const CliOptions& options) {
  if (options.ctx_size < 0)
    return InvalidArgumentError("--ctx-size: expected 0 (the model's) or more, found {}", options.ctx_size);
  if (options.batch_size < 1)
    return InvalidArgumentError("--batch-size: expected 1 or more, found {}", options.batch_size);
  if (options.ubatch_size < 1)
    return InvalidArgumentError("--ubatch-size: expected 1 or more, found {}", options.ubatch_size);
  SessionOptions session;
  session.n_ctx = options.ctx_size;
  session.n_batch = std::min(options.batch_size, options.ubatch_size);
  session.k_type = options.cache_type_k;
  session.v_type = options.cache_type_v;
  PANTRY_RETURN_IF_ERROR(session.Validate());
  return session;
}

std::string ModeLine(Engine& engine, const Session* session, const RunForecast* forecast) {
  std::string line = fmt::format("mode: resident (model {} in memory)", FormatBytes(engine.model().weight_bytes()));
  if (const WeightStream* stream = engine.stream()) line = StreamedLine(engine, *stream);
  if (session != nullptr)
    line += fmt::format(" · context {} (KV {})", session->n_ctx(), FormatBytes(session->kv_bytes()));
  const int n_threads = engine.pool().n_threads();
  line += fmt::format(" · {} thread{} · {}", n_threads, n_threads == 1 ? "" : "s", IsaName(engine.model().isa()));
  line += SparsityMode(engine) + PredictorMode(engine) + NeuronPolicyMode(engine);
  if (engine.router() != nullptr) line += " · experts by " + ExpertPolicyText(engine.router()->chooser().policy());
  if (forecast != nullptr && forecast->is_streamed) {
    const int64_t position = session != nullptr ? TypicalPosition(session->n_ctx()) : kTypicalPosition;
    line += fmt::format(" · expect {} tok/s{}", SpeedRange(forecast->Token(position)), ForecastNote(engine));
  }
  return line;
}

std::string_view ForecastNote(const Engine& engine) { return engine.depends_on_cache() ? " if exact" : ""; }

std::string MemoryFigure(const MemoryPlan* plan) {
  const int64_t now = ResidentSetBytes();
  const int64_t peak = PeakResidentSetBytes();
  const int64_t available = AvailableMemoryBytes();
  if (peak < 0) return "RSS unknown";
  if (plan != nullptr) {
    return fmt::format("RSS {:.1f}/{:.1f} GB", static_cast<double>(peak) * 1e-9,
                       static_cast<double>(plan->budget_bytes) * 1e-9);
  }
  if (now < 0 || available < 0) return fmt::format("RSS {:.1f} GB", static_cast<double>(peak) * 1e-9);
  return fmt::format("RSS {:.1f}/{:.1f} GB", static_cast<double>(peak) * 1e-9,
                     static_cast<double>(now + available) * 1e-9);
}

}  // namespace pantry
