// SPDX-License-Identifier: Apache-2.0
// The feed-forward step of models whose neurons come one by one from a source: only those that fire, for any number of rows.
#include <algorithm>
#include <array>

#include "compute/neuron_matmul.h"
#include "models/forward_pass.h"

namespace pantry {
namespace {

// The gate of a few rows is computed in so many parts, and what fires in one is being read while the next is computed.
constexpr int64_t kGateParts = 4;
constexpr int64_t kFewRows = 4;
constexpr int64_t kUnit = kActivationBlock;
constexpr size_t kMostAtOnce = NeuronSource::kMostAtOnce;

// Lists what fires of neurons [begin, end) in any of m rows, and in how many.
size_t ListFiring(const FiringGates& firing, const float* gate, int64_t m, int64_t stride, int64_t begin, int64_t end,
                  int32_t* list, uint16_t* counts) {
  std::fill_n(counts, end - begin, uint16_t{0});
  for (int64_t row = 0; row < m; ++row) {
    const float* const of_row = gate + row * stride + begin;
    for (int64_t i = 0; i < end - begin; ++i)
      counts[i] = static_cast<uint16_t>(counts[i] + (firing.Contain(of_row[i]) ? 1 : 0));
  }
  size_t n = 0;
  for (int64_t i = 0; i < end - begin; ++i) {
    const uint16_t count = counts[i];
    list[n] = static_cast<int32_t>(begin + i);
    counts[n] = count;
    n += count > 0 ? 1 : 0;
  }
  return n;
}

// Leaves out of `firing`, of a single row, what a prior does, and returns how many run. `is_near`: scratch.
size_t LeaveOut(NeuronPrior& prior, const NeuronSource& source, const float* gate, std::span<int32_t> firing,
                std::span<uint8_t> is_near) {
  source.Look(firing, is_near);
  return prior.Choose(gate, is_near, firing);
}

// Where the last whole unit ends before which at most kMostAtOnce of `firing` lie.
int64_t EndOfSegment(std::span<const int32_t> firing, int64_t n_neurons) {
  return firing.size() <= kMostAtOnce ? n_neurons : firing[kMostAtOnce] / kUnit * kUnit;
}

}  // namespace

void ForwardPass::FeedForwardFromSource(const GluWeights& weights, const float* in, float* out) {
  PANTRY_CHECK(shape_.gates_by_relu() && n_ff == weights.neurons.layout.n_neurons());
  FlushRowSteps();
  if (!status_.ok()) return;
  NeuronSource& source = *run_.neuron_source;
  const NeuronLayer& neurons = weights.neurons;
  const NeuronRun run = {.layout = &neurons.layout,
                         .scales = neurons.scales,
                         .x = ActivationRows::InScratch(in, m, shape_.n_embd, quantized_),
                         .gate = gate,
                         .gate_stride = n_ff,
                         .activation = shape_activation(),
                         .ops = &ops_,
                         .hidden = ActivationRows::InScratch(nullptr, m, n_ff, reinterpret_cast<uint8_t*>(ff)),
                         .columns = columns_,
                         .out = out};
  status_ = source.BeginNeurons(weights.layer, m);
  if (!status_.ok()) return;
  NeuronPrior* const prior = run_.neuron_prior;
  const bool chooses = prior != nullptr && m == 1;
  if (chooses) prior->Begin(weights.layer);

  const WeightMatrix& whole = weights.gate;
  const int64_t n_units = (n_ff + kUnit - 1) / kUnit, n_parts = m <= kFewRows ? std::min(kGateParts, n_units) : 1;
  size_t n_firing = 0;
  for (int64_t part = 0; part < n_parts; ++part) {
    const int64_t begin = n_units * part / n_parts * kUnit;
    const int64_t end = std::min(n_units * (part + 1) / n_parts * kUnit, n_ff);
    WeightMatrix rows = whole;
    rows.rows = end - begin;
    rows.tiles += begin / whole.kernel->row_tile * whole.kernel->packed_tile_bytes(whole.cols);
    const MatMulTask task = {&rows, gate + begin, n_ff};
    MatMul(pool_, {&task, 1}, run.x);
    int32_t* const list = firing_ + n_firing;
    uint16_t* const n_uses = n_rows_firing_ + n_firing;
    size_t n = ListFiring(FiringOf(weights), gate, m, n_ff, begin, end, list, n_uses);
    if (chooses) n = LeaveOut(*prior, source, gate, {list, n}, {reinterpret_cast<uint8_t*>(n_uses), n});
    source.Want({list, n}, {n_uses, m == 1 ? 0 : n});
    n_firing += n;
  }
  if (chooses) {
    prior->End();
  } else if (prior != nullptr) {
    for (int64_t row = 0; row < m; ++row) prior->Learn(weights.layer, {gate + row * n_ff, static_cast<size_t>(n_ff)});
  }

  std::span<const int32_t> left(firing_, n_firing);
  std::array<const uint8_t*, kMostAtOnce> bundles;
  for (int64_t begin = 0; begin < n_ff;) {
    const int64_t end = EndOfSegment(left, n_ff);
    const auto n =
        static_cast<size_t>(std::lower_bound(left.begin(), left.end(), static_cast<int32_t>(end)) - left.begin());
    status_ = source.Await({bundles.data(), n});
    if (!status_.ok()) return;
    ComputeNeurons(pool_, run, {begin, end, left.first(n), {bundles.data(), n}});
    source.ReleaseNeurons();
    left = left.subspan(n);
    begin = end;
  }
  source.EndNeurons();
}

}  // namespace pantry
