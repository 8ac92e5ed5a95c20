// SPDX-License-Identifier: Apache-2.0
// A NeuronPlan says how a model whose neurons rest runs best under a budget: all of it in memory, its matrices streamed in blocks, or its neurons
// one by one, with how many threads, and what to expect of it.
//
// Pure: numbers in, numbers out. Every way is tried with every number of threads, by the formulas of speed_estimate.h; memory that is there is used,
// since holding more is never slower. That is some dozens of estimates, so there is nothing to solve.
//
//   token of neurons   dense weights + bundles that fire, read here and there | what fires and is absent, from the disk, a bundle a read
//
// Threads: free functions and values.
// Source: the planner of PowerInfer-2, arXiv 2406.06282, section 5: t_decode subject to memory, cores and the speed that a user wants.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "policy/planner/firing_curve.h"
#include "policy/planner/speed_estimate.h"
#include "sys/hardware_profile.h"

namespace pantry {

enum class RunWay : uint8_t { kResident, kMatrices, kNeurons };
std::string_view RunWayName(RunWay way);  // "in memory", "by matrix", "by neuron"

// A way to run the model, as far as the file tells.
struct WayRequest {
  RunWay way = RunWay::kNeurons;
  ModelWork work;            // of kNeurons: NeuronWork()
  int64_t pinned_bytes = 0;  // always in memory: the process, dense weights, KV cache, scratch, buffers
  int64_t block_bytes = 0;   // all that need not be
  int64_t lent_bytes = 0;    // of pinned_bytes, what idles and holds blocks, too
};

struct NeuronPlanRequest {
  std::span<const WayRequest> ways;  // those that may run
  const FiringCurve* firing = nullptr;
  int64_t budget_bytes = 0;
  int32_t most_threads = 1;
  int64_t position = 0;        // of the token that speeds are told of
  double least_tok_per_s = 0;  // 0: nobody minds
};

struct WayPlan {
  RunWay way = RunWay::kNeurons;
  int32_t n_threads = 1;    // the fewest that are as fast as any
  int32_t queue_depth = 0;  // the least with which the disk gives what it can; 0: nothing is read
  double held_share = 1;    // of all that need not be in memory
  HitRange hits = {};
  SpeedEstimate token = {};
  // The least budget with which a token comes in time; 0: none, or nobody minds.
  int64_t least_budget_bytes = 0;
};

// A run of some consecutive tokens, by neuron.
struct BatchPlan {
  int32_t n_tokens = 1;
  double n_firing = 0;  // neurons of all layers that some of them wake
  double n_reads = 0;   // of these, absent
  HitRange hits = {};
  SpeedEstimate run = {};
};

struct NeuronPlan {
  std::vector<WayPlan> ways;       // that the budget allows, the fastest first
  std::vector<BatchPlan> batches;  // FiringCurve::kBatches, where kNeurons is among the ways
};

// The work of a token by neuron. `dense`: without experts, of everything but up and down; gates are `gate_bytes` of it. Of a neuron's bundle, its
// part of up and down, kernels read `kept_bytes`, and the disk as many as `read_bytes`. Loops are those of neurons from the disk.
ModelWork NeuronWork(const ModelWork& dense, const FiringCurve& firing, int32_t n_layers, int32_t n_neurons,
                     int64_t gate_bytes, int64_t kept_bytes, int64_t read_bytes, int64_t macs_per_neuron);

// The work of a token's neurons alone, of n_used experts of a layer: of its `n_neurons` in all experts so many fire as `firing` says. Gates come as
// blocks, those of all experts that a layer uses before the first neurons.
ModelWork ExpertNeuronWork(const FiringCurve& firing, int32_t n_layers, int32_t n_neurons, int32_t n_used,
                           int64_t kept_bytes, int64_t read_bytes, int64_t macs_per_neuron);

// REQUIRES: firing where kNeurons is among the ways.
NeuronPlan PlanNeurons(const HardwareProfile& machine, const NeuronPlanRequest& request);

}  // namespace pantry
