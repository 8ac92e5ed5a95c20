// SPDX-License-Identifier: Apache-2.0
// `pantry plan`: how a model would run here, from its table of contents and the machine's measured rates; reads no weights.
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "cli/measure_machine.h"
#include "cli/model_path.h"
#include "cli/open_engine.h"
#include "cli/pack_beside.h"
#include "cli/plan_neurons.h"
#include "cli/plan_report.h"
#include "cli/verbs.h"
#include "engine/find_profile.h"
#include "engine/memory_budget.h"
#include "engine/neuron_forecast.h"
#include "io/disk_probe.h"
#include "sys/thread_pool.h"
#include "text/tokenizer.h"
#include "weights/gguf/gguf_cursor.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {
namespace {

constexpr size_t kNameChars = 100;

// What is free, or what --sim-memory says.
Result<FreeMemory> MemoryFor(const CliOptions& options) {
  FreeMemory memory = FreeMemory::Now();
  if (options.sim_memory.empty()) return memory;
  Result<int64_t> bytes = ParseBytes(options.sim_memory);
  if (!bytes.ok() || *bytes <= 0) {
    return InvalidArgumentError("--sim-memory: expected a size such as 8G, found '{}'", options.sim_memory);
  }
  memory.available_bytes = *bytes;
  return memory;
}

Result<std::vector<int64_t>> PromptsOf(const CliOptions& options) {
  for (const int64_t n : options.plan_prompts.values) {
    if (n < 1 || n > INT32_MAX) return InvalidArgumentError("--n-prompt: expected 1 or more, found {}", n);
  }
  return options.plan_prompts.values;
}

int32_t ThreadsOf(const CliOptions& options) {
  return options.threads > 0 ? options.threads : ThreadPool::DefaultThreadCount();
}

// `fits`: what is always in memory of a run by neuron.
std::string_view WhyNoLeastMemory(const PlanReport& plan, bool fits, bool is_pack) {
  if (plan.neurons) return "the machine's speeds are not known. Run: pantry doctor MODEL";
  if (!fits) return "by neuron the model does not fit";
  if (!plan.shape.gates_by_relu()) return "the model's neurons do not rest";
  return is_pack ? "the pack does not hold its neurons one by one" : "its neurons would not lie one by one in a pack";
}

// What runs by neuron should do, where neurons rest.
Status AddNeurons(const Invocation& invocation, const GgufFile& file, const EngineOptions& engine,
                  const FreeMemory& memory, const Result<HardwareProfile>& machine, PlanReport& plan) {
  const CliOptions& options = invocation.options;
  if (options.min_speed < 0) {
    return InvalidArgumentError("--min-speed: expected 0 (any) or more tokens a second, found {}", options.min_speed);
  }
  NeuronPlanOptions neurons;
  neurons.engine = engine;
  neurons.profile = options.profile;
  neurons.least_tok_per_s = static_cast<double>(options.min_speed);
  neurons.memory = memory;
  neurons.machine = machine.ok() ? &*machine : nullptr;
  neurons.n_threads = ThreadsOf(options);
  Result<std::optional<NeuronPlanReport>> report = PlanByNeuron(file, plan.shape, neurons);
  const bool fits = report.status().code() != StatusCode::kOutOfBudget;
  if (report.ok()) plan.neurons = *std::move(report);
  else if (fits) return report.status();
  else plan.notes.push_back(fmt::format("a pack, which runs by neuron, would not fit: {}", report.status().message()));
  if (plan.neurons && plan.has_neurons()) plan.hits = plan.neurons->firing->Hits(plan.neurons->held_share(), 0);
  if (options.min_speed > 0 && !(plan.neurons && plan.neurons->has_speeds)) {
    plan.notes.push_back(
        fmt::format("--min-speed: no effect here because {}", WhyNoLeastMemory(plan, fits, file.pack() != nullptr)));
  }
  const bool has_single_neurons = plan.neurons || plan.needs->blocks.neurons() != nullptr;
  if (!has_single_neurons && invocation.SourceOf("--profile") == ValueSource::kFlag) {
    plan.notes.emplace_back("--profile: no effect here because the plan is of no single neurons");
  }
  return OkStatus();
}

// A prompt of whole experts, of layers, or of neurons of dense layers.
PromptPlan PromptOf(const PlanReport& plan, const HardwareProfile& machine, int32_t n_threads,
                    const SessionOptions& session, int64_t n_tokens) {
  if (plan.has_neurons() && plan.neurons) {
    const RunForecast forecast = NeuronForecast(plan.neurons->work, *plan.neurons->firing, plan.memory, machine,
                                                n_threads, session, n_tokens, !plan.neurons->profile.empty());
    return {n_tokens, forecast.Prompt(n_tokens), forecast.Token(n_tokens)};
  }
  const RunForecast forecast = Forecast(WorkOf(plan.shape, plan.needs->cost, plan.needs->blocks, session), plan.memory,
                                        machine, n_threads, session);
  const bool some_rest = !plan.memory.is_streamed && plan.neurons;  // what fires is all that a token computes
  const SpeedEstimate token =
      some_rest ? EstimateToken(forecast.rates, plan.neurons->resident_work(), n_tokens, {}) : forecast.Token(n_tokens);
  return {n_tokens, forecast.Prompt(n_tokens), token};
}

// Speeds, as far as the machine is known; what is missing becomes a note.
void AddSpeeds(VerbContext& context, const GgufFile& file, const SessionOptions& session,
               std::span<const int64_t> prompts, const Result<HardwareProfile>& machine, PlanReport& plan) {
  if (!machine.ok()) {
    plan.notes.push_back(fmt::format("no speed to expect: {}", machine.status().message()));
    return;
  }
  if (machine->disk) {
    const auto stays =
        static_cast<double>(plan.memory.dense_bytes + (plan.memory.is_streamed ? 0 : plan.memory.block_bytes));
    if (machine->disk->sequential_bytes_per_s > 0) plan.load_s = stays / machine->disk->sequential_bytes_per_s;
    const MountedOn mount = FindMount(file.path());
    if (!mount.device.empty() && !machine->disk->device.empty() && mount.device != machine->disk->device) {
      plan.notes.push_back(
          fmt::format("the disk that was measured is {}, the model lies on {}. Run: pantry doctor MODEL",
                      machine->disk->device, mount.device));
    }
  } else if (plan.memory.is_streamed) {
    plan.notes.emplace_back("no speed to expect: the disk was not measured yet. Run: pantry doctor MODEL");
    return;
  }
  const int32_t n_threads = ThreadsOf(context.options());
  std::optional<NeuronProfile> experts;
  if (plan.has_experts() && plan.needs->blocks.neurons() != nullptr) {
    Result<NeuronProfile> profile = ReadProfileOf(file, plan.shape, ProfilePath(context.options().profile, file));
    if (!profile.ok()) {
      plan.notes.push_back(
          fmt::format("no speed to expect: nobody knows how many of the experts' neurons will fire: {}",
                      profile.status().message()));
      return;
    }
    experts = *std::move(profile);
  }
  const auto of_experts = [&](int64_t position) {
    return ForecastExperts(plan.shape, *plan.needs, *experts, plan.memory, *machine, n_threads, session, position);
  };
  if (experts) {
    const ExpertNeuronForecast typical = of_experts(TypicalPosition(plan.memory.n_ctx));
    plan.hits = typical.gates.hits;
    plan.neuron_hits = typical.neurons.hits;
  }
  for (const int64_t n_tokens : prompts) {
    if (n_tokens >= plan.memory.n_ctx) {
      plan.notes.push_back(
          fmt::format("a prompt of {} tokens does not fit in a context of {}", n_tokens, plan.memory.n_ctx));
      continue;
    }
    if (experts) {
      const ExpertNeuronForecast forecast = of_experts(n_tokens);
      plan.prompts.push_back({n_tokens, forecast.Prompt(n_tokens, session.n_batch), forecast.Token(n_tokens)});
      continue;
    }
    plan.prompts.push_back(PromptOf(plan, *machine, n_threads, session, n_tokens));
  }
}

}  // namespace

