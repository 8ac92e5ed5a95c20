// SPDX-License-Identifier: Apache-2.0
// A RunForecast joins a model's cost, a division of memory and a machine's rates into the speed to expect.
//
// What it says is policy/planner/speed_estimate.h's; it only fills in the numbers. No weights are needed: `pantry plan` has none.
// Threads: a value.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/engine.h"
#include "engine/memory_budget.h"
#include "models/model.h"
#include "models/weight_placer.h"
#include "policy/planner/memory_plan.h"
#include "policy/planner/speed_estimate.h"
#include "sys/hardware_profile.h"
#include "weights/model_shape.h"

namespace pantry {

// Where a speed is foretold when nobody says; of a short context its middle.
inline constexpr int64_t kTypicalPosition = 512;
inline int64_t TypicalPosition(int64_t n_ctx) { return std::min(kTypicalPosition, n_ctx / 2); }

// Where nothing may be left in the file (no `blocks`) all weights count as read by every token, which is right for one token at a time.
ModelWork WorkOf(const ModelShape& shape, const ModelCost& cost, const WeightPlacer& blocks,
                 const SessionOptions& session);
// Of a token's blocks: as ExpectedHits() for experts; of layers in rotation the share that is held. All of them in a resident run.
HitRange HitsOf(const MemoryPlan& plan, bool has_experts);
// What one read of the pipeline brings, on average; 0 without experts.
int64_t PieceBytes(const ModelWork& work);

struct RunForecast {
  ModelWork work;
  MachineRates rates;
  int64_t n_batch = 512;
  bool is_streamed = false;
  double cache_share = 1;  // of all experts' bytes
  bool is_warm = false;    // a profile fills the cache before the first token
  HitRange hits;

  SpeedEstimate Token(int64_t position) const { return EstimateToken(rates, work, position, hits); }
  // At a hit rate that was measured.
  SpeedEstimate TokenAt(int64_t position, double hit_rate) const {
    return EstimateToken(rates, work, position, {hit_rate, hit_rate, hit_rate});
  }
  SpeedEstimate Prompt(int64_t n_tokens) const {
    return EstimatePrompt(rates, work, n_tokens, n_batch, is_streamed, cache_share, is_warm ? hits.likely : 0);
  }
};

RunForecast Forecast(const ModelWork& work, const MemoryPlan& plan, const HardwareProfile& machine, int32_t n_threads,
                     const SessionOptions& session);

}  // namespace pantry
