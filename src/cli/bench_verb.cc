// SPDX-License-Identifier: Apache-2.0
// `pantry bench`: how fast a model reads and writes here, and how near that is to what the machine can do.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cli/bench_report.h"
#include "cli/flag_value.h"
#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "cli/open_engine.h"
#include "cli/verbs.h"
#include "sys/hardware_probe.h"
#include "sys/memory_info.h"
#include "weights/gguf/gguf_cursor.h"

namespace pantry {
namespace {

Result<std::pair<int64_t, int64_t>> ParsePair(const std::string& text) {
  const size_t comma = text.find(',');
  std::pair<int64_t, int64_t> pair;
  const bool ok = comma != std::string::npos && SetField(pair.first, text.substr(0, comma)).ok() &&
                  SetField(pair.second, text.substr(comma + 1)).ok();
  if (!ok) return InvalidArgumentError("-pg: expected two numbers such as 512,128, found '{}'", text);
  return pair;
}

Result<SpeedLists> ListsOf(const CliOptions& options) {
  SpeedLists lists;
  lists.n_prompt = options.n_prompt.values;
  lists.n_gen = options.n_gen.values;
  for (const std::string& text : options.prompt_gen) {
    PANTRY_ASSIGN_OR_RETURN(lists.prompt_then_gen.emplace_back(), ParsePair(text));
  }
  // -pg alone means that test alone.
  if (!options.prompt_gen.empty() && options.n_prompt.is_default && options.n_gen.is_default) {
    lists.n_prompt.clear();
    lists.n_gen.clear();
  }
  lists.n_depth = options.n_depth.values;
  lists.n_threads = options.thread_counts.values;
  if (lists.n_threads.empty()) lists.n_threads = {ThreadPool::DefaultThreadCount()};
  lists.n_batch = options.batch_sizes.values;
  lists.n_sequences = options.n_sequences.values;
  lists.best_of = options.best_of.values;
  const bool generates =
      !lists.prompt_then_gen.empty() || std::ranges::any_of(lists.n_gen, [](int64_t n) { return n > 0; });
  for (const auto& [flag, is_default] :
       {std::pair("-np", options.n_sequences.is_default), {"--best-of", options.best_of.is_default}}) {
    if (is_default || generates) continue;
    return InvalidArgumentError("{} has no effect: nothing is generated. Give -n or -pg", flag);
  }
  if (!options.best_of.is_default && options.n_sequences.is_default) lists.n_sequences.clear();  // that test alone
  if (!options.ubatch_sizes.is_default) {
    const std::vector<int64_t> outer = options.batch_sizes.is_default ? options.ubatch_sizes.values : lists.n_batch;
    lists.n_batch.clear();
    for (const int64_t n_batch : outer) {
      for (const int64_t n_ubatch : options.ubatch_sizes.values) lists.n_batch.push_back(std::min(n_batch, n_ubatch));
    }
  }
  return lists;
}

Result<SpeedOptions> SpeedOptionsOf(const CliOptions& options) {
  SpeedOptions speed;
  speed.repetitions = options.repetitions;
  speed.warm_up = options.warmup;
  speed.k_type = options.cache_type_k;
  speed.v_type = options.cache_type_v;
  if (options.tokens != "sampled" && options.tokens != "random") {
    return InvalidArgumentError("--tokens: expected sampled or random, found '{}'", options.tokens);
  }
  speed.tokens = options.tokens == "random" ? SpeedTokens::kRandom : SpeedTokens::kSampled;
  PANTRY_RETURN_IF_ERROR(speed.Validate());
  return speed;
}

Result<BenchFormat> FormatOf(const Invocation& invocation) {
  const CliOptions& options = invocation.options;
  if (options.json && invocation.Given("--output") && options.output != "json") {
    return InvalidArgumentError("--json and --output {} contradict each other", options.output);
  }
  Result<BenchFormat> format = ParseBenchFormat(options.json ? "json" : options.output);
  return format.ok() ? format : InvalidArgumentError("--output: {}", format.status().message());
}

BenchModel Describe(Engine& engine) {
  const GgufFile& file = engine.file();
  BenchModel model;
  model.file = std::filesystem::path(file.path()).filename();
  model.name = Printable(engine.shape().name.empty() ? model.file : engine.shape().name, 100);
  model.architecture = engine.shape().architecture;
  model.weight_bytes = engine.model().weight_bytes();
  model.cost = engine.model().cost();
  std::map<std::string, int64_t> bytes_of_type;
  for (const TensorInfo& tensor : file.tensors()) {
    const auto n_bytes = static_cast<int64_t>(tensor.n_bytes);
    model.n_params += tensor.n_elements();
    model.n_bytes += n_bytes;
    bytes_of_type[std::string(TensorTypeName(tensor.type))] += n_bytes;
  }
  int64_t most = 0;
  for (const auto& [type, n_bytes] : bytes_of_type) {
    if (n_bytes > most) model.type = type;
    most = std::max(most, n_bytes);
  }
  if (const RestingNeurons* const resting = engine.resting()) {
    model.type += fmt::format(" {:.4g}% rest", 100 * resting->sparsity());
  }
  if (const PredictedNeurons* const predicted = engine.predicted()) {
    model.type += fmt::format(" {:.4g}% recall", 100 * predicted->wanted_recall());
  }
  return model;
}

std::string ProgressLine(const SpeedProgress& progress) {
  const std::string test =
      fmt::format("test {}/{} {}", progress.test_index + 1, progress.n_tests, SpeedTestName(progress.test));
  switch (progress.stage) {
    case SpeedProgress::Stage::kFilling:
      return fmt::format("{}: filling the context {}/{}", test, progress.n_done, progress.n_total);
    case SpeedProgress::Stage::kWarmUp: return test + ": warm-up";
    default: return fmt::format("{}: repetition {}/{}", test, progress.n_done + 1, progress.n_total);
  }
}

void WarnOfLongContexts(VerbContext& context, const Engine& engine, std::span<const SpeedTest> tests) {
  int64_t most = 0;
  for (const SpeedTest& test : tests) most = std::max(most, test.n_positions());
  const int64_t n_trained = engine.shape().n_ctx_train;
  if (n_trained <= 0 || most <= n_trained) return;
  context.console.Warning(
      "--n-depth, --n-prompt and --n-gen come to {} positions, the model was trained on {}: the speed is measured all "
      "the same, but answers would be worse there",
      most, n_trained);
}

// What is lossy acts on single tokens (Session::FeedTogether).
void WarnOfExactSteps(VerbContext& context, Engine& engine, std::span<const SpeedTest> tests) {
  if (std::ranges::none_of(tests, [](const SpeedTest& test) { return test.n_sequences > 1; })) return;
  const auto warn = [&](const char* flag, const char* remedy) {
    context.console.Warning("{}: no effect on steps of more than one sequence, which are exact{}", flag, remedy);
  };
  if (engine.router() != nullptr && !context.invocation.options.expert_policy_prompts) {
    warn("--expert-policy", "; with --expert-policy-prompts it has");
  }
  if (engine.neuron_prior() != nullptr) warn("--neuron-policy", "");
  if (engine.predicted() != nullptr) warn("--predictor", "");
}

// What `pantry doctor` keeps, while it is true of this machine; else a quick measurement, which is not kept.
Result<HardwareProfile> MachineFor(VerbContext& context) {
  HardwareProfile now = DescribeMachine();
  const std::string path = HardwareProfileFile(context.invocation.environment);
  Result<HardwareProfile> stored = path.empty() ? NotFoundError("no home") : LoadHardwareProfile(path);
  const std::string stale = stored.ok() ? WhyStale(*stored, now) : "";
  if (stored.ok() && stale.empty()) return stored;
  if (!stale.empty()) context.console.Note("the stored measurement of this machine is not used: " + stale);
  ProbeOptions probe;
  probe.seconds = 0.2;
  probe.max_seconds = 1.5;
  const auto progress = [&](std::string_view what) {
    context.console.Progress(fmt::format("measuring the machine: {}", what));
    return !Interrupted();
  };
  const Status measured = MeasureCpu(probe, progress, now);
  context.console.EndProgress();
  // What was read is no part of the model's peak: 5 resets the kernel's high-water mark (proc(5)); where that is refused it stays.
  std::ofstream("/proc/self/clear_refs") << "5";
  if (measured.code() == StatusCode::kCancelled) return measured;
  if (!measured.ok()) context.console.Warning("no shares of this machine's limits: {}", measured.message());
  else context.console.Note("the machine's limits were measured in a hurry; `pantry doctor` measures and keeps them");
  return now;
}

// What the largest test will ask of the engine.
SessionOptions BenchSession(std::span<const SpeedTest> tests, const SpeedOptions& speed) {
  SessionOptions session;
  session.n_batch = 1;
  for (const SpeedTest& test : tests) {
    session.n_ctx = std::max(session.n_ctx, test.n_positions());
    session.n_batch = std::max(session.n_batch, test.n_batch);
    session.n_sessions = std::max(session.n_sessions, test.n_sequences);
  }
  session.k_type = speed.k_type;
  session.v_type = speed.v_type;
  return session;
}

}  // namespace

Status BenchVerb(VerbContext& context) {
  Invocation& invocation = context.invocation;
  PANTRY_ASSIGN_OR_RETURN(const std::string path, ModelOf(invocation));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(invocation));
  CliOptions& options = invocation.options;
  PANTRY_ASSIGN_OR_RETURN(const BenchFormat format, FormatOf(invocation));
  PANTRY_ASSIGN_OR_RETURN(const SpeedOptions speed, SpeedOptionsOf(options));
  PANTRY_ASSIGN_OR_RETURN(const SpeedLists lists, ListsOf(options));
  PANTRY_ASSIGN_OR_RETURN(const std::vector<SpeedTest> tests, CombineTests(lists));
  options.threads = tests.front().n_threads;
  PANTRY_ASSIGN_OR_RETURN(HardwareProfile machine, MachineFor(context));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(context, path, BenchSession(tests, speed)));
  WarnOfLongContexts(context, *engine, tests);
  WarnOfExactSteps(context, *engine, tests);
  context.console.Note(ModeLine(*engine, nullptr));

  BenchSetup setup;
  setup.version = PANTRY_VERSION;
  setup.model = Describe(*engine);
  setup.machine = std::move(machine);
  setup.isa = IsaName(engine->model().isa());
  setup.k_type = KvTypeName(options.cache_type_k);
  setup.v_type = KvTypeName(options.cache_type_v);
  setup.tokens = options.tokens;
  if (engine->router() != nullptr) setup.expert_policy = ExpertPolicyText(engine->router()->chooser().policy());
  if (engine->neuron_prior() != nullptr) setup.neuron_policy = NeuronPolicyText(engine->neuron_prior()->strength());
  for (const std::string& policy : {setup.expert_policy, setup.neuron_policy}) {
    if (!policy.empty()) setup.model.type += " " + policy;
  }
  BenchReport report(format, std::move(setup));
  PANTRY_RETURN_IF_ERROR(context.output.Write(report.Begin()));

  SpeedCallbacks callbacks;
  callbacks.on_result = [&](const SpeedResult& result) {
    context.console.EndProgress();
    return context.output.Write(report.Row(result, PeakResidentSetBytes()));
  };
  // The question comes with every token; the line is made only when it changes.
  std::string line;
  SpeedProgress::Stage stage{};
  int64_t index = -1;
  int64_t n_done = -1;
  callbacks.keep_going = [&](const SpeedProgress& progress) {
    if (progress.stage != stage || progress.test_index != index || progress.n_done != n_done) {
      stage = progress.stage;
      index = progress.test_index;
      n_done = progress.n_done;
      line = ProgressLine(progress);
    }
    context.console.Progress(line);
    return !Interrupted();
  };
  Status status = MeasureSpeed(*engine, tests, speed, callbacks);
  context.console.EndProgress();
  if (status.ok() || status.code() == StatusCode::kCancelled)
    PANTRY_RETURN_IF_ERROR(context.output.Write(report.End()));
  return status;
}

}  // namespace pantry
