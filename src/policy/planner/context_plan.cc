// SPDX-License-Identifier: Apache-2.0
#include "policy/planner/context_plan.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "base/units.h"

namespace pantry {
namespace {

// What would help, largest first: fewer positions, smaller KV numbers, less else in memory.
std::string AdviseToFit(const ContextRequest& request, int64_t n_ctx) {
  const int64_t kv_bytes = n_ctx * request.kv_bytes_per_position;
  const int64_t fitting =
      std::min(LargestContext(request.free_bytes - request.scratch_bytes, request.kv_bytes_per_position), n_ctx);
  std::vector<std::string> options;
  if (fitting >= kContextStep) {
    options.push_back(fmt::format("--ctx-size {} (saves {})", fitting,
                                  FormatBytes(kv_bytes - fitting * request.kv_bytes_per_position)));
  }
  const int64_t q8_bytes = n_ctx * request.kv_bytes_per_position_q8;
  if (q8_bytes > 0 && q8_bytes < kv_bytes) {
    options.push_back(
        fmt::format("--cache-type-k q8_0 --cache-type-v q8_0 (saves {})", FormatBytes(kv_bytes - q8_bytes)));
  }
  if (fitting < kContextStep) options.emplace_back("a smaller --batch-size");
  options.emplace_back("a smaller model or quantisation");
  return fmt::format("{}", fmt::join(options, ", "));
}

Status DoesNotFit(const ContextRequest& request, int64_t n_ctx) {
  const int64_t kv_bytes = n_ctx * request.kv_bytes_per_position;
  const int64_t needed = request.weight_bytes + kv_bytes + request.scratch_bytes;
  return OutOfBudgetError(
      "context of {} positions: needs at least {} (weights {} + KV {} + scratch {}), available is {}. Options: {}",
      n_ctx, FormatBytes(needed), FormatBytes(request.weight_bytes), FormatBytes(kv_bytes),
      FormatBytes(request.scratch_bytes), FormatBytes(request.weight_bytes + request.free_bytes),
      AdviseToFit(request, n_ctx));
}

bool Fits(const ContextRequest& request, int64_t n_ctx) {
  if (request.free_bytes < 0) return true;
  const int64_t kv_budget = request.free_bytes - request.scratch_bytes;
  // Divided, not multiplied: n_ctx may be any number that a user typed.
  return kv_budget >= 0 && n_ctx <= kv_budget / std::max<int64_t>(request.kv_bytes_per_position, 1);
}

ContextPlan MakePlan(const ContextRequest& request, int64_t n_ctx, std::string reason) {
  ContextPlan plan;
  plan.n_ctx = n_ctx;
  plan.weight_bytes = request.weight_bytes;
  plan.kv_bytes = n_ctx * request.kv_bytes_per_position;
  plan.scratch_bytes = request.scratch_bytes;
  plan.free_bytes = request.free_bytes;
  plan.reason = std::move(reason);
  return plan;
}

Result<ContextPlan> PlanRequested(const ContextRequest& request) {
  if (request.n_ctx > kMaxContext) {
    return OutOfBudgetError("--ctx-size {}: more than the {} positions that are supported", request.n_ctx, kMaxContext);
  }
  if (!Fits(request, request.n_ctx)) return DoesNotFit(request, request.n_ctx);
  if (request.n_ctx_train > 0 && request.n_ctx > request.n_ctx_train) {
    return MakePlan(request, request.n_ctx,
                    fmt::format("{} positions, as asked; the model was trained on {}, answers get worse beyond them",
                                request.n_ctx, request.n_ctx_train));
  }
  return MakePlan(request, request.n_ctx, fmt::format("{} positions, as asked", request.n_ctx));
}

}  // namespace

int64_t LargestContext(int64_t kv_budget, int64_t kv_bytes_per_position) {
  if (kv_budget <= 0) return 0;
  return kv_budget / std::max<int64_t>(kv_bytes_per_position, 1) / kContextStep * kContextStep;
}

std::string ContextPlan::Table() const {
  std::string table = fmt::format(
      "weights   {:>10}\nKV cache  {:>10}   {} positions\nscratch   {:>10}\ntogether  {:>10}",
      FormatBytes(weight_bytes), FormatBytes(kv_bytes), n_ctx, FormatBytes(scratch_bytes), FormatBytes(total_bytes()));
  if (free_bytes >= 0) table += fmt::format("   of {}", FormatBytes(weight_bytes + free_bytes));
  return table;
}

int64_t KvBytesPerPosition(const ModelShape& shape, int64_t k_row_bytes, int64_t v_row_bytes) {
  return int64_t{shape.n_layers} * shape.n_kv_heads * (k_row_bytes + v_row_bytes);
}

Result<ContextPlan> PlanContext(const ContextRequest& request) {
  if (request.n_ctx < 0) {
    return InvalidArgumentError("--ctx-size {}: expected 0 (the model's own) or a number of positions", request.n_ctx);
  }
  if (request.n_ctx > 0) return PlanRequested(request);

  const int64_t own = request.n_ctx_train > 0 ? request.n_ctx_train : 4 * kMinDefaultContext;
  if (request.free_bytes < 0) {
    if (own <= kUnknownMemoryContext) return MakePlan(request, own, fmt::format("{} positions, the model's own", own));
    ContextPlan plan =
        MakePlan(request, kUnknownMemoryContext,
                 fmt::format("{} of the model's {} positions: the system does not say how much memory is "
                             "free; ask for more with --ctx-size",
                             kUnknownMemoryContext, own));
    plan.is_cut = true;
    return plan;
  }
  const auto budget = static_cast<int64_t>(static_cast<double>(request.free_bytes) * kDefaultContextShare);
  const int64_t fitting = LargestContext(budget - request.scratch_bytes, request.kv_bytes_per_position);
  if (own <= fitting) return MakePlan(request, own, fmt::format("{} positions, the model's own", own));

  // A small machine may give the smallest useful context more than the usual share.
  const int64_t n_ctx = std::max(fitting, std::min(own, kMinDefaultContext));
  if (!Fits(request, n_ctx)) return DoesNotFit(request, n_ctx);
  if (n_ctx == own) return MakePlan(request, own, fmt::format("{} positions, the model's own", own));
  ContextPlan plan = MakePlan(request, n_ctx,
                              fmt::format("{} of the model's {} positions fit in {:.0f} % of the {} of free memory",
                                          n_ctx, own, kDefaultContextShare * 100, FormatBytes(request.free_bytes)));
  plan.is_cut = true;
  return plan;
}

std::string AdviseLargerContext(int64_t n_needed, int64_t n_ctx, int64_t n_ctx_train, int64_t kv_bytes_per_position) {
  int64_t larger = std::max<int64_t>(n_ctx, kContextStep);
  while (larger < n_needed) larger *= 2;
  if (n_ctx_train >= n_needed) larger = std::min(larger, n_ctx_train);
  std::string advice = fmt::format("use --ctx-size {} (costs +{}) or shorten", larger,
                                   FormatBytes((larger - n_ctx) * kv_bytes_per_position));
  if (n_ctx_train > 0 && larger > n_ctx_train) {
    advice += fmt::format("; the model was trained on {} positions, answers get worse beyond them", n_ctx_train);
  }
  return advice;
}

}  // namespace pantry
