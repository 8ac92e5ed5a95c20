// SPDX-License-Identifier: Apache-2.0
// What runs by neuron should cost: joins a model's sizes and its profile into the numbers that policy/planner/neuron_plan.h plans with.
//
// Threads: free functions.
#pragma once

#include "engine/engine.h"
#include "engine/run_forecast.h"
#include "models/model.h"
#include "models/weight_placer.h"
#include "policy/planner/firing_curve.h"
#include "policy/planner/memory_plan.h"
#include "policy/planner/neuron_plan.h"
#include "sys/hardware_profile.h"
#include "weights/model_shape.h"
#include "weights/profile/neuron_profile.h"

namespace pantry {

FiringCurve CurveOf(const NeuronProfile& profile);

// REQUIRES: blocks.neurons().
ModelWork NeuronWorkOf(const ModelShape& shape, const ModelCost& cost, const WeightPlacer& blocks,
                       const SessionOptions& session, const FiringCurve& firing);

// Of all neurons, those in memory while a session that runs alone generates the token at `position`: what it does not use yet is the cache's.
double NeuronsHeld(const MemoryPlan& plan, int64_t position);
int64_t LentBytes(const MemoryPlan& plan, int64_t position);  // of the session's own, what is the cache's then

// As Forecast(), by neuron: hits are those of a cache that has what a session leaves it at `position`; `is_warm`: as RunForecast.
RunForecast NeuronForecast(const ModelWork& work, const FiringCurve& firing, const MemoryPlan& plan,
                           const HardwareProfile& machine, int32_t n_threads, const SessionOptions& session,
                           int64_t position, bool is_warm);

// Where experts' gates come as blocks and their neurons one by one: what a token of such a model should cost, by what a profile says of both.
struct ExpertNeuronForecast {
  WorkPart gates;    // and what every token needs
  WorkPart neurons;  // of all experts that a layer uses
  double gates_held = 1, neurons_held = 1;

  SpeedEstimate Token(int64_t position) const { return EstimateToken(gates, neurons, position); }
  // Gates first, then neurons; from caches that the profile filled.
  SpeedEstimate Prompt(int64_t n_tokens, int64_t n_batch) const;
};
// With what the cache has at `position`. REQUIRES: blocks has experts and neurons(), and the profile is of this model.
ExpertNeuronForecast ForecastExperts(const ModelShape& shape, const ModelNeeds& needs, const NeuronProfile& profile,
                                     const MemoryPlan& plan, const HardwareProfile& machine, int32_t n_threads,
                                     const SessionOptions& session, int64_t position);

}  // namespace pantry
