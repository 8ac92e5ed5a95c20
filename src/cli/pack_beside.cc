// SPDX-License-Identifier: Apache-2.0
#include "cli/pack_beside.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>

#include "cli/known_machine.h"
#include "cli/model_path.h"
#include "cli/plan_neurons.h"
#include "sys/thread_pool.h"
#include "weights/gguf/pack_table.h"
#include "weights/pack/source_hash.h"

namespace pantry {
namespace {

// Where `pantry pack` puts it; "" where there is none, or `path` names no GGUF file.
std::string PackBeside(const std::string& path) {
  if (!path.ends_with(".gguf")) return "";
  std::string beside = PackNameOf(path);
  std::error_code error;
  return std::filesystem::is_regular_file(beside, error) ? beside : "";
}

Result<MemoryPlan> PlanOf(const GgufFile& file, const EngineOptions& engine, const FreeMemory& memory) {
  PANTRY_ASSIGN_OR_RETURN(const ModelShape shape, ParseModelShape(file.metadata()));
  PANTRY_ASSIGN_OR_RETURN(const ModelNeeds needs, NeedsOf(file, engine.isa.value_or(BestIsa())));
  return PlanRun(needs, shape, engine, memory);
}

// Of a pack of single neurons: whether another way is foretold to be faster. Nobody knows where this machine was not measured.
bool IsSlowByNeuron(VerbContext& context, const GgufFile& pack, const GgufFile& source, const EngineOptions& engine,
                    const FreeMemory& memory) {
  const Result<HardwareProfile> machine = KnownMachine(context.invocation.environment);
  const Result<ModelShape> shape = ParseModelShape(pack.metadata());
  if (!machine.ok() || !shape.ok()) return false;
  const NeuronPlanOptions options = {
      .engine = engine,
      .profile = context.options().profile,
      .memory = memory,
      .machine = &*machine,
      .source = &source,
      .n_threads = engine.n_threads > 0 ? engine.n_threads : ThreadPool::DefaultThreadCount()};
  const Result<std::optional<NeuronPlanReport>> report = PlanByNeuron(pack, *shape, options);
  if (!report.ok() || !*report || !(*report)->has_speeds || (*report)->plan.ways.empty()) return false;
  return (*report)->plan.ways.front().way == RunWay::kMatrices;
}

}  // namespace

std::string FileToRun(VerbContext& context, const std::string& path, const EngineOptions& engine,
                      const FreeMemory& memory) {
  const CliOptions& options = context.options();
  if (!options.use_pack || engine.stream == StreamMode::kOff) return path;
  if (!options.predictor.empty() || !options.sparsity.empty()) return path;  // they look at the matrices
  std::string beside = PackBeside(path);
  if (beside.empty()) return path;
  const Result<std::unique_ptr<GgufFile>> gguf = GgufFile::Open(path);
  if (!gguf.ok()) return path;
  const Result<MemoryPlan> plan = PlanOf(**gguf, engine, memory);
  if (plan.ok() && !plan->is_streamed) return path;

  const auto unused = [&](std::string_view why) {
    context.console.Note(fmt::format("plan: {} is not used: {}", beside, why));
    return path;
  };
  const Result<std::unique_ptr<GgufFile>> pack = GgufFile::Open(beside);
  if (!pack.ok()) return unused(pack.status().message());
  if ((*pack)->pack() == nullptr || !IsPackOf(**pack, **gguf)) return unused("it was made of another file");
  const Result<MemoryPlan> of_pack = PlanOf(**pack, engine, memory);
  if (!of_pack.ok()) return unused(of_pack.status().message());
  const bool by_neuron = (*pack)->pack()->has_neurons();
  if (by_neuron && !options.sparse) return unused("it holds neurons one by one, and --no-sparse computes all of them");
  if (by_neuron && IsSlowByNeuron(context, **pack, **gguf, engine, memory)) {
    return unused("with so little memory, whole matrices are foretold to be faster");
  }
  context.console.Note(fmt::format("plan: {}, the pack beside the model, is read{} (--no-use-pack: the model itself)",
                                   beside, by_neuron ? ", neuron by neuron" : ""));
  return beside;
}

}  // namespace pantry
