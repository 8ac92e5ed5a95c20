// SPDX-License-Identifier: Apache-2.0
// What a model takes, told by its file's table of contents, and how a budget is divided for it: before a byte of weights is read.
//
// The engine asks when it opens a model, `pantry plan` when nobody wants to open one. It joins what the folders know (models: weights and
// workspace; engine: keys and values, streams; sys: free memory) into the request that policy/planner/memory_plan.h decides on.
// Threads: free functions and values.
#pragma once

#include <cstdint>
#include <optional>

#include "base/status.h"
#include "engine/engine.h"
#include "models/model.h"
#include "models/weight_placer.h"
#include "policy/planner/memory_plan.h"
#include "sys/isa.h"
#include "weights/gguf/gguf_file.h"
#include "weights/model_shape.h"

namespace pantry {

struct FreeMemory {
  int64_t available_bytes = -1;  // that could still be taken; -1: unknown
  int64_t resident_bytes = 0;    // that the process has already
  static FreeMemory Now();
};

struct ModelNeeds {
  int64_t dense_bytes = 0;  // weights without blocks
  int64_t rows_bytes = 0;   // of these, what a streamed run reads row by row; 0: all are always in memory
  WeightPlacer blocks;      // those that need not be: experts, or the matrices of a model without
  ModelCost cost;

  int64_t block_bytes() const;           // all blocks, as a cache holds them
  int64_t resident_block_bytes() const;  // all blocks side by side
};
// Errors as PackedWeightBytes().
Result<ModelNeeds> NeedsOf(const GgufFile& file, Isa isa);
// The same as if its weights lay as `blocks`, to which none were added, places them; `sparse`: EngineOptions'.
Result<ModelNeeds> NeedsOf(const GgufFile& file, Isa isa, WeightPlacer blocks, bool sparse = true);

// Divides the budget, if there is one: a number that was asked for, or a share of what is free for a model with experts or one that does not
// fit. kOutOfBudget
// says the sum and what helps; kInvalidArgument: a budget is needed and nothing says how much memory there is.
Result<std::optional<MemoryPlan>> PlanBudget(const GgufFile& file, const ModelShape& shape, Isa isa,
                                             const EngineOptions& options, const FreeMemory& memory);

// The same for needs that are known, and with a plan also where there is no budget: a model that lies in memory as a whole, with the context
// that a session would get.
Result<MemoryPlan> PlanRun(const ModelNeeds& needs, const ModelShape& shape, const EngineOptions& options,
                           const FreeMemory& memory);

}  // namespace pantry
