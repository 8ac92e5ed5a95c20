// SPDX-License-Identifier: Apache-2.0
#include "sim/simulator.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "sim/sim_router.h"
#include "sim/sim_stream.h"

namespace pantry {
namespace {

constexpr double kGuessTokens = 4;  // of a run whose next layer is guessed: models/forward_buffers.h's kGuessRows

class Simulation {
 public:
  Simulation(const SimModel& model, const RoutingTrace& trace, const DeviceProfile& device, const SimOptions& options,
             const SimObservers& observers)
      : model_(model),
        trace_(trace),
        options_(options),
        observers_(observers),
        machine_(device, options.n_cores > 0 ? options.n_cores : device.n_cores),
        position_(options.first_position) {}

  Status Open(const DeviceProfile& device) {
    if (options_.cache_bytes == 0 || model_.blocks.empty()) return OkStatus();
    Result<std::unique_ptr<SimStream>> stream =
        SimStream::Open(model_, trace_, device, options_, observers_.stream, machine_);
    if (!stream.ok()) return stream.status();
    stream_ = *std::move(stream);
    if (options_.expert_policy.is_exact()) return OkStatus();
    PANTRY_ASSIGN_OR_RETURN(router_, SimRouter::Create(options_.expert_policy, model_, trace_, *stream_));
    return OkStatus();
  }

  Result<SimReport> Run() {
    if (model_.is_rotation()) {
      for (int64_t i = 0; i < options_.n_tokens; ++i) PANTRY_RETURN_IF_ERROR(RunTokens(1, {}));
    } else {
      for (size_t begin = 0; begin < trace_.events.size();) {
        size_t end = begin + 1;
        while (end < trace_.events.size() && !trace_.events[end].begins_step) ++end;
        PANTRY_RETURN_IF_ERROR(RunTokens(trace_.events[begin].n_tokens, {begin, end}));
        begin = end;
      }
    }
    if (report_.runs.empty()) {
      return InvalidArgumentError("all {} steps of the trace are skipped, none is counted", n_steps_);
    }
    Count();
    return report_;
  }

 private:
  struct Events {  // of the trace, one token's
    size_t begin = 0, end = 0;
  };

  Status RunTokens(int64_t n_tokens, Events events) {
    if (n_steps_++ == options_.skip_steps) BeginCounting();
    const double begin_us = machine_.now_us();
    if (stream_ != nullptr) stream_->BeginRun(position_ + n_tokens, n_tokens);
    if (router_ != nullptr) router_->BeginRun();
    const double n = static_cast<double>(n_tokens), n_steps = static_cast<double>(model_.steps.size());
    const double seen = static_cast<double>(position_) + (n + 1) / 2;  // positions that a token sees
    const Work attention = {.bytes = (static_cast<double>(position_) + n) * model_.kv_bytes_per_position / n_steps,
                            .float_macs = seen * model_.attention_macs_per_position / n_steps};
    for (const SimStep& step : model_.steps) {
      Events event = {events.begin, events.begin};
      const bool has_event = step.layer >= 0 && !step.wants_all && events.begin < events.end;
      if (has_event && trace_.events[events.begin].layer == step.layer) event.end = ++events.begin;
      PANTRY_RETURN_IF_ERROR(RunStep(step, OfTokens(n, step.before, attention), n, event, events));
    }
    if (events.begin < events.end) {
      return InvalidArgumentError("the trace's token {}: layer {} comes twice, or not in the order of model '{}'",
                                  position_ - options_.first_position, trace_.events[events.begin].layer, model_.name);
    }
    machine_.Compute(model_.after, TimeUse::kBetween);
    position_ += n_tokens;
    const SimRun run = {position_ - n_tokens, n_tokens, machine_.now_us() - begin_us};
    if (router_ != nullptr) router_->EndRun(n_tokens, run.us);
    if (observers_.run) observers_.run(run, machine_.NowUs());
    if (n_steps_ > options_.skip_steps) report_.runs.push_back(run);
    return OkStatus();
  }

