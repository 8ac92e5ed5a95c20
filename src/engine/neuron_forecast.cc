// SPDX-License-Identifier: Apache-2.0
#include "engine/neuron_forecast.h"

#include <algorithm>
#include <span>
#include <vector>

#include "engine/weight_stream.h"
#include "io/reader.h"
#include "policy/planner/neuron_plan.h"

namespace pantry {
namespace {

int64_t BytesOf(const WeightMatrix& matrix) {
  return WeightMatrix::PackedBytes(*matrix.kernel, matrix.rows, matrix.cols);
}

// What a disk transfers for a bundle: the blocks that it lies in, on average over the places where it may begin.
int64_t ReadBytes(int64_t bundle_bytes) {
  constexpr auto kBlock = static_cast<int64_t>(Reader::kBlockBytes);
  return bundle_bytes % kBlock == 0 ? bundle_bytes : bundle_bytes + kBlock - NeuronLayout::kBundleAlignment;
}

}  // namespace

FiringCurve CurveOf(const NeuronProfile& profile) {
  std::vector<std::span<const uint16_t>> frequency;
  FiringCurve::RunShares active_shares = {};
  for (const NeuronProfile::Layer& layer : profile.layers) {
    frequency.emplace_back(layer.frequency);
    for (size_t b = 0; b < active_shares.size(); ++b) {
      static_assert(FiringCurve::kRuns == NeuronProfile::kBatches, "run b is the profile's batch b");
      active_shares[b] += layer.active_share[b] / static_cast<double>(profile.layers.size());
    }
  }
  return FiringCurve::Of(frequency, active_shares);
}

ModelWork NeuronWorkOf(const ModelShape& shape, const ModelCost& cost, const WeightPlacer& blocks,
                       const SessionOptions& session, const FiringCurve& firing) {
  ModelWork dense = WorkOf(shape, cost, WeightPlacer(), session);
  const int32_t n_layers = blocks.n_layers();
  const NeuronLayout& layout = *blocks.neurons();
  const int64_t n_neurons = layout.n_neurons(), macs = layout.up.cols + layout.down.rows;
  // Up and down, but for down's scales, come by neuron. Gate is as large as up.
  dense.dense_bytes -= n_layers * (BytesOf(layout.up) + BytesOf(layout.down) - layout.scales_bytes);
  dense.int8_macs -= n_layers * n_neurons * macs;
  ModelWork work = NeuronWork(dense, firing, n_layers, static_cast<int32_t>(n_neurons), n_layers * BytesOf(layout.up),
                              layout.kept_bytes, ReadBytes(layout.bundle_bytes), macs);
  work.neighbour_bytes = static_cast<double>(layout.bundle_bytes);
  return work;
}

double NeuronsHeld(const MemoryPlan& plan, int64_t position) {
  if (plan.block_bytes == 0) return 1;
  const int64_t most_bytes = plan.cache_bytes + LentBytes(plan, position);
  return std::min(static_cast<double>(most_bytes) / static_cast<double>(plan.block_bytes), 1.0);
}

int64_t LentBytes(const MemoryPlan& plan, int64_t position) {
  const auto used = static_cast<double>(std::min(position, plan.n_ctx)) / static_cast<double>(plan.n_ctx);
  return plan.scratch_bytes + static_cast<int64_t>((1 - used) * static_cast<double>(plan.kv_bytes));
}

RunForecast NeuronForecast(const ModelWork& work, const FiringCurve& firing, const MemoryPlan& plan,
                           const HardwareProfile& machine, int32_t n_threads, const SessionOptions& session,
                           int64_t position, bool is_warm) {
  RunForecast forecast = Forecast(work, plan, machine, n_threads, session);
  forecast.work = work;  // whose loops are counted
  forecast.cache_share = NeuronsHeld(plan, position);
  forecast.is_warm = is_warm;
  forecast.hits = firing.Hits(NeuronsHeld(plan, position), 0);
  return forecast;
}

namespace {

// The share of tokens that use each expert.
FiringCurve UseOf(const NeuronProfile& profile) {
  std::vector<std::span<const uint16_t>> use;
  for (const NeuronProfile::Layer& layer : profile.layers) use.emplace_back(layer.use);
  return FiringCurve::Of(use, {});
}

}  // namespace

SpeedEstimate ExpertNeuronForecast::Prompt(int64_t n_tokens, int64_t n_batch) const {
  SpeedEstimate sum =
      EstimatePrompt(gates.rates, gates.work, n_tokens, n_batch, gates_held < 1, gates_held, gates.hits.likely);
  const SpeedEstimate more = EstimatePrompt(neurons.rates, neurons.work, n_tokens, n_batch, neurons_held < 1,
                                            neurons_held, neurons.hits.likely);
  for (double SpeedEstimate::* const part :
       {&SpeedEstimate::memory_s, &SpeedEstimate::arithmetic_s, &SpeedEstimate::disk_s, &SpeedEstimate::low_s,
        &SpeedEstimate::likely_s, &SpeedEstimate::high_s}) {
    sum.*part += more.*part;
  }
  sum.binds = BindingOf(sum);
  return sum;
}

ExpertNeuronForecast ForecastExperts(const ModelShape& shape, const ModelNeeds& needs, const NeuronProfile& profile,
                                     const MemoryPlan& plan, const HardwareProfile& machine, int32_t n_threads,
                                     const SessionOptions& session, int64_t position) {
  const WeightPlacer& blocks = needs.blocks;
  const NeuronLayout& layout = *blocks.neurons();
  const int64_t n_layers = blocks.n_layers(), n_neurons = layout.n_neurons(), n_used = shape.n_experts_used;
  const int64_t macs = layout.up.cols + layout.down.rows;
  const FiringCurve firing = CurveOf(profile);
  const int64_t cache_bytes = plan.cache_bytes + LentBytes(plan, position);
  const int64_t n_held = WeightStream::BlocksHeld(blocks, cache_bytes);
  const int64_t held_bytes = n_held * blocks.block_bytes(blocks.Block(0, 0));

  ExpertNeuronForecast forecast;
  ModelWork& gates = forecast.gates.work;
  gates = WorkOf(shape, needs.cost, blocks, session);
  gates.expert_cost = {};  // all of a gate is computed
  gates.expert_int8_macs = static_cast<double>(n_neurons * layout.up.cols);
  gates.dense_bytes -= n_layers * n_used * (BytesOf(layout.up) + BytesOf(layout.down) - layout.scales_bytes);
  gates.int8_macs -= n_layers * n_used * n_neurons * macs;
  forecast.gates_held = static_cast<double>(n_held) / static_cast<double>(blocks.n_blocks());
  forecast.gates.hits = UseOf(profile).Hits(forecast.gates_held, 0);
  forecast.gates.rates = RatesFor(machine, n_threads, PieceBytes(gates));

  forecast.neurons.work =
      ExpertNeuronWork(firing, static_cast<int32_t>(n_layers), static_cast<int32_t>(shape.n_experts * n_neurons),
                       static_cast<int32_t>(n_used), blocks.kept_neuron_bytes(), ReadBytes(layout.bundle_bytes), macs);
  forecast.neurons.work.neighbour_bytes = static_cast<double>(layout.bundle_bytes);
  forecast.neurons.work.rows_share = static_cast<double>(n_used) / static_cast<double>(shape.n_experts);
  const auto all_bytes = static_cast<double>(blocks.n_blocks() * n_neurons * blocks.kept_neuron_bytes());
  forecast.neurons_held = std::min(static_cast<double>(cache_bytes - held_bytes) / all_bytes, 1.0);
  forecast.neurons.hits = firing.Hits(forecast.neurons_held, 0);
  forecast.neurons.rates = RatesFor(machine, n_threads, PieceBytes(forecast.neurons.work));
  return forecast;
}

}  // namespace pantry
