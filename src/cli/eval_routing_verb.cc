// SPDX-License-Identifier: Apache-2.0
// `pantry eval routing`: what choosing experts by what is in memory saves and costs.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/parse_number.h"
#include "cli/eval_verbs.h"
#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "cli/open_engine.h"
#include "cli/report_file.h"
#include "eval/routing/routing_report.h"
#include "eval/routing/routing_sweep.h"
#include "sim/routing_file.h"

namespace pantry {
namespace {

// Without --chunks. Everything that is tried goes over every window: with all defaults some hundred times.
constexpr int64_t kDefaultWindows = 20;

Result<std::vector<double>> SharesOf(std::string_view list) {
  std::vector<double> shares;
  for (bool is_last = false; !is_last;) {
    const size_t comma = list.find(',');
    is_last = comma == std::string_view::npos;
    const std::string_view text = list.substr(0, comma);
    const auto share = ParseNumber<double>(text);
    if (!share) return InvalidArgumentError("--cache-shares: expected shares such as 0.25,0.5, found '{}'", text);
    shares.push_back(*share);
    if (!is_last) list.remove_prefix(comma + 1);
  }
  return shares;
}

Result<RoutingSweepOptions> SweepOptionsOf(VerbContext& context) {
  const CliOptions& options = context.options();
  for (const std::string_view flag : {"--expert-policy", "--expert-policy-prompts", "--neuron-policy"}) {
    if (context.invocation.SourceOf(flag) == ValueSource::kFlag) {
      return InvalidArgumentError("{} has no effect on 'pantry eval routing'. Say what to try with --policies", flag);
    }
  }
  // Nor do their twins in the environment, which are meant for other commands: tokens are computed in batches here.
  context.invocation.options.expert_policy = CliOptions().expert_policy;
  context.invocation.options.expert_policy_prompts = CliOptions().expert_policy_prompts;
  context.invocation.options.neuron_policy = CliOptions().neuron_policy;
  RoutingSweepOptions sweep;
  PANTRY_ASSIGN_OR_RETURN(sweep.windows, WindowOptionsOf(context, ""));  // only a policy looks at the model
  if (!context.invocation.Given("--chunks")) sweep.windows.max_chunks = kDefaultWindows;
  PANTRY_ASSIGN_OR_RETURN(sweep.cache_shares, SharesOf(options.routing_cache_shares));
  sweep.variants = options.routing_policies;
  sweep.top_j = options.expert_policy_top;
  sweep.n_spared_layers = options.expert_policy_skip;
  PANTRY_RETURN_IF_ERROR(sweep.Validate());
  return sweep;
}

// "3 min 20 s left", from the speed so far.
class TimeLeft {
 public:
  std::string Text(int64_t n_done, int64_t n_total) const {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin_;
    if (n_done <= 0 || passed.count() < 2) return "";
    const auto left =
        static_cast<int64_t>(passed.count() * static_cast<double>(n_total - n_done) / static_cast<double>(n_done));
    return left < 60 ? fmt::format(" · {} s left", left) : fmt::format(" · {} min {} s left", left / 60, left % 60);
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

Result<RoutingSweep> Measure(VerbContext& context, const RoutingSweepOptions& options, RoutingReportHead& head) {
  PANTRY_ASSIGN_OR_RETURN(const std::string path, ModelOf(context.invocation));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(context.invocation));
  const std::string& file = context.options().file;
  if (file.empty()) return InvalidArgumentError("no text given. Try: -f TEXT (-f - for standard input)");
  PANTRY_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(file));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(context, path, options.windows.session()));
  context.console.Note(ModeLine(*engine, nullptr));
  head.model = path.substr(path.rfind('/') + 1);
  head.text = file.substr(file.rfind('/') + 1);
  const TimeLeft time_left;
  const auto keep_going = [&](const SweepProgress& progress) {
    context.console.Progress(
        fmt::format("window {}/{} · {:.1f} %{}", progress.window + 1, progress.n_windows,
                    100.0 * static_cast<double>(progress.n_done) / static_cast<double>(progress.n_total),
                    time_left.Text(progress.n_done, progress.n_total)));
    return !Interrupted();
  };
  Result<RoutingSweep> sweep = MeasureRouting(*engine, text, options, keep_going);
  context.console.EndProgress();
  return sweep;
}

// Flags for a model, which a recording does without.
Status RejectFlagsOfModels(const Invocation& invocation) {
  constexpr std::array<std::string_view, 4> kGroups = {"Model", "Prompt", "Computing", "Memory"};
  constexpr std::array<std::string_view, 2> kRead = {"--expert-policy-top", "--expert-policy-skip"};
  Status status;
  ForEachField(invocation.options, [&](const Flag& flag, const auto&) {
    const std::string_view name = FlagName(flag);
    const bool is_of_models = std::ranges::find(kGroups, flag.group) != kGroups.end() || name == "--chunks";
    const bool is_ours = (flag.verbs & kEval) != 0 && std::ranges::find(kRead, name) == kRead.end();
    if (!is_of_models || !is_ours || !status.ok() || invocation.SourceOf(name) != ValueSource::kFlag) return;
    status = InvalidArgumentError("{} has no effect beside --replay: a recording needs neither model nor text", name);
  });
  return status;
}

Result<RoutingSweep> Replay(VerbContext& context, const RoutingSweepOptions& options, RoutingReportHead& head) {
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(context.invocation));
  PANTRY_RETURN_IF_ERROR(RejectFlagsOfModels(context.invocation));
  const std::string& path = context.options().routing_replay;
  PANTRY_ASSIGN_OR_RETURN(const RecordedRouting recording, ReadRoutingTrace(path));
  head.model = recording.header.model;
  head.text = path.substr(path.rfind('/') + 1);
  return ReplayRouting(recording, options);
}