  // Weights are read once for all of them; cores share their rows.
  Work OfTokens(double n, const Work& work, const Work& more = {}) const {
    return {.bytes = work.bytes + more.bytes,
            .int8_macs = n * (work.int8_macs + more.int8_macs),
            .float_macs = n * (work.float_macs + more.float_macs),
            .n_steps = work.n_steps,
            .row_bytes = work.row_bytes * std::ceil(n / machine_.n_cores())};
  }

  // What a step of n_tokens wants, by what is near now. `event` is the trace's of it, or none.
  std::span<const BlockId> Wanted(const SimStep& step, double n_tokens, Events event) {
    if (step.layer >= 0 && step.wants_all) {
      wanted_.clear();
      for (uint32_t i = 0; i < step.n_blocks; ++i) wanted_.emplace_back(step.first_block + i);
      return wanted_;
    }
    if (event.begin == event.end) return {};
    return router_ != nullptr && n_tokens == 1 ? router_->Choose(event.begin) : trace_.blocks_of(event.begin);
  }

  // `event`: the step's; `later`: those that come after it.
  Status RunStep(const SimStep& step, const Work& before, double n_tokens, Events event, Events later) {
    const Work beside = OfTokens(n_tokens, step.beside);
    const bool is_divided = beside.bytes > 0 && machine_.has_second();
    ComputeShared(before, is_divided ? machine_.SecondShare() : 0);
    machine_.JoinSecond();
    const std::span<const BlockId> wanted = Wanted(step, n_tokens, event);
    const bool is_known_early = step.between.bytes > 0;
    if (is_known_early && stream_ != nullptr) stream_->Expect(wanted, 1);
    if (is_known_early) machine_.Compute(OfTokens(n_tokens, step.between), TimeUse::kBetween);
    if (is_divided) machine_.BeginSecond(beside);
    if (step.choosing.bytes > 0) machine_.Compute(OfTokens(n_tokens, step.choosing), TimeUse::kBetween);
    const auto meanwhile = [&](double share) {
      if (beside.bytes > 0 && !is_divided) machine_.Compute(share * beside, TimeUse::kBetween);
    };
    double picks = n_tokens;  // of a block, in the mean: the trace does not say of each
    if (model_.n_used > 0 && !wanted.empty()) {
      picks = std::clamp(n_tokens * model_.n_used / static_cast<double>(wanted.size()), 1.0, n_tokens);
    }
    const auto compute = [&](std::span<const BlockId> blocks) { ComputeBlocks(blocks, picks); };
    if (wanted.empty() || stream_ == nullptr) {
      meanwhile(1);
      if (!wanted.empty()) compute(wanted);
    } else {
      if (n_tokens <= kGuessTokens && later.begin < later.end) {
        if (options_.guess_recall > 0) machine_.Compute(OfTokens(n_tokens, model_.guess), TimeUse::kBetween);
        const bool by_policy = router_ != nullptr && n_tokens == 1;
        stream_->Guess(by_policy ? router_->Guess(later.begin) : trace_.blocks_of(later.begin));
      }
      PANTRY_RETURN_IF_ERROR(
          stream_->Provide(step, wanted, FunctionRef<void(double)>(meanwhile), SimStream::Compute(compute)));
    }
    machine_.JoinSecond();
    return OkStatus();
  }

  // A model whose dense parts the second executor can do has its attention divided, too (heads are independent).
  void ComputeShared(const Work& work, double second_share) {
    if (second_share > 0) machine_.BeginSecond(second_share * work);
    machine_.Compute((1 - second_share) * work, TimeUse::kBetween);
  }

  void ComputeBlocks(std::span<const BlockId> blocks, double n_picks) {
    const SparseCost cost = model_.block_cost.Of(n_picks);
    Work work = {.n_steps = model_.steps_of_blocks};
    for (const BlockId block : blocks) {
      const auto n_bytes = static_cast<double>(model_.blocks[block.value()].n_bytes);
      work.bytes += cost.bytes * n_bytes;
      work.slow_bytes += (cost.traffic - cost.bytes) * n_bytes;
      work.int8_macs += cost.macs * n_picks * model_.block_macs[block.value()];
    }
    machine_.Compute(work, TimeUse::kBlocks);
  }

  void BeginCounting() {
    begin_us_ = machine_.now_us();
    before_.time_us = machine_.time_us();
    before_.memory_bytes = machine_.memory_bytes();
    if (stream_ != nullptr) stream_->Count(before_);
    if (router_ != nullptr) before_.routing = router_->chooser().counts();
  }

