// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <algorithm>

#include "base/units.h"
#include "engine/memory_budget.h"
#include "io/file_changes.h"
#include "sys/memory_info.h"

namespace pantry {
namespace {

constexpr int32_t kMaxThreads = 1024;
constexpr int32_t kMaxBatch = 65536;
constexpr int32_t kMaxSessions = 1024;

// Null when the model has no template or one that does not parse: it can be run without, so that is a warning.
std::unique_ptr<ChatTemplate> ParseTemplate(const GgufFile& file, Logger& log) {
  const Result<std::string_view> source = file.metadata().GetStringOr("tokenizer.chat_template", "");
  if (!source.ok()) {
    log.Warning("{}: chat template ignored: {}", file.path(), source.status().message());
    return nullptr;
  }
  if (source->empty()) return nullptr;
  Result<std::unique_ptr<ChatTemplate>> parsed = ChatTemplate::Parse(*source);
  if (!parsed.ok()) {
    log.Warning("{}: chat template ignored: {}", file.path(), parsed.status().message());
    return nullptr;
  }
  return std::move(parsed).value();
}

const Clock& StreamClock() {
  static const SteadyClock clock;
  return clock;
}

Status MakeRouter(const ExpertPolicyOptions& options, const ModelShape& shape, Logger& log, EngineParts& parts) {
  if (options.policy.kind == ExpertPolicyKind::kExact) return OkStatus();
  if (shape.has_experts() && parts.stream != nullptr) {
    PANTRY_ASSIGN_OR_RETURN(parts.router, ExpertRouter::Create(options, shape, *parts.stream));
    return OkStatus();
  }
  log.Warning("--expert-policy {}: no effect here because {}", ExpertPolicyText(options.policy),
              shape.has_experts() ? "all experts are in memory" : "the model has no experts");
  return OkStatus();
}

void MakeNeuronPrior(double strength, const ModelShape& shape, Logger& log, EngineParts& parts) {
  if (strength == 0) return;
  if (parts.stream != nullptr && parts.stream->placer().neurons() != nullptr && !shape.has_experts()) {
    parts.neuron_prior = std::make_unique<NeuronPrior>(strength, shape.n_layers);
    return;
  }
  log.Warning(
      "--neuron-policy {}: no effect here because no single neurons are streamed: those are of a pack ('pantry pack') "
      "of a model without experts whose neurons gate by ReLU",
      NeuronPolicyText(strength));
}

void SayWhetherItSavesTime(const Model& model, const EngineOptions& options, Logger& log) {
  const int32_t n_layers = model.shape().n_layers;
  if (!options.sparse || model.layers_by_neuron() == n_layers) return;
  const std::string where = model.layers_by_neuron() == 0
                                ? "any layer"
                                : fmt::format("{} of {} layers", n_layers - model.layers_by_neuron(), n_layers);
  log.Warning(
      "--sparsity: saves no time in {}, whose neurons do not lie one by one: those of Q4_0 and Q8_0 do that are in "
      "memory and whose model's width is a multiple of 256",
      where);
}

bool IsPackedByNeuron(const GgufFile& file) {
  return file.pack() != nullptr && std::ranges::any_of(file.pack()->groups(), [](const PackGroup& group) {
           return group.order != PackOrder::kTiles;
         });
}

std::unique_ptr<ThreadPool> MakePool(int32_t n_threads, Logger& log) {
  const int n_wanted = n_threads > 0 ? n_threads : ThreadPool::DefaultThreadCount();
  auto pool = std::make_unique<ThreadPool>(n_wanted);
  if (pool->n_threads() < n_wanted) log.Warning("the system allows {} of the {} threads", pool->n_threads(), n_wanted);
  return pool;
}

}  // namespace

Status EngineOptions::Validate() const {
  if (n_threads < 0 || n_threads > kMaxThreads) {
    return InvalidArgumentError("--threads {}: expected 0 (all physical cores) to {}", n_threads, kMaxThreads);
  }
  if (isa.has_value()) PANTRY_RETURN_IF_ERROR(RequireIsa(*isa));
  if (memory_bytes < 0) return InvalidArgumentError("--memory {}: expected a positive number of bytes", memory_bytes);
  if (cache_policy) PANTRY_RETURN_IF_ERROR(cache_policy->Validate());
  PANTRY_RETURN_IF_ERROR(expert_policy.Validate());
  if (!(neuron_prior_strength >= 0 && neuron_prior_strength <= 1)) {
    return InvalidArgumentError("--neuron-policy cache-prior:{}: expected a strength of 0 to 1", neuron_prior_strength);
  }
  PANTRY_RETURN_IF_ERROR(sparsity.Validate());
  return session.Validate();
}

Status SessionOptions::Validate() const {
  if (n_ctx < 0) return InvalidArgumentError("--ctx-size {}: expected 0 (the model's own) or more", n_ctx);
  if (n_batch < 1 || n_batch > kMaxBatch) {
    return InvalidArgumentError("--batch-size {}: expected 1 to {}", n_batch, kMaxBatch);
  }
  if (n_sessions < 1 || n_sessions > kMaxSessions) {
    return InvalidArgumentError("{} sessions: expected 1 to {}", n_sessions, kMaxSessions);
  }
  return OkStatus();
}

Result<std::unique_ptr<Engine>> Engine::Open(const std::string& path, const EngineOptions& options, Logger& log,
                                             const LoadProgress& progress) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  PANTRY_ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> file, GgufFile::Open(path));
  return Open(std::move(file), options, log, progress);
}