// None without a path.
Result<std::optional<ReportFile>> OpenReport(const std::string& path) {
  if (path.empty()) return std::optional<ReportFile>();
  PANTRY_ASSIGN_OR_RETURN(ReportFile file, ReportFile::Open(path));
  return std::optional<ReportFile>(std::move(file));
}

Status WriteReport(std::optional<ReportFile>& file, std::string_view text) {
  if (!file) return OkStatus();
  PANTRY_RETURN_IF_ERROR(file->Write(text));
  return file->Close();
}

std::string AsJson(const RoutingSweep& sweep) {
  using Json = nlohmann::ordered_json;
  const auto number = [](double x) { return std::isfinite(x) ? Json(x) : Json(); };
  Json json = {{"ctx_size", sweep.n_ctx},  {"windows", sweep.n_windows}, {"windows_planned", sweep.n_windows_planned},
               {"tokens", sweep.n_tokens}, {"seconds", sweep.seconds},   {"rows", Json::array()}};
  for (const RoutingRow& row : sweep.rows) {
    json["rows"].push_back({{"policy", row.policy},
                            {"value", row.value},
                            {"cache_share", row.cache_share},
                            {"cache_experts", row.capacity},
                            {"miss_rate", row.miss_rate},
                            {"lifetime_tokens", number(row.lifetime)},
                            {"ppl", number(row.ppl)},
                            {"ppl_stderr", number(row.ppl_stderr)},
                            {"ppl_cost", number(row.cost)},
                            {"ppl_cost_stderr", number(row.cost_stderr)},
                            {"agreement", row.agreement},
                            {"gate_mass", row.gate_mass},
                            {"excess_kl", number(row.excess_kl)}});
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

Status EvalRoutingVerb(VerbContext& context) {
  PANTRY_RETURN_IF_ERROR(
      RejectOtherFlags(context.invocation, "routing",
                       {"--file", "--chunks", "--policies", "--cache-shares", "--csv", "--html", "--replay"}));
  const CliOptions& options = context.options();
  PANTRY_ASSIGN_OR_RETURN(const RoutingSweepOptions sweep_options, SweepOptionsOf(context));
  // Paths that cannot be written are found before the work, not after.
  PANTRY_ASSIGN_OR_RETURN(std::optional<ReportFile> csv, OpenReport(options.routing_csv));
  PANTRY_ASSIGN_OR_RETURN(std::optional<ReportFile> html, OpenReport(options.routing_html));
  RoutingReportHead head = {.model = "", .text = "", .version = PANTRY_VERSION};
  PANTRY_ASSIGN_OR_RETURN(const RoutingSweep sweep, options.routing_replay.empty()
                                                        ? Measure(context, sweep_options, head)
                                                        : Replay(context, sweep_options, head));
  PANTRY_RETURN_IF_ERROR(WriteReport(csv, RoutingCsv(sweep, head)));
  PANTRY_RETURN_IF_ERROR(WriteReport(html, RoutingHtml(sweep, head)));
  context.console.Note(fmt::format("{} of {} windows of {} tokens · {:.1f} s", sweep.n_windows, sweep.n_windows_planned,
                                   sweep.n_ctx, sweep.seconds));
  PANTRY_RETURN_IF_ERROR(context.output.Write(options.json ? AsJson(sweep) : RoutingTable(sweep) + CostFitText(sweep)));
  return sweep.is_complete() ? OkStatus() : CancelledError("stopped; what was measured is written");
}

}  // namespace pantry
