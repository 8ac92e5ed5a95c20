// SPDX-License-Identifier: Apache-2.0
#include "policy/planner/neuron_plan.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace pantry {
namespace {

// Gates are computed in eight parts, and what fires in one is read while the next ones are computed (models/neuron_step.cc). What is in memory comes
// in one more loop, and what fires in segments: neurons that were read, and sums.
constexpr double kGateParts = 8, kGatesOverlapped = 1 - 1 / kGateParts;
constexpr double kLoopsOfSegment = 2, kSegment = 512;
constexpr double kLoopsOfDense = 2;  // gate and up, and down, which it takes the place of
// Speeds that are closer than this are the same: fewer threads, or the simpler way, are as good.
constexpr double kSameSpeed = 0.02;
constexpr double kFullRate = 0.95;

double PerSecond(double seconds) { return seconds > 0 ? 1 / seconds : 0; }

HitRange HitsAt(const NeuronPlanRequest& request, const WayRequest& way, double held_share, size_t batch) {
  if (way.way == RunWay::kNeurons) return request.firing->Hits(held_share, batch);
  const double share = way.way == RunWay::kResident ? 1 : held_share;  // matrices come in rotation
  return {share, share, share};
}

double HeldShare(const WayRequest& way, int64_t budget_bytes) {
  if (way.block_bytes <= 0) return 1;
  const auto left = static_cast<double>(budget_bytes - way.pinned_bytes + way.lent_bytes);
  return std::clamp(left / static_cast<double>(way.block_bytes), 0.0, 1.0);
}

MachineRates RatesOf(const HardwareProfile& machine, const WayRequest& way, int32_t n_threads) {
  const double pieces = way.work.expert_pieces;
  return RatesFor(machine, n_threads, pieces > 0 ? static_cast<int64_t>(way.work.expert_file_bytes / pieces) : 0);
}

SpeedEstimate TokenOf(const NeuronPlanRequest& request, const WayRequest& way, const MachineRates& rates,
                      double held_share) {
  return EstimateToken(rates, way.work, request.position, HitsAt(request, way, held_share, 0));
}

bool Fits(const WayRequest& way, int64_t budget_bytes) {
  return budget_bytes >= way.pinned_bytes + (way.way == RunWay::kResident ? way.block_bytes : 0);
}

int32_t DepthFor(const MachineRates& rates) {
  double best = 0;
  for (const DepthRate& rate : rates.disk) best = std::max(best, rate.bytes_per_s);
  for (const DepthRate& rate : rates.disk) {
    if (rate.bytes_per_s >= kFullRate * best) return rate.queue_depth;
  }
  return 0;
}

// Seconds of a token never rise with the share that is held, so the least one is found by halving.
int64_t LeastBudget(const NeuronPlanRequest& request, const WayRequest& way, const MachineRates& rates) {
  if (request.least_tok_per_s <= 0) return 0;
  const auto in_time = [&](double held) {
    return PerSecond(TokenOf(request, way, rates, held).likely_s) >= request.least_tok_per_s;
  };
  if (!in_time(1)) return 0;
  double low = way.way == RunWay::kResident ? 1 : 0, high = 1;
  if (in_time(low)) high = low;
  for (int i = 0; i < 30 && high > low; ++i) {
    const double middle = (low + high) / 2;
    (in_time(middle) ? high : low) = middle;
  }
  const auto held_bytes = static_cast<int64_t>(std::ceil(high * static_cast<double>(way.block_bytes)));
  return way.pinned_bytes + std::max<int64_t>(held_bytes - way.lent_bytes, 0);
}

WayPlan PlanWay(const HardwareProfile& machine, const NeuronPlanRequest& request, const WayRequest& way) {
  WayPlan plan = {.way = way.way,
                  .held_share = way.way == RunWay::kResident ? 1 : HeldShare(way, request.budget_bytes)};
  plan.hits = HitsAt(request, way, plan.held_share, 0);
  for (int32_t n_threads = 1; n_threads <= request.most_threads; ++n_threads) {
    const SpeedEstimate token = TokenOf(request, way, RatesOf(machine, way, n_threads), plan.held_share);
    if (n_threads > 1 && token.likely_s > (1 - kSameSpeed) * plan.token.likely_s) continue;
    plan.token = token;
    plan.n_threads = n_threads;
  }
  const MachineRates rates = RatesOf(machine, way, plan.n_threads);
  if (plan.hits.likely < 1) plan.queue_depth = DepthFor(rates);
  plan.least_budget_bytes = LeastBudget(request, way, rates);
  return plan;
}

BatchPlan PlanBatch(const NeuronPlanRequest& request, const WayRequest& way, const WayPlan& chosen,
                    const MachineRates& rates, size_t batch) {
  BatchPlan plan = {.n_tokens = FiringCurve::kBatches[batch]};
  const double of_layer = request.firing->active_share(batch) * way.work.n_experts;
  plan.n_firing = of_layer * way.work.n_expert_layers;
  plan.hits = HitsAt(request, way, chosen.held_share, batch);
  plan.n_reads = plan.n_firing * (1 - plan.hits.likely);
  plan.run = EstimateBatch(rates, way.work, plan.n_tokens, request.position, of_layer, plan.hits);
  return plan;
}

// Of n_used networks a layer, which have n_neurons together with those that are not used.
void AddNeurons(ModelWork& work, const FiringCurve& firing, int32_t n_layers, int32_t n_neurons, int32_t n_used,
                int64_t kept_bytes, int64_t read_bytes, int64_t macs_per_neuron) {
  const double firing_of_layer = firing.active_share(0) * n_neurons;
  const double n_segments = std::ceil(firing_of_layer / n_used / kSegment);
  work.n_expert_layers = n_layers;
  work.n_experts = n_neurons;
  work.n_experts_used = static_cast<int32_t>(std::lround(firing_of_layer));
  work.used_by_run = firing.woken_by_run();
  work.n_loops += n_layers * n_used * (kGateParts + 1 + kLoopsOfSegment * n_segments);
  work.n_bursts = kGateParts * n_used;
  work.expert_bytes = kScattered * static_cast<double>(kept_bytes);
  work.expert_file_bytes = static_cast<double>(read_bytes);
  work.expert_pieces = 1;
  work.expert_int8_macs = static_cast<double>(macs_per_neuron);
  work.int8_macs += int64_t{n_layers} * work.n_experts_used * macs_per_neuron;
}

}  // namespace