Result<std::unique_ptr<Engine>> Engine::Open(std::unique_ptr<GgufFile> file, const EngineOptions& options, Logger& log,
                                             const LoadProgress& progress) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  const FileChanges changes(file->Readers());
  EngineParts parts;
  // What is cheap comes first, so that a file that cannot work is refused at once.
  const Result<ModelShape> shape = ParseModelShape(file->metadata());
  if (!shape.ok()) return shape.status().WithContext(file->path());
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::FromMetadata(file->metadata(), log);
  if (!tokenizer.ok()) return tokenizer.status().WithContext(file->path());
  parts.tokenizer = std::move(tokenizer).value();
  parts.chat_template = ParseTemplate(*file, log);
  const Isa isa = options.isa.value_or(BestIsa());
  const auto plan_budget = [&] { return PlanBudget(*file, *shape, isa, options, FreeMemory::Now()); };
  const auto is_planned_to_stream = [&] { return parts.memory_plan && parts.memory_plan->is_streamed; };
  PANTRY_ASSIGN_OR_RETURN(parts.memory_plan, plan_budget());
  if (!options.predictor.file.empty() && !is_planned_to_stream()) {
    PANTRY_ASSIGN_OR_RETURN(parts.predicted, PredictedNeurons::Load(options.predictor, *file, *shape, isa, log));
    PANTRY_ASSIGN_OR_RETURN(parts.memory_plan, plan_budget());  // what they take is part of the process now
  }
  if (parts.memory_plan && parts.memory_plan->budget_bytes < options.memory_bytes) {
    log.Warning("--memory {}: the system has only {} for this process, so that is the budget",
                FormatBytes(options.memory_bytes), FormatBytes(parts.memory_plan->budget_bytes));
  }

  PANTRY_ASSIGN_OR_RETURN(parts.resting, RestingNeurons::Load(options.sparsity, *file, *shape, log));
  const bool is_streamed = is_planned_to_stream();
  if (is_streamed && !options.predictor.file.empty()) {
    log.Warning("--predictor: no effect here because the model is streamed, and what is read follows from exact gates");
    parts.predicted = nullptr;
  }
  parts.pool = MakePool(options.n_threads, log);
  auto placer = is_streamed ? std::make_unique<WeightPlacer>(WeightPlacer::For(*file)) : nullptr;
  PANTRY_ASSIGN_OR_RETURN(parts.model, Model::Load(*file, isa, *parts.pool, log, progress, placer.get(), options.sparse,
                                                   parts.resting != nullptr, parts.predicted != nullptr));
  if (parts.resting != nullptr) SayWhetherItSavesTime(*parts.model, options, log);
  if (parts.predicted != nullptr) SayWherePredictingSavesNothing(*parts.model, log);
  if (!options.sparse && IsPackedByNeuron(*file)) {
    log.Warning("--no-sparse: no effect here because the pack holds its weights by neuron; run the GGUF file for that");
  }
  PANTRY_RETURN_IF_ERROR(changes.Check());
  if (is_streamed) {
    WeightStreamOptions stream;
    stream.cache_bytes = parts.memory_plan->cache_bytes;
    stream.lendable_bytes = parts.memory_plan->kv_bytes + parts.memory_plan->scratch_bytes;
    stream.policy = options.cache_policy;
    stream.lookahead = options.lookahead;
    stream.reader.access = options.disk_access;
    stream.changes = changes;
    PANTRY_ASSIGN_OR_RETURN(parts.stream, WeightStream::Open(*file, std::move(placer), stream, StreamClock(), log));
    const MemoryPlan& plan = *parts.memory_plan;
    const CacheBounds bounds = {.wanted_bytes = plan.cache_bytes,
                                .floor_bytes = WeightStream::LeastCacheBytes(parts.stream->placer()),
                                .other_bytes = plan.total_bytes() - plan.cache_bytes};
    parts.stream->WatchMemory(std::make_unique<MemoryWatch>(bounds, StreamClock(), log));
    parts.stream->CommitMemory(*parts.pool);
  }
  PANTRY_RETURN_IF_ERROR(MakeRouter(options.expert_policy, *shape, log, parts));
  MakeNeuronPrior(options.neuron_prior_strength, *shape, log, parts);
  if (parts.tokenizer->n_vocab() > parts.model->shape().n_vocab) {
    log.Warning("{}: the tokenizer has {} tokens, the model only {}: the others cannot be used", file->path(),
                parts.tokenizer->n_vocab(), parts.model->shape().n_vocab);
  }
  parts.file = std::move(file);
  return FromParts(std::move(parts), log);
}

std::unique_ptr<Engine> Engine::FromParts(EngineParts parts, Logger& log) {
  PANTRY_CHECK(parts.pool != nullptr && parts.tokenizer != nullptr && parts.model != nullptr);
  return std::unique_ptr<Engine>(new Engine(std::move(parts), log));
}

Status Engine::SetThreads(int32_t n_threads) {
  EngineOptions options;
  options.n_threads = n_threads;
  PANTRY_RETURN_IF_ERROR(options.Validate());
  parts_.pool = MakePool(n_threads, log_);
  return OkStatus();
}

Engine::~Engine() = default;

}  // namespace pantry
