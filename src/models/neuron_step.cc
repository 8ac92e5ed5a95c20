// SPDX-License-Identifier: Apache-2.0
// The feed-forward step of networks whose neurons lie one by one: dense ones in memory, and dense ones or experts that come from a source.
// Only those that fire, for any number of rows.
#include <algorithm>
#include <array>

#include "compute/neuron_matmul.h"
#include "models/forward_pass.h"

namespace pantry {
namespace {

// The gate of a few rows is computed in so many parts, and what fires in one is being read while the next is computed.
constexpr int64_t kGateParts = 8;
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

// Computes the gates of a network, whose rows are in their form, and asks its source for what fires, which it lists: [n_ff] there is room for.
// What fires in a part is wanted while the workers have begun with the next: looking it up and telling the disk takes as long as a part.
// A prior, if given, leaves some out.
size_t ForwardPass::WantFiring(const SourcedNetwork& network, const FiringGates& fires, NeuronPrior* prior,
                               int32_t* list, uint16_t* n_uses) {
  NeuronSource& source = *run_.neuron_source;
  const NeuronRun& run = network.run;
  const WeightMatrix& whole = network.gate;
  const int64_t n_rows = run.x.n_rows, n_units = (whole.rows + kUnit - 1) / kUnit;
  const int64_t n_parts = n_rows <= kFewRows ? std::min(kGateParts, n_units) : 1;
  const auto begin_of = [&](int64_t part) { return std::min(n_units * part / n_parts * kUnit, whole.rows); };
  size_t n_firing = 0;
  const auto want = [&](int64_t part) {
    int32_t* const firing = list + n_firing;
    uint16_t* const counts = n_uses + n_firing;
    size_t n = ListFiring(fires, run.gate, n_rows, run.gate_stride, begin_of(part), begin_of(part + 1), firing, counts);
    if (prior != nullptr) n = LeaveOut(*prior, source, run.gate, {firing, n}, {reinterpret_cast<uint8_t*>(counts), n});
    source.Want(network.number, {firing, n}, {counts, n_rows == 1 ? 0 : n});
    n_firing += n;
  };
  for (int64_t part = 0; part < n_parts; ++part) {
    const int64_t begin = begin_of(part);
    WeightMatrix rows = whole;
    rows.rows = begin_of(part + 1) - begin;
    rows.tiles += begin / whole.kernel->row_tile * whole.kernel->packed_tile_bytes(whole.cols);
    const MatMulTask task = {&rows, run.gate + begin, run.gate_stride};
    const auto want_before = [&] { want(part - 1); };
    MatMulPrepared(pool_, {&task, 1}, run.x, part > 0 ? FunctionRef<void()>(want_before) : FunctionRef<void()>());
  }
  want(n_parts - 1);
  return n_firing;
}

// Activates, of what fires for a few rows, the neurons that lie in memory, and says of each whether it was one; the others are read meanwhile.
// Many rows want so many that one segment is read while another is computed.
void ForwardPass::ActivateNear(const SourcedNetwork& network, std::span<const int32_t> firing, uint16_t* is_activated) {
  NeuronSource& source = *run_.neuron_source;
  std::fill_n(is_activated, firing.size(), uint16_t{0});
  if (network.run.x.n_rows > kFewRows) return;
  std::array<const uint8_t*, kMostAtOnce> bundles;
  size_t n_near = 0;
  for (size_t begin = 0; begin < firing.size(); begin += kMostAtOnce) {
    const size_t n = std::min(kMostAtOnce, firing.size() - begin);
    source.Peek(begin, {bundles.data(), n});
    for (size_t i = 0; i < n; ++i) {
      near_[n_near] = firing[begin + i];
      columns_[n_near] = bundles[i];
      is_activated[begin + i] = bundles[i] != nullptr ? 1 : 0;
      n_near += is_activated[begin + i];
    }
  }
  const auto fetch = [&source] { source.FetchOn(); };
  ActivateNeurons(pool_, network.run, {near_, n_near}, {columns_, n_near}, FunctionRef<void()>(fetch));
}

// Computes those neurons, as they come. `is_activated`: scratch, one for each.
Status ForwardPass::ComputeFiring(const SourcedNetwork& network, std::span<const int32_t> firing,
                                  uint16_t* is_activated) {
  NeuronSource& source = *run_.neuron_source;
  ActivateNear(network, firing, is_activated);
  std::array<const uint8_t*, kMostAtOnce> bundles, late_bundles;
  std::array<int32_t, kMostAtOnce> late;
  for (int64_t begin = 0; begin < network.gate.rows;) {
    const int64_t end = EndOfSegment(firing, network.gate.rows);
    const auto n =
        static_cast<size_t>(std::lower_bound(firing.begin(), firing.end(), static_cast<int32_t>(end)) - firing.begin());
    PANTRY_RETURN_IF_ERROR(source.Await({bundles.data(), n}));
    size_t n_late = 0;
    for (size_t i = 0; i < n; ++i) {
      late[n_late] = firing[i];
      late_bundles[n_late] = bundles[i];
      n_late += is_activated[i] == 0 ? 1 : 0;
    }
    ActivateNeurons(pool_, network.run, {late.data(), n_late}, {late_bundles.data(), n_late});
    SumNeurons(pool_, network.run, {begin, end, firing.first(n), {bundles.data(), n}});
    source.ReleaseNeurons();
    firing = firing.subspan(n);
    is_activated += n;
    begin = end;
  }
  return OkStatus();
}

void ForwardPass::FeedForwardByNeuron(const GluWeights& weights, const float* in, float* out) {
  const NeuronLayout& layout = weights.neurons.layout;
  const int64_t n_neurons = layout.n_neurons();
  PANTRY_CHECK(n_neurons <= n_ff);
  const ActivationRows rows = ActivationRows::InScratch(in, m, shape_.n_embd, quantized_);
  ByRow(
      [&rows, &quantizer = VectorOpsFor(weights.gate.kernel->isa)](int64_t row) { quantizer.quantize_row(rows, row); });
  FlushRowSteps();
  if (!status_.ok()) return;
  const NeuronRun run = {.layout = &layout,
                         .scales = weights.neurons.scales,
                         .x = rows,
                         .gate = gate,
                         .gate_stride = n_neurons,
                         .activation = shape_activation(),
                         .ops = &ops_,
                         .hidden = ActivationRows::InScratch(nullptr, m, n_neurons, reinterpret_cast<uint8_t*>(ff)),
                         .columns = columns_,
                         .out = out};
  if (weights.neurons.in_memory) ComputeInMemory(weights, run);
  else status_ = ComputeFromSource(weights, run);
}

void ForwardPass::ComputeInMemory(const GluWeights& weights, const NeuronRun& run) {
  NeuronChoice choice = {.firing = FiringOf(weights),
                         .n_firing = run_.n_firing,
                         .predictor = PredictorOf(weights.layer, 0),
                         .prediction = run_.prediction};
  const bool only_predicted = choice.predictor != nullptr && m == 1 && run_.neurons == nullptr &&
                              weights.gate.kernel->order == WeightOrder::kRows;
  if (only_predicted) choice.gate = &weights.gate;
  const MatMulTask gates = {&weights.gate, run.gate, run.gate_stride};
  if (!only_predicted) MatMulPrepared(pool_, {&gates, 1}, run.x);
  if (run_.neurons != nullptr) ObserveNeurons(weights, run);
  if (choice.predictor != nullptr && choice.predictor->rank() > 0) {
    const MatMulTask reduced = {&choice.predictor->v, run_.prediction->reduced, run_.prediction->most_rank};
    MatMul(pool_, {&reduced, 1}, run.x);
  }
  ComputeNeurons(pool_, run, choice);
}

// Neurons that rest are computed for the observer alone.
void ForwardPass::ObserveNeurons(const GluWeights& weights, const NeuronRun& run) {
  const int64_t n_neurons = run.gate_stride;
  float* const ups = run.gate + m * n_neurons;
  ComputeUps(pool_, *run.layout, run.scales, run.x, ups, n_neurons);
  run_.neurons->Gated(weights.layer, m, n_neurons, run.gate, ups, n_neurons);
  for (int64_t row = 0; row < m; ++row) {
    run_.neurons->Fed(weights.layer, 0, {run.x.f32 + row * shape_.n_embd, static_cast<size_t>(shape_.n_embd)},
                      {run.gate + row * n_neurons, static_cast<size_t>(n_neurons)});
  }
}

Status ForwardPass::ComputeFromSource(const GluWeights& weights, const NeuronRun& run) {
  PANTRY_CHECK(shape_.gates_by_relu());
  NeuronSource& source = *run_.neuron_source;
  const SourcedNetwork network = {.number = 0, .gate = weights.gate, .run = run};
  PANTRY_RETURN_IF_ERROR(source.BeginNeurons(weights.layer, m));
  NeuronPrior* const prior = run_.neuron_prior;
  const bool chooses = prior != nullptr && m == 1;
  if (chooses) prior->Begin(weights.layer);
  const size_t n = WantFiring(network, FiringOf(weights), chooses ? prior : nullptr, firing_, n_rows_firing_);
  if (chooses) {
    prior->End();
  } else if (prior != nullptr) {
    for (int64_t row = 0; row < m; ++row) {
      prior->Learn(weights.layer, {run.gate + row * run.gate_stride, static_cast<size_t>(run.gate_stride)});
    }
  }
  PANTRY_RETURN_IF_ERROR(ComputeFiring(network, {firing_, n}, n_rows_firing_));
  source.EndNeurons();
  return OkStatus();
}

// An expert's picks as rows that follow each other: in place where they are one, else gathered.
ActivationRows ForwardPass::RowsOf(const ExpertTask& task, const ActivationRows& in) const {
  const int32_t* const rows = pick_row_ + task.first_pick;
  if (rows[task.n_picks - 1] - rows[0] + 1 == task.n_picks) return in.Rows(rows[0], task.n_picks);  // they ascend
  const ActivationRows gathered =
      ActivationRows::InScratch(nullptr, m * n_slots, in.n_cols, gathered_).Rows(task.first_pick, task.n_picks);
  for (int64_t i = 0; i < task.n_picks; ++i) {
    CopyActivationRow(ActivationFormat::kQ8, in.Rows(rows[i], 1), gathered.Rows(i, 1));
  }
  return gathered;
}

// The gates of all experts that are there come first, so that the disk has the neurons of all of them to read meanwhile.
Status ForwardPass::ComputeExpertNeurons(int32_t layer, const ExpertLayer& experts, const ActivationRows& in,
                                         GatedActivation activation, std::span<const ExpertTask> tasks) {
  const int64_t n_neurons = experts.neurons.n_neurons();
  const int64_t out_stride = ExpertRun::ScratchFloats(shape_.n_embd);
  const int64_t gate_stride = ExpertRun::ScratchFloats(n_neurons);
  PANTRY_CHECK(out_stride == shape_.n_embd && in.q != nullptr);
  const auto network_of = [&](const ExpertTask& task) -> SourcedNetwork {
    float* const gates = expert_ff_ + task.first_pick * gate_stride;
    WeightMatrix of_gate = experts.layout.shape.gate;
    of_gate.tiles = task.block;
    return {.number = task.expert,
            .gate = of_gate,
            .run = {.layout = &experts.neurons,
                    .scales = task.block + experts.neurons_at,
                    .x = RowsOf(task, in),
                    .gate = gates,
                    .gate_stride = gate_stride,
                    .activation = activation,
                    .ops = &ops_,
                    .hidden = ActivationRows::InScratch(nullptr, task.n_picks, n_neurons, hidden_),
                    .columns = columns_,
                    .out = partials_ + task.first_pick * out_stride}};
  };
  for (const ExpertTask& task : tasks) {
    const int64_t at = task.expert * n_neurons;
    const SourcedNetwork network = network_of(task);
    n_firing_of_[task.expert] =
        static_cast<int32_t>(WantFiring(network, FiringGates::Positive(), nullptr, firing_ + at, n_rows_firing_ + at));
    for (int64_t i = 0; run_.neurons != nullptr && i < task.n_picks; ++i) {
      run_.neurons->Fed(layer, task.expert,
                        {in.Rows(pick_row_[task.first_pick + i], 1).f32, static_cast<size_t>(in.n_cols)},
                        {network.run.gate + i * gate_stride, static_cast<size_t>(n_neurons)});
    }
  }
  for (const ExpertTask& task : tasks) {
    const std::span<const int32_t> firing(firing_ + task.expert * n_neurons,
                                          static_cast<size_t>(n_firing_of_[task.expert]));
    PANTRY_RETURN_IF_ERROR(ComputeFiring(network_of(task), firing, n_rows_firing_ + task.expert * n_neurons));
  }
  return OkStatus();
}

Status ForwardPass::ComputeExpertsFromSource(int32_t layer, const ExpertLayer& experts, const ActivationRows& in,
                                             GatedActivation activation, std::span<ExpertTask> tasks) {
  PANTRY_RETURN_IF_ERROR(run_.neuron_source->BeginNeurons(layer, m));
  Status computed;
  const auto compute = [&](std::span<const ExpertTask> part) {
    if (computed.ok()) computed = ComputeExpertNeurons(layer, experts, in, activation, part);
  };
  Status provided = run_.experts->Provide(layer, tasks, ExpertSink(compute));
  PANTRY_RETURN_IF_ERROR(computed);  // which ended the layer's neurons
  run_.neuron_source->EndNeurons();
  return provided;
}

}  // namespace pantry