std::string_view RunWayName(RunWay way) {
  switch (way) {
    case RunWay::kResident: return "in memory";
    case RunWay::kMatrices: return "by matrix";
    case RunWay::kNeurons: return "by neuron";
  }
  return "";
}

ModelWork NeuronWork(const ModelWork& dense, const FiringCurve& firing, int32_t n_layers, int32_t n_neurons,
                     int64_t gate_bytes, int64_t kept_bytes, int64_t read_bytes, int64_t macs_per_neuron) {
  ModelWork work = dense;
  AddNeurons(work, firing, n_layers, n_neurons, 1, kept_bytes, read_bytes, macs_per_neuron);
  work.rows_share = 1;
  work.n_loops -= n_layers * kLoopsOfDense;
  work.overlapped_bytes = static_cast<int64_t>(kGatesOverlapped * static_cast<double>(gate_bytes));
  return work;
}

ModelWork ExpertNeuronWork(const FiringCurve& firing, int32_t n_layers, int32_t n_neurons, int32_t n_used,
                           int64_t kept_bytes, int64_t read_bytes, int64_t macs_per_neuron) {
  ModelWork work;
  AddNeurons(work, firing, n_layers, n_neurons, n_used, kept_bytes, read_bytes, macs_per_neuron);
  return work;
}

NeuronPlan PlanNeurons(const HardwareProfile& machine, const NeuronPlanRequest& request) {
  NeuronPlan plan;
  for (const WayRequest& way : request.ways) {
    if (!Fits(way, request.budget_bytes)) continue;
    const WayPlan& chosen = plan.ways.emplace_back(PlanWay(machine, request, way));
    if (way.way != RunWay::kNeurons) continue;
    const MachineRates rates = RatesOf(machine, way, chosen.n_threads);
    for (size_t batch = 0; batch < FiringCurve::kBatches.size(); ++batch) {
      plan.batches.push_back(PlanBatch(request, way, chosen, rates, batch));
    }
  }
  std::sort(plan.ways.begin(), plan.ways.end(), [](const WayPlan& a, const WayPlan& b) {
    return std::pair(a.token.likely_s, a.way) < std::pair(b.token.likely_s, b.way);
  });
  return plan;
}

}  // namespace pantry
