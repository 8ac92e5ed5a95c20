// SPDX-License-Identifier: Apache-2.0
#include "engine/memory_budget.h"

#include <algorithm>
#include <utility>

#include "base/units.h"
#include "policy/planner/context_plan.h"
#include "sys/memory_info.h"

namespace pantry {
namespace {

// What the process takes later on, besides what is planned: conversations, the line editor, threads' stacks, buffers of output, a sampler.
// A bench of smallthinker-4b in 1 GiB took 2 MiB of it.
constexpr int64_t kProcessMargin = 16 * kMiB;

// A budget equal to a control group's limit is meant as it is, though a little of that is taken already.
constexpr double kBudgetSlack = 1.03;

// Whether the run gets a share of the memory instead of all of it: only then there is something left to hold what a token wants besides.
bool TakesAShare(const ModelNeeds& needs, const FreeMemory& memory) {
  return needs.blocks.has_experts() || needs.dense_bytes + needs.resident_block_bytes() > memory.available_bytes;
}

bool HasBudget(const ModelNeeds& needs, const EngineOptions& options, const FreeMemory& memory) {
  if (options.memory_bytes > 0 || options.stream == StreamMode::kOn || needs.blocks.neurons() != nullptr) return true;
  return memory.available_bytes >= 0 && TakesAShare(needs, memory);
}

Result<MemoryRequest> RequestOf(const ModelNeeds& needs, const ModelShape& shape, const EngineOptions& options,
                                const FreeMemory& memory) {
  MemoryRequest request;
  request.budget_bytes = options.memory_bytes;
  if (request.budget_bytes == 0) {
    if (memory.available_bytes < 0)
      return InvalidArgumentError("the system does not say how much memory is free: give --memory SIZE");
    const double share = TakesAShare(needs, memory) ? kAutoMemoryShare : 1;
    request.budget_bytes =
        memory.resident_bytes + static_cast<int64_t>(share * static_cast<double>(memory.available_bytes));
  }
  // No budget makes memory: what the system does not have would end the process, long after the start where experts come one by one.
  if (memory.available_bytes >= 0) {
    const int64_t most = memory.resident_bytes + memory.available_bytes;
    if (static_cast<double>(request.budget_bytes) > kBudgetSlack * static_cast<double>(most))
      request.budget_bytes = most;
  }
  request.dense_bytes = needs.dense_bytes;
  const bool has_blocks = needs.blocks.n_blocks() > 0;
  if (has_blocks) {
    request.blocks = needs.blocks.has_experts() ? "experts" : needs.blocks.neurons() != nullptr ? "neurons" : "layers";
    request.block_bytes = needs.block_bytes();
    request.resident_block_bytes = needs.resident_block_bytes();
    request.least_block_bytes = WeightStream::LeastCacheBytes(needs.blocks);
    request.reading_bytes = WeightStream::ReadingBytes(needs.blocks);
  }
  request.may_stream = options.stream != StreamMode::kOff;
  request.must_stream = options.stream == StreamMode::kOn && has_blocks;
  if (needs.blocks.neurons() != nullptr && options.stream == StreamMode::kOff) {
    return InvalidArgumentError(
        "--stream off: this pack holds single neurons, which are always streamed; run the GGUF file");
  }
  if (needs.blocks.neurons() != nullptr)
    request.may_stream = request.must_stream = true;  // into a cache for all, if need be
  request.process_bytes = memory.resident_bytes + kProcessMargin;
  request.scratch_bytes = SessionScratchBytes(shape, options.session);
  request.kv_bytes_per_position = SessionKvBytesPerPosition(shape, options.session);
  request.n_sessions = options.session.n_sessions;
  request.n_ctx = options.session.n_ctx;
  request.n_ctx_train = shape.n_ctx_train;
  return request;
}

// The request's plan; a streamed run leaves the matrices in the file of which it reads single rows.
Result<MemoryPlan> Divide(const MemoryRequest& request, const ModelNeeds& needs) {
  if (needs.rows_bytes == 0 || !request.may_stream) return PlanMemory(request);
  if (!request.must_stream) {
    MemoryRequest resident = request;
    resident.may_stream = false;
    Result<MemoryPlan> plan = PlanMemory(resident);
    if (plan.ok()) return plan;
  }
  MemoryRequest streamed = request;
  streamed.must_stream = true;
  streamed.dense_bytes -= needs.rows_bytes;
  return PlanMemory(streamed);
}

// Positions that Engine::NewSession() would choose beside weights of that size; 0 where they leave too little.
int64_t UnbudgetedContext(const MemoryRequest& request, int64_t available_bytes) {
  ContextRequest context;
  context.n_ctx_train = request.n_ctx_train;
  context.scratch_bytes = request.scratch_bytes;
  context.kv_bytes_per_position = request.kv_bytes_per_position;  // of all sessions
  context.free_bytes = std::max<int64_t>(available_bytes - request.dense_bytes - request.resident_block_bytes, 0);
  const Result<ContextPlan> plan = PlanContext(context);
  return plan.ok() ? plan->n_ctx : 0;
}

}  // namespace

FreeMemory FreeMemory::Now() { return {AvailableMemoryBytes(), std::max<int64_t>(ResidentSetBytes(), 0)}; }

int64_t ModelNeeds::block_bytes() const { return WeightStream::AllBlocksBytes(blocks); }

int64_t ModelNeeds::resident_block_bytes() const {
  int64_t n_bytes = 0;
  for (const WeightPlacer::Group& group : blocks.groups()) n_bytes += group.n_blocks * group.block_bytes;
  return n_bytes;
}

Result<ModelNeeds> NeedsOf(const GgufFile& file, Isa isa) { return NeedsOf(file, isa, WeightPlacer::For(file)); }

Result<ModelNeeds> NeedsOf(const GgufFile& file, Isa isa, WeightPlacer blocks, bool sparse) {
  ModelNeeds needs;
  needs.blocks = std::move(blocks);
  PANTRY_ASSIGN_OR_RETURN(const int64_t always, PackedWeightBytes(file, isa, &needs.blocks, &needs.cost, sparse));
  if (needs.blocks.rows_in_file()) needs.rows_bytes = needs.blocks.rows_in_file()->resident_bytes;
  needs.dense_bytes = always + needs.rows_bytes;
  return needs;
}

Result<std::optional<MemoryPlan>> PlanBudget(const GgufFile& file, const ModelShape& shape, Isa isa,
                                             const EngineOptions& options, const FreeMemory& memory) {
  PANTRY_ASSIGN_OR_RETURN(const ModelNeeds needs, NeedsOf(file, isa, WeightPlacer::For(file), options.sparse));
  if (!HasBudget(needs, options, memory)) return std::optional<MemoryPlan>();
  PANTRY_ASSIGN_OR_RETURN(const MemoryRequest request, RequestOf(needs, shape, options, memory));
  Result<MemoryPlan> plan = Divide(request, needs);
  if (!plan.ok()) return plan.status().WithContext(file.path());
  return std::optional<MemoryPlan>(*std::move(plan));
}

Result<MemoryPlan> PlanRun(const ModelNeeds& needs, const ModelShape& shape, const EngineOptions& options,
                           const FreeMemory& memory) {
  PANTRY_ASSIGN_OR_RETURN(MemoryRequest request, RequestOf(needs, shape, options, memory));
  if (!HasBudget(needs, options, memory) && request.n_ctx == 0) {
    request.n_ctx = UnbudgetedContext(request, memory.available_bytes);
  }
  return Divide(request, needs);
}

}  // namespace pantry
