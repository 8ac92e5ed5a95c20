// SPDX-License-Identifier: Apache-2.0
#include "engine/neuron_forecast.h"

#include <algorithm>
#include <span>
#include <vector>

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
  std::array<double, FiringCurve::kBatches.size()> active_shares = {};
  for (const NeuronProfile::Layer& layer : profile.layers) {
    frequency.emplace_back(layer.frequency);
    for (size_t b = 0; b < active_shares.size(); ++b) {
      static_assert(FiringCurve::kBatches[2] == NeuronProfile::kBatches[2], "batch b is the profile's batch b");
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
  return NeuronWork(dense, firing, n_layers, static_cast<int32_t>(n_neurons), n_layers * BytesOf(layout.up),
                    layout.kept_bytes, ReadBytes(layout.bundle_bytes), macs);
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
                           const HardwareProfile& machine, int32_t n_threads, const SessionOptions& session) {
  RunForecast forecast = Forecast(work, plan, machine, n_threads, session);
  forecast.hits = firing.Hits(NeuronsHeld(plan, kTypicalPosition), 0);
  return forecast;
}

}  // namespace pantry