Status PlanVerb(VerbContext& context) {
  Invocation& invocation = context.invocation;
  PANTRY_ASSIGN_OR_RETURN(const std::string model, ModelOf(invocation));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(invocation));
  const CliOptions& options = invocation.options;
  PANTRY_ASSIGN_OR_RETURN(const std::vector<int64_t> prompts, PromptsOf(options));
  PANTRY_ASSIGN_OR_RETURN(const SessionOptions session, SessionOptionsOf(options));
  PANTRY_ASSIGN_OR_RETURN(FreeMemory memory, MemoryFor(options));
  PANTRY_ASSIGN_OR_RETURN(const EngineOptions engine, EngineOptionsOf(options, session, memory.available_bytes));
  PANTRY_RETURN_IF_ERROR(engine.Validate());
  const Result<HardwareProfile> machine = KnownOrMeasuredMachine(context, model);
  if (machine.status().code() == StatusCode::kCancelled) return machine.status();
  const std::string path = FileToRun(context, model, engine, memory);

  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<GgufFile> file, GgufFile::Open(path));
  PlanReport plan;
  Result<ModelShape> shape = ParseModelShape(file->metadata());
  if (!shape.ok()) return shape.status().WithContext(path);
  plan.shape = *std::move(shape);
  Result<ModelNeeds> needs = NeedsOf(*file, engine.isa.value_or(BestIsa()));
  if (!needs.ok()) return needs.status();
  // A run has its tokenizer in memory when it divides the rest.
  const Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::FromMetadata(file->metadata(), context.console);
  if (!tokenizer.ok()) plan.notes.push_back(fmt::format("it cannot run: {}", tokenizer.status().message()));
  memory.resident_bytes = FreeMemory::Now().resident_bytes;

  Result<MemoryPlan> divided = PlanRun(*needs, plan.shape, engine, memory);
  if (!divided.ok()) return divided.status().WithContext(path);
  plan.memory = *std::move(divided);
  plan.needs = &*needs;
  plan.model = Printable(plan.shape.name.empty() ? std::filesystem::path(path).filename().string() : plan.shape.name,
                         kNameChars);
  plan.hits = HitsOf(plan.memory, plan.has_experts());
  PANTRY_RETURN_IF_ERROR(AddNeurons(invocation, *file, engine, memory, machine, plan));
  AddSpeeds(context, *file, session, prompts, machine, plan);
  return context.output.Write(options.json ? PlanJson(plan) : PlanText(plan));
}

}  // namespace pantry