  void Count() {
    report_.wall_us = machine_.now_us() - begin_us_;
    report_.memory_bytes = machine_.memory_bytes() - before_.memory_bytes;
    for (size_t i = 0; i < kTimeUses; ++i) report_.time_us[i] = machine_.time_us()[i] - before_.time_us[i];
    for (const SimRun& run : report_.runs) {
      ++report_.n_runs;
      report_.n_tokens += run.n_tokens;
      if (run.n_tokens > 1) continue;
      ++report_.n_decoded;
      report_.decode_us += run.us;
    }
    if (stream_ == nullptr) return;
    stream_->Count(report_);
    if (router_ != nullptr) {
      report_.routing = router_->chooser().counts();
      report_.strength = router_->chooser().strength();
    }
    SubtractCounts(before_, report_);
  }

  const SimModel& model_;
  const RoutingTrace& trace_;
  const SimOptions& options_;
  const SimObservers& observers_;
  Machine machine_;
  std::unique_ptr<SimStream> stream_;  // null: all is in memory
  std::unique_ptr<SimRouter> router_;  // null: what the trace says
  int64_t position_;
  int64_t n_steps_ = 0;
  double begin_us_ = 0;
  std::vector<BlockId> wanted_;  // scratch
  SimReport before_, report_;
};

}  // namespace

Status SimOptions::Validate() const {
  if (cache_bytes < 0) return InvalidArgumentError("the cache has {} bytes", cache_bytes);
  if (n_tokens < 1) return InvalidArgumentError("{} tokens are none", n_tokens);
  if (guess_recall < 0 || guess_recall > 1) {
    return InvalidArgumentError("the recall of guesses is {}, but must lie in 0 to 1", guess_recall);
  }
  if (guess_likelihood < 0 || guess_likelihood >= 1) {
    return InvalidArgumentError("the likelihood of guesses is {}, but must lie in 0 to below 1", guess_likelihood);
  }
  if (first_position < 0 || skip_steps < 0) return InvalidArgumentError("negative positions");
  if (most_idle_bytes < 0) return InvalidArgumentError("{} bytes are idle at most", most_idle_bytes);
  PANTRY_RETURN_IF_ERROR(reads.Validate());
  PANTRY_RETURN_IF_ERROR(expert_policy.Validate());
  if (knows_future && !expert_policy.is_exact()) {
    return InvalidArgumentError(
        "--cache-policy belady with --expert-policy {}: the future is not known where choices depend on what the cache "
        "holds; take another cache policy, or exact",
        ExpertPolicyText(expert_policy.policy));
  }
  return policy.Validate();
}

double SimReport::RunUs(double share) const {
  std::vector<double> us;
  for (const SimRun& run : runs) {
    if (run.n_tokens == 1) us.push_back(run.us);
  }
  if (us.empty()) return 0;
  std::sort(us.begin(), us.end());
  return us[std::min(us.size() - 1, static_cast<size_t>(share * static_cast<double>(us.size())))];
}

Result<SimReport> Simulate(const SimModel& model, const RoutingTrace& trace, const DeviceProfile& device,
                           const SimOptions& options, const SimObservers& observers) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  PANTRY_RETURN_IF_ERROR(device.Validate());
  PANTRY_RETURN_IF_ERROR(model.Validate());
  for (const BlockId block : trace.wanted) {
    if (block.value() >= model.blocks.size()) {
      return InvalidArgumentError("the trace is of another model than '{}': block {} of {}", model.name, block.value(),
                                  model.blocks.size());
    }
  }
  if (model.is_rotation() && !options.expert_policy.is_exact()) {
    return InvalidArgumentError("--expert-policy {}: model '{}' has no experts",
                                ExpertPolicyText(options.expert_policy.policy), model.name);
  }
  if (!model.is_rotation() && trace.events.empty()) return InvalidArgumentError("the trace is empty");
  Simulation simulation(model, trace, device, options, observers);
  PANTRY_RETURN_IF_ERROR(simulation.Open(device));
  return simulation.Run();
}

}  // namespace pantry
