// SPDX-License-Identifier: Apache-2.0
// `pantry plan`: how a model would run here, from its table of contents and the machine's measured rates; reads no weights.
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/units.h"
#include "cli/known_machine.h"
#include "cli/model_path.h"
#include "cli/open_engine.h"
#include "cli/plan_report.h"
#include "cli/verbs.h"
#include "engine/memory_budget.h"
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

// Speeds, as far as the machine is known; what is missing becomes a note.
void AddSpeeds(VerbContext& context, const std::string& path, const SessionOptions& session,
               std::span<const int64_t> prompts, PlanReport& plan) {
  if (plan.has_neurons()) {
    plan.notes.emplace_back("no speed to expect: it depends on how many neurons fire, which only a run shows");
    return;
  }
  const Result<HardwareProfile> machine = KnownMachine(context.invocation.environment);
  if (!machine.ok()) {
    plan.notes.push_back(fmt::format("no speed to expect: {}", machine.status().message()));
    return;
  }
  if (machine->disk) {
    const auto stays =
        static_cast<double>(plan.memory.dense_bytes + (plan.memory.is_streamed ? 0 : plan.memory.block_bytes));
    if (machine->disk->sequential_bytes_per_s > 0) plan.load_s = stays / machine->disk->sequential_bytes_per_s;
    const MountedOn mount = FindMount(path);
    if (!mount.device.empty() && !machine->disk->device.empty() && mount.device != machine->disk->device) {
      plan.notes.push_back(
          fmt::format("the disk that was measured is {}, the model lies on {}. Run: pantry doctor MODEL",
                      machine->disk->device, mount.device));
    }
  } else if (plan.memory.is_streamed) {
    plan.notes.emplace_back("no speed to expect: the disk was not measured yet. Run: pantry doctor MODEL");
    return;
  }
  const int32_t wanted = context.options().threads;
  const int32_t n_threads = wanted > 0 ? wanted : ThreadPool::DefaultThreadCount();
  const ModelWork work = WorkOf(plan.shape, plan.needs->cost, plan.needs->blocks, session);
  const RunForecast forecast = Forecast(work, plan.memory, *machine, n_threads, session);
  for (const int64_t n_tokens : prompts) {
    if (n_tokens >= plan.memory.n_ctx) {
      plan.notes.push_back(
          fmt::format("a prompt of {} tokens does not fit in a context of {}", n_tokens, plan.memory.n_ctx));
      continue;
    }
    plan.prompts.push_back({n_tokens, forecast.Prompt(n_tokens), forecast.Token(n_tokens)});
  }
}

}  // namespace

Status PlanVerb(VerbContext& context) {
  Invocation& invocation = context.invocation;
  PANTRY_ASSIGN_OR_RETURN(const std::string path, ModelOf(invocation));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(invocation));
  const CliOptions& options = invocation.options;
  PANTRY_ASSIGN_OR_RETURN(const std::vector<int64_t> prompts, PromptsOf(options));
  PANTRY_ASSIGN_OR_RETURN(const SessionOptions session, SessionOptionsOf(options));
  PANTRY_ASSIGN_OR_RETURN(FreeMemory memory, MemoryFor(options));
  PANTRY_ASSIGN_OR_RETURN(const EngineOptions engine, EngineOptionsOf(options, session, memory.available_bytes));
  PANTRY_RETURN_IF_ERROR(engine.Validate());

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
  AddSpeeds(context, path, session, prompts, plan);
  return context.output.Write(options.json ? PlanJson(plan) : PlanText(plan));
}

}  // namespace pantry
