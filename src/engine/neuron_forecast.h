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

// As Forecast(), by neuron: hits are those of the neurons that fire most, at a typical position.
RunForecast NeuronForecast(const ModelWork& work, const FiringCurve& firing, const MemoryPlan& plan,
                           const HardwareProfile& machine, int32_t n_threads, const SessionOptions& session);

}  // namespace pantry
