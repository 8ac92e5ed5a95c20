// SPDX-License-Identifier: Apache-2.0
// `pantry sim`: how a model would run on a machine, this one or another, by running the real cache and pipeline on a virtual clock.
#include <algorithm>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/units.h"
#include "cli/measure_machine.h"
#include "cli/model_path.h"
#include "cli/open_engine.h"
#include "cli/report_file.h"
#include "cli/run_trace.h"
#include "cli/sim_input.h"
#include "cli/sim_report.h"
#include "cli/verbs.h"
#include "sim/neuron_ablation.h"
#include "sim/neuron_sensitivity.h"
#include "text/tokenizer.h"

namespace pantry {
namespace {

constexpr std::string_view kBelady = "belady";  // the cache policy that knows the future

Result<int64_t> SizeOf(std::string_view flag, const std::string& text) {
  Result<int64_t> bytes = ParseBytes(text);
  if (bytes.ok() && *bytes > 0) return bytes;
  return InvalidArgumentError("{}: expected a size such as 8G, found '{}'", flag, text);
}

Status RejectFlags(const Invocation& invocation, std::initializer_list<std::string_view> flags, std::string_view what) {
  for (const std::string_view flag : flags) {
    if (invocation.SourceOf(flag) != ValueSource::kFlag) continue;
    return InvalidArgumentError("{} has no effect on {}. See: pantry help sim", flag, what);
  }
  return OkStatus();
}

// This host as `pantry doctor` measured it, or a file's.
Result<DeviceProfile> DeviceFor(VerbContext& context, const std::string& name) {
  if (name != "host") {
    PANTRY_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(name));
    return DeviceProfileFromJson(text, name);
  }
  Invocation invocation = context.invocation;
  const std::string& shape = invocation.words.empty() ? invocation.options.model : invocation.words.front();
  const Result<std::string> model = FindShape(shape).ok() ? Result<std::string>("") : ModelOf(invocation);
  PANTRY_ASSIGN_OR_RETURN(const HardwareProfile machine, KnownOrMeasuredMachine(context, model.ok() ? *model : ""));
  return DeviceOf(machine);
}

struct ModelFile {
  std::unique_ptr<GgufFile> file;
  EngineOptions engine;
  FreeMemory memory;
};

Result<ModelFile> ModelFileFor(VerbContext& context, const std::string& path) {
  Invocation& invocation = context.invocation;
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(invocation));
  ModelFile model;
  model.memory = FreeMemory::Now();
  auto options = invocation.options;
  if (options.cache_policy == kBelady) options.cache_policy.clear();  // no engine has it
  PANTRY_ASSIGN_OR_RETURN(const SessionOptions session, SessionOptionsOf(options));
  PANTRY_ASSIGN_OR_RETURN(model.engine, EngineOptionsOf(options, session, model.memory.available_bytes));
  PANTRY_RETURN_IF_ERROR(model.engine.Validate());
  PANTRY_ASSIGN_OR_RETURN(model.file, GgufFile::Open(path));
  return model;
}

Result<SimInput> InputFor(VerbContext& context) {
  Invocation& invocation = context.invocation;
  const CliOptions& options = invocation.options;
  const Result<SimShape> shape =
      FindShape(invocation.words.empty() || !options.model.empty() ? options.model : invocation.words.front());
  if (shape.ok()) {
    PANTRY_RETURN_IF_ERROR(
        RejectFlags(invocation, {"--stream"}, "a shape: --memory alone says whether it is streamed"));
    if (options.model.empty()) invocation.words.erase(invocation.words.begin());
    PANTRY_RETURN_IF_ERROR(RejectExtraWords(invocation));
    int64_t budget_bytes = 0;
    if (options.memory != "auto") {
      PANTRY_ASSIGN_OR_RETURN(budget_bytes, SizeOf("--memory", options.memory));
    }
    return SimInputOf(*shape, budget_bytes, options.ctx_size > 0 ? options.ctx_size : 512);
  }
  const Result<std::string> path = ModelOf(invocation);
  if (!path.ok()) {
    return Status(path.status().code(),
                  fmt::format("{}. Shapes: {}", path.status().message(), shape.status().message()));
  }
  PANTRY_ASSIGN_OR_RETURN(ModelFile model, ModelFileFor(context, *path));
  // A run has its tokenizer in memory when it divides the rest.
  const Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::FromMetadata(model.file->metadata(), context.console);
  model.memory.resident_bytes = FreeMemory::Now().resident_bytes;
  return SimInputOf(*model.file, model.engine, model.memory);
}

Status WriteHostProfile(VerbContext& context, DeviceProfile device) {
  PANTRY_ASSIGN_OR_RETURN(ReportFile out, ReportFile::Open(context.options().sim_measure_host));
  PANTRY_ASSIGN_OR_RETURN(const std::string path, ModelOf(context.invocation));
  PANTRY_ASSIGN_OR_RETURN(const ModelFile model, ModelFileFor(context, path));
  PANTRY_RETURN_IF_ERROR(MeasureHost(*model.file, model.engine, device));
  PANTRY_RETURN_IF_ERROR(out.Write(ToJson(device)));
  return out.Close();
}

