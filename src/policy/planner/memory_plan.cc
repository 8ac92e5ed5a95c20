// SPDX-License-Identifier: Apache-2.0
#include "policy/planner/memory_plan.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "base/parse_number.h"
#include "base/units.h"
#include "policy/planner/context_plan.h"

namespace pantry {
namespace {

// What is needed whatever the context.
int64_t FixedBytes(const MemoryRequest& request, bool is_streamed) {
  return request.process_bytes + request.dense_bytes + request.scratch_bytes +
         (is_streamed ? request.reading_bytes : 0);
}

int64_t ResidentBlockBytes(const MemoryRequest& request) {
  return request.resident_block_bytes > 0 ? request.resident_block_bytes : request.block_bytes;
}

// The cache holds whole tiles of positions, as many as kContextStep.
int64_t KvBytes(const MemoryRequest& request, int64_t n_ctx) {
  return (n_ctx + kContextStep - 1) / kContextStep * kContextStep * std::max<int64_t>(request.kv_bytes_per_position, 1);
}

// Positions of a run whose blocks take `block_bytes`: those asked for, or the model's own as far as `kv_bytes` reach.
int64_t ContextFor(const MemoryRequest& request, int64_t most, int64_t kv_bytes) {
  if (request.n_ctx > 0) return request.n_ctx;
  const int64_t fitting = LargestContext(kv_bytes, request.kv_bytes_per_position);
  return std::max(std::min(most, fitting), std::min(most, kMinDefaultContext));
}

// Of a budget, what its own page tables leave.
int64_t BesidePageTables(int64_t budget_bytes) {
  return budget_bytes - (budget_bytes + kBytesPerPageTableByte) / (kBytesPerPageTableByte + 1);
}

MemoryPlan Fill(const MemoryRequest& request, bool is_streamed, int64_t n_ctx) {
  MemoryPlan plan;
  plan.is_streamed = is_streamed;
  plan.blocks = request.blocks;
  plan.budget_bytes = request.budget_bytes;
  plan.process_bytes = request.process_bytes;
  plan.dense_bytes = request.dense_bytes;
  plan.scratch_bytes = request.scratch_bytes;
  plan.reading_bytes = is_streamed ? request.reading_bytes : 0;
  plan.n_ctx = n_ctx;
  plan.n_sessions = request.n_sessions;
  plan.kv_bytes = KvBytes(request, n_ctx);
  plan.block_bytes = request.block_bytes;
  if (!is_streamed) plan.block_bytes = ResidentBlockBytes(request);
  plan.cache_bytes = plan.block_bytes;
  if (is_streamed) {
    plan.cache_bytes = BesidePageTables(request.budget_bytes) - FixedBytes(request, true) - plan.kv_bytes;
    plan.cache_bytes = std::min(plan.cache_bytes, request.block_bytes);
  }
  plan.process_bytes += PageTableBytes(plan.total_bytes());
  return plan;
}

Status DoesNotFit(const MemoryRequest& request, bool is_streamed, int64_t n_ctx) {
  const int64_t blocks = is_streamed ? request.least_block_bytes : ResidentBlockBytes(request);
  const int64_t kv_bytes = KvBytes(request, n_ctx);
  const int64_t mapped = FixedBytes(request, is_streamed) + kv_bytes + blocks;
  const int64_t needed = mapped + PageTableBytes(mapped);
  std::string sum =
      fmt::format("program and tables {} + weights that stay {} + KV {} + scratch {}",
                  FormatBytes(request.process_bytes + PageTableBytes(mapped)), FormatBytes(request.dense_bytes),
                  FormatBytes(kv_bytes), FormatBytes(request.scratch_bytes));
  if (is_streamed) sum += fmt::format(" + reading {}", FormatBytes(request.reading_bytes));
  if (blocks > 0) {
    sum += fmt::format(" + {}{} {}", is_streamed ? "two blocks of " : "", request.blocks, FormatBytes(blocks));
  }
  std::vector<std::string> options = {fmt::format("--memory {}M", (needed + kMiB - 1) / kMiB)};
  if (n_ctx > kMinDefaultContext) {
    options.push_back(fmt::format("--ctx-size {} (saves {})", kMinDefaultContext,
                                  FormatBytes(kv_bytes - KvBytes(request, kMinDefaultContext))));
  }
  if (!is_streamed && request.block_bytes > 0) options.emplace_back("--stream auto");
  options.emplace_back("a smaller --ubatch-size, model or quantisation");
  return OutOfBudgetError("needs at least {} ({}), the budget is {}. Options: {}", FormatBytes(needed), sum,
                          FormatBytes(request.budget_bytes), fmt::join(options, ", "));
}

}  // namespace

int64_t PageTableBytes(int64_t n_bytes) { return (n_bytes + kBytesPerPageTableByte - 1) / kBytesPerPageTableByte; }

Result<MemoryPlan> PlanMemory(const MemoryRequest& request) {
  if (request.n_ctx > kMaxContext) {
    return OutOfBudgetError("--ctx-size {}: more than the {} positions that are supported", request.n_ctx, kMaxContext);
  }
  const int64_t own = request.n_ctx_train > 0 ? request.n_ctx_train : 4 * kMinDefaultContext;
  const int64_t usable = BesidePageTables(request.budget_bytes);
  const int64_t left = usable - FixedBytes(request, false) - ResidentBlockBytes(request);
  const int64_t n_ctx = ContextFor(request, own, left);
  const bool fits = KvBytes(request, n_ctx) <= left;
  if (fits && !request.must_stream) return Fill(request, false, n_ctx);
  if (!request.may_stream || request.block_bytes == 0) return DoesNotFit(request, false, n_ctx);

  const int64_t shared = usable - FixedBytes(request, true);
  const int64_t streamed_ctx =
      ContextFor(request, std::min(own, kStreamedContext),
                 static_cast<int64_t>(kStreamedContextShare * static_cast<double>(std::max<int64_t>(shared, 0))));
  const int64_t room = shared - request.least_block_bytes;
  if (KvBytes(request, streamed_ctx) > room) {
    return DoesNotFit(request, true, streamed_ctx);
  }
  return Fill(request, true, streamed_ctx);
}

std::string MemoryPlan::Table() const {
  std::string table = fmt::format("program and tables  {:>10}\n", FormatBytes(process_bytes));
  table += fmt::format("dense weights       {:>10}   always in memory\n", FormatBytes(dense_bytes));
  const std::string lent = is_streamed ? fmt::format("lent to the {} until they are used", blocks) : "";
  const std::string of_each = n_sessions > 1 ? fmt::format("{} times ", n_sessions) : "";
  table += fmt::format("KV cache            {:>10}   {}{} positions{}{}\n", FormatBytes(kv_bytes), of_each, n_ctx,
                       is_streamed ? ", " : "", lent);
  table += fmt::format("scratch             {:>10}{}{}\n", FormatBytes(scratch_bytes),
                       is_streamed ? "   for prompts, " : "", lent);
  if (is_streamed) table += fmt::format("reading             {:>10}\n", FormatBytes(reading_bytes));
  if (block_bytes > 0) {
    table += fmt::format("{:<20}{:>10}   {:.0f} % of {}\n", blocks, FormatBytes(cache_bytes),
                         100.0 * static_cast<double>(cache_bytes) / static_cast<double>(block_bytes),
                         FormatBytes(block_bytes));
  }
  return table +
         fmt::format("together            {:>10}   of {}", FormatBytes(total_bytes()), FormatBytes(budget_bytes));
}

Result<int64_t> ParseMemoryBudget(std::string_view text, int64_t available_bytes) {
  const auto share_of = [&](double share) {
    return static_cast<int64_t>(share * static_cast<double>(std::max<int64_t>(available_bytes, 0)));
  };
  if (text.empty() || text == "auto") return share_of(kAutoMemoryShare);
  if (!text.ends_with('%')) {
    Result<int64_t> bytes = ParseBytes(text);
    if (bytes.ok() && *bytes > 0) return bytes;
    return InvalidArgumentError("--memory {}: expected a size (6G, 512M), a share (60%) or auto", text);
  }
  const auto percent = ParseNumber<double>(text.substr(0, text.size() - 1));
  if (!percent || !(*percent > 0) || *percent > 100) {
    return InvalidArgumentError("--memory {}: expected a share above 0% and up to 100%", text);
  }
  if (available_bytes < 0) {
    return InvalidArgumentError("--memory {}: the system does not say how much memory there is; give a size", text);
  }
  return share_of(*percent / 100);
}

}  // namespace pantry
