// SPDX-License-Identifier: Apache-2.0
// The steps of a forward pass that deal with experts: choose, compute, mix.
#include <algorithm>
#include <cmath>

#include "compute/activations.h"
#include "models/expert_routing.h"
#include "models/forward_pass.h"
#include "policy/routing/exact.h"

namespace pantry {

void ForwardPass::RouteExperts(int32_t layer, const float* in, const WeightMatrix& router, const float* router_bias) {
  Project(in, {{router, router_logits}}, shape_.n_experts);
  AddBias(router_logits, router_bias, shape_.n_experts, shape_.n_experts);
  const bool as_liked = run_.chooser == nullptr;
  if (!as_liked) {
    FlushRowSteps();
    run_.chooser->Choose(layer, m, RouterLogits(), Chosen());
  }
  ByRow([this, as_liked](int64_t row) {
    const auto n_experts = static_cast<size_t>(shape_.n_experts);
    const std::span<const float> logits = RouterLogits().subspan(static_cast<size_t>(row) * n_experts, n_experts);
    std::span<int32_t> row_chosen(chosen + row * n_slots, static_cast<size_t>(n_slots));
    if (as_liked) ChooseExperts(logits, row_chosen);
    while (!row_chosen.empty() && row_chosen.back() == ExpertChooser::kNone) {
      mix[row * n_slots + static_cast<int64_t>(row_chosen.size()) - 1] = 0;
      row_chosen = row_chosen.first(row_chosen.size() - 1);
    }
    pantry::MixExperts(shape_.expert_mixing, logits, row_chosen, {routing_ + row * shape_.n_experts, n_experts},
                       {mix + row * n_slots, row_chosen.size()});
  });
}

void ForwardPass::ExpectExperts(int32_t layer) {
  if (run_.experts == nullptr) return;
  FlushRowSteps();
  run_.experts->Expect(layer, Chosen(), 1);
}

// The residual stream changes little from layer to layer, so a later layer's router chooses mostly the same now (recall of 0.77 to 0.87
// one layer ahead, published for trained models). In prefill nearly all experts are wanted anyway. What a chooser does to several rows is
// mostly nothing, so their guesses are the router's own.
void ForwardPass::GuessExperts(int32_t layer, const float* norm, const WeightMatrix& router, const float* norm_bias,
                               const float* router_bias) {
  constexpr double kLikelihood = 0.7;
  if (run_.experts == nullptr || m > kGuessRows) return;
  FlushRowSteps();
  const int64_t n = shape_.n_embd;
  const float* in = x;
  for (int64_t row = 0; row < m && norm != nullptr; ++row) {
    if (norm_bias == nullptr) ops_.rms_norm(x + row * n, norm, n, shape_.norm_eps, guess_ + row * n);
    else ops_.layer_norm(x + row * n, norm, norm_bias, n, shape_.norm_eps, guess_ + row * n);
    in = guess_;
  }
  float* const logits = guess_ + m * n;
  const MatMulTask task = {&router, logits, shape_.n_experts};
  MatMul(pool_, {&task, 1}, ActivationRows::InScratch(in, m, n, quantized_));
  auto* const guessed = reinterpret_cast<int32_t*>(logits + m * shape_.n_experts);
  for (int64_t row = 0; row < m; ++row) {
    float* const of_row = logits + row * shape_.n_experts;
    if (router_bias != nullptr) ops_.add(of_row, router_bias, shape_.n_experts);
    const std::span<const float> of_next(of_row, static_cast<size_t>(shape_.n_experts));
    const std::span<int32_t> by_row(guessed + row * n_slots, static_cast<size_t>(n_slots));
    if (run_.chooser != nullptr && m == 1) run_.chooser->Guess(layer, of_next, by_row);
    else ChooseExperts(of_next, by_row);
  }
  // Each once, what the rows like best first.
  int32_t* const all = guessed + m * n_slots;
  int32_t* end = all;
  for (int64_t i = 0; i < m * n_slots; ++i) {
    const int32_t expert = guessed[i % m * n_slots + i / m];
    if (std::find(all, end, expert) == end) *end++ = expert;
  }
  run_.experts->Expect(layer, {all, end}, kLikelihood);
}

// Sorts the run's picks by expert, and by row within an expert. The tasks of the experts that were chosen, without blocks.
std::span<ExpertTask> ForwardPass::GroupPicks() {
  const int64_t n_picks = m * n_slots;
  for (int32_t i = 0; i < shape_.n_experts; ++i) tasks_[i] = {.expert = i};
  for (int64_t pick = 0; pick < n_picks; ++pick) {
    if (chosen[pick] != ExpertChooser::kNone) ++tasks_[chosen[pick]].n_picks;
  }
  int64_t n_before = 0;
  for (int32_t i = 0; i < shape_.n_experts; ++i) {
    tasks_[i].first_pick = n_before;
    n_before += tasks_[i].n_picks;
    tasks_[i].n_picks = 0;
  }
  for (int64_t pick = 0; pick < n_picks; ++pick) {
    if (chosen[pick] == ExpertChooser::kNone) continue;
    ExpertTask& task = tasks_[chosen[pick]];
    const int64_t at = task.first_pick + task.n_picks++;
    pick_row_[at] = static_cast<int32_t>(pick / n_slots);
    pick_at_[pick] = static_cast<int32_t>(at);
  }
  ExpertTask* const end =
      std::remove_if(tasks_, tasks_ + shape_.n_experts, [](const ExpertTask& task) { return task.n_picks == 0; });
  return {tasks_, end};
}

Status ForwardPass::ComputeExperts(int32_t layer, const ExpertLayer& experts, const float* in,
                                   GatedActivation activation) {
  ExpertRun run = {.layout = &experts.layout,
                   .x = ActivationRows::InScratch(in, m, shape_.n_embd, quantized_),
                   .pick_row = pick_row_,
                   .activation = activation,
                   .ops = &ops_,
                   .ff = expert_ff_,
                   .partials = partials_,
                   .prediction = run_.prediction};
  ByRow([&run](int64_t row) { PrepareExpertRow(*run.layout, run.x, row); });
  FlushRowSteps();
  if (run_.routing != nullptr) run_.routing->Routed(layer, m, RouterLogits(), Chosen());
  const std::span<ExpertTask> tasks = GroupPicks();
  if (experts.neurons) return ComputeExpertsFromSource(layer, experts, run.x, activation, tasks);
  for (ExpertTask& task : tasks) {
    task.bias = experts.BiasOf(task.expert);
    task.predictor = PredictorOf(layer, task.expert);
  }
  const auto compute = [&](std::span<const ExpertTask> part) {
    if (run_.neurons != nullptr) ObserveExperts(layer, run, part);
    pantry::ComputeExperts(pool_, run, part);
  };
  if (run_.experts != nullptr) return run_.experts->Provide(layer, tasks, ExpertSink(compute));
  for (ExpertTask& task : tasks) task.block = experts.Block(task.expert);
  compute(tasks);
  return OkStatus();
}

void ForwardPass::ObserveExperts(int32_t layer, const ExpertRun& run, std::span<const ExpertTask> tasks) {
  for (const ExpertTask& task : tasks) {
    const WeightMatrix of_gate = run.layout->View(task.block).gate;
    float* const gates = run.ff + task.first_pick * ExpertRun::ScratchFloats(of_gate.rows);
    for (int64_t pick = task.first_pick; pick < task.first_pick + task.n_picks; ++pick) {
      const ActivationRows row = run.x.Rows(run.pick_row[pick], 1);
      of_gate.kernel->compute(of_gate.tiles, of_gate.rows, of_gate.cols, 0, of_gate.n_tiles(), row, gates,
                              of_gate.rows);
      if (task.bias.gate != nullptr) ops_.add(gates, task.bias.gate, of_gate.rows);
      run_.neurons->Fed(layer, task.expert, {row.f32, static_cast<size_t>(of_gate.cols)},
                        {gates, static_cast<size_t>(of_gate.rows)});
    }
  }
}

void ForwardPass::MixExperts(float* out) {
  ByRow([this, out](int64_t row) {
    const int64_t n = shape_.n_embd, stride = ExpertRun::ScratchFloats(n);
    float* const to = out + row * n;
    std::fill(to, to + n, 0.0f);
    for (int64_t slot = row * n_slots; slot < (row + 1) * n_slots; ++slot) {
      if (chosen[slot] == ExpertChooser::kNone) break;
      ops_.add_scaled(to, partials_ + pick_at_[slot] * stride, mix[slot], n);
    }
  });
}

void ForwardPass::Switch(float* y, const float* in, const float* weight) {
  const int64_t n = shape_.n_embd;
  ByRow([=, this](int64_t row) {
    constexpr int64_t kLanes = 16;  // sums, as in vector_ops.h
    float sums[kLanes] = {};
    for (int64_t i = 0; i < n; ++i) sums[i % kLanes] += in[row * n + i] * weight[i];
    for (int64_t distance = kLanes / 2; distance > 0; distance /= 2) {
      for (int64_t lane = 0; lane < distance; ++lane) sums[lane] += sums[lane + distance];
    }
    ops_.scale(y + row * n, 1.0f / (1.0f + std::exp(-sums[0])), n);
  });
}

}  // namespace pantry