Result<SimOptions> SimOptionsFor(const CliOptions& options, const SimInput& input, const DeviceProfile& device,
                                 int64_t n_tokens, Console& console) {
  SimOptions sim;
  sim.cache_bytes = input.memory.is_streamed ? input.memory.cache_bytes : 0;
  if (sim.cache_bytes > 0 && options.sim_cache.empty()) {  // a cache whose size was asked for keeps it
    sim.idle_bytes = input.idle_bytes;
    sim.most_idle_bytes = input.memory.kv_bytes + input.memory.scratch_bytes;
  }
  if (!options.sim_cache.empty()) {
    PANTRY_ASSIGN_OR_RETURN(sim.cache_bytes, SizeOf("--cache", options.sim_cache));
  }
  sim.knows_future = options.cache_policy == kBelady;
  if (!options.cache_policy.empty() && !sim.knows_future) {
    PANTRY_ASSIGN_OR_RETURN(sim.policy, ParsePolicy(options.cache_policy));
  }
  PANTRY_ASSIGN_OR_RETURN(sim.expert_policy, ExpertPolicyOf(options));
  if (!sim.expert_policy.is_exact() && sim.cache_bytes == 0) {
    console.Warning("--expert-policy {}: no effect here because all experts are in memory",
                    ExpertPolicyText(sim.expert_policy.policy));
    sim.expert_policy.policy = {};
  }
  if (options.threads < -1 || options.threads > 1024) {
    return InvalidArgumentError("--threads: expected -1 (the device's cores) or 1 to 1024, found {}", options.threads);
  }
  sim.n_cores = std::min(std::max(options.threads, 0), device.n_cores);
  if (options.threads > device.n_cores) {
    console.Warning("--threads: '{}' has {} core{}, not {}", device.name, device.n_cores,
                    device.n_cores == 1 ? "" : "s", options.threads);
  }
  if (n_tokens > 0) sim.n_tokens = n_tokens;
  sim.skip_steps = options.sim_skip;
  sim.guess_recall = static_cast<double>(options.sim_recall);
  if (input.coalesce_bytes > 0) sim.reads.coalesce_bytes = static_cast<size_t>(input.coalesce_bytes);
  PANTRY_RETURN_IF_ERROR(sim.Validate());
  return sim;
}

// One constant after the other; each takes as long as the ablation.
Status Sensitivity(VerbContext& context, const DeviceProfile& device, std::span<const AblationStep> steps) {
  PANTRY_RETURN_IF_ERROR(context.output.Write(SensitivityHeader(steps)));
  for (const std::string_view constant : SensitiveConstants()) {
    for (const double factor : {0.7, 1.3}) {
      PANTRY_ASSIGN_OR_RETURN(const NeuronSensitivity row, VaryConstant(constant, factor, device, {}, steps));
      PANTRY_RETURN_IF_ERROR(context.output.Write(SensitivityText(row, factor)));
    }
  }
  return OkStatus();
}

Status Ablation(VerbContext& context, const DeviceProfile& device) {
  const CliOptions& options = context.options();
  const bool varies = options.sim_ablation == "powerinfer2-sensitivity";
  if (options.sim_ablation != "powerinfer2" && !varies) {
    return InvalidArgumentError("--ablation: expected powerinfer2 or powerinfer2-sensitivity, found '{}'",
                                options.sim_ablation);
  }
  PANTRY_RETURN_IF_ERROR(
      RejectFlags(context.invocation,
                  {"--model", "--ctx-size", "--threads", "--memory", "--stream", "--cache", "--cache-policy",
                   "--expert-policy", "--expert-policy-top", "--expert-policy-skip", "--expert-policy-prompts",
                   "--trace", "--trace-out", "--skip", "--guess-recall"},
                  "--ablation"));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(context.invocation));
  if (varies) PANTRY_RETURN_IF_ERROR(RejectFlags(context.invocation, {"--json"}, "a table of sensitivities"));
  PANTRY_ASSIGN_OR_RETURN(const std::vector<AblationStep> steps, NeuronAblation(device, {}));
  if (varies) return Sensitivity(context, device, steps);
  return context.output.Write(options.json ? AblationJson(steps) : AblationText(steps));
}

}  // namespace

Status SimVerb(VerbContext& context) {
  const CliOptions& options = context.options();
  PANTRY_ASSIGN_OR_RETURN(const DeviceProfile device, DeviceFor(context, options.sim_device));
  if (!options.sim_ablation.empty()) return Ablation(context, device);
  if (!options.sim_measure_host.empty()) return WriteHostProfile(context, device);
  PANTRY_ASSIGN_OR_RETURN(const SimInput input, InputFor(context));
  if (input.model.is_rotation()) {
    PANTRY_RETURN_IF_ERROR(RejectFlags(context.invocation,
                                       {"--cache-policy", "--guess-recall", "--expert-policy", "--expert-policy-top",
                                        "--expert-policy-skip", "--expert-policy-prompts"},
                                       "a dense model"));
  }
  PANTRY_ASSIGN_OR_RETURN(const SimTrace trace, SimTraceOf(options.sim_trace, input, options.expert_policy != "exact"));
  PANTRY_ASSIGN_OR_RETURN(const SimOptions sim, SimOptionsFor(options, input, device, trace.n_tokens, context.console));

  std::unique_ptr<RunTrace> chart;
  SimObservers observers;
  if (!options.sim_trace_out.empty()) {
    PANTRY_ASSIGN_OR_RETURN(auto file, TraceFile::Open(options.sim_trace_out, 0, context.console));
    chart = std::make_unique<RunTrace>(std::move(file), input.model.name,
                                       sim.cache_bytes > 0 ? input.layers : std::vector<StreamedLayer>());
    observers.stream = sim.cache_bytes > 0 ? chart.get() : nullptr;
    observers.run = [&chart](const SimRun& run, int64_t end_us) {
      chart->Run({run.first_position, run.n_tokens, static_cast<int64_t>(run.us)}, end_us);
    };
  }
  PANTRY_ASSIGN_OR_RETURN(const SimReport report, Simulate(input.model, trace.trace, device, sim, observers));
  const SimRunReport run = {input.model, device, sim, input.memory, report};
  return context.output.Write(options.json ? SimJson(run) : SimText(run));
}

}  // namespace pantry
