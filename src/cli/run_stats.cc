// SPDX-License-Identifier: Apache-2.0
#include "cli/run_stats.h"

#include <cerrno>
#include <cstring>
#include <iterator>
#include <string_view>
#include <utility>

#include "sys/posix_error.h"

namespace pantry {

Result<std::unique_ptr<RunStats>> RunStats::Open(const std::string& path, Logger& log) {
  std::FILE* const file = std::fopen(path.c_str(), "we");
  if (file == nullptr) {
    return IoError("{}", PosixError(fmt::format("cannot write --stats file '{}'", path), errno).message());
  }
  return std::unique_ptr<RunStats>(new RunStats(path, file, log));
}

void RunStats::Begin(Engine& engine) {
  if (engine.stream() == nullptr) return;
  CountFrom(engine.stream()->stats(), engine.stream()->layer_stats());
}

void RunStats::CountFrom(const WeightStreamStats& now, std::span<const CacheStats> layers) {
  before_ = now;
  layers_before_.assign(layers.begin(), layers.end());
}

void RunStats::Write(const RunReport& run, Engine& engine) {
  if (file_ == nullptr) return;
  line_.clear();
  fmt::format_to(std::back_inserter(line_), R"({{"position":{},"n_tokens":{},"us":{})", run.first_position,
                 run.n_tokens, run.us);
  if (engine.resting() != nullptr) AppendResting(*engine.resting());
  if (engine.stream() != nullptr) AppendStream(*engine.stream(), engine);
  line_.push_back('}');
  line_.push_back('\n');
  if (std::fwrite(line_.data(), 1, line_.size(), file_.get()) == line_.size() && std::fflush(file_.get()) == 0) return;
  log_.Warning("--stats {}: {}; no more lines are written", path_, std::strerror(errno));
  file_.reset();
}

void RunStats::AppendResting(const RestingNeurons& resting) {
  fmt::format_to(std::back_inserter(line_), R"(,"sparsity":{},"neurons":{},"resting":{})", resting.sparsity(),
                 resting.n_neurons() - n_neurons_before_, resting.n_resting() - n_resting_before_);
  n_neurons_before_ = resting.n_neurons();
  n_resting_before_ = resting.n_resting();
}

void RunStats::AppendPolicy(const CacheAwareRouter& chooser) {
  const RoutingCounts since = chooser.counts() - counts_before_;
  counts_before_ = chooser.counts();
  fmt::format_to(std::back_inserter(line_),
                 R"(,"policy":"{}","strength":{},"picks":{},"agreed":{},"choices":{},"weight_kept":{},"excess_kl":{})",
                 ExpertPolicyText(chooser.policy()), chooser.strength(), since.n_picks, since.n_agreed, since.n_choices,
                 since.share_kept, since.excess_kl);
}

void RunStats::AppendPrior(const NeuronPrior& prior) {
  const NeuronPriorCounts since = prior.counts() - prior_before_;
  prior_before_ = prior.counts();
  const auto out = std::back_inserter(line_);
  fmt::format_to(out, R"(,"neuron_policy":"{}")", NeuronPolicyText(prior.strength()));
  if (since.n_firing == 0) return;  // nothing was chosen
  fmt::format_to(out, R"(,"firing":{},"left_out":{},"gate_sum_kept":{})", since.n_firing, since.n_left_out,
                 since.gate_sum_kept());
}

void RunStats::AppendStream(const WeightStream& stream, Engine& engine) {
  const WeightStreamStats now = stream.stats();
  const std::span<const CacheStats> layers = stream.layer_stats();
  layers_before_.resize(layers.size());
  const auto out = std::back_inserter(line_);
  fmt::format_to(
      out,
      R"(,"hits":{},"late":{},"misses":{},"bytes_read":{},"disk_busy_us":{},"wait_us":{},"place_us":{},"evictions":{})",
      now.cache.n_hits - before_.cache.n_hits, now.cache.n_late - before_.cache.n_late,
      now.cache.n_misses - before_.cache.n_misses, now.bytes_read() - before_.bytes_read(),
      now.reader.busy_us - before_.reader.busy_us, now.stream.wait_us - before_.stream.wait_us,
      now.stream.place_us - before_.stream.place_us, now.cache.n_evicted - before_.cache.n_evicted);
  if (stream.placer().neurons() != nullptr && stream.placer().has_experts()) {
    fmt::format_to(out, R"(,"neuron_hits":{},"neuron_misses":{},"neuron_evictions":{})",
                   now.neurons.n_hits - before_.neurons.n_hits, now.neurons.n_misses - before_.neurons.n_misses,
                   now.neurons.n_evicted - before_.neurons.n_evicted);
  }
  if (engine.router() != nullptr) AppendPolicy(engine.router()->chooser());
  else if (stream.placer().has_experts()) fmt::format_to(out, R"(,"policy":"exact")");
  if (engine.neuron_prior() != nullptr) AppendPrior(*engine.neuron_prior());
  fmt::format_to(out, R"(,"first_layer":{})", stream.placer().first_layer());
  const std::pair<std::string_view, int64_t CacheStats::*> columns[] = {{"layer_hits", &CacheStats::n_hits},
                                                                        {"layer_late", &CacheStats::n_late},
                                                                        {"layer_misses", &CacheStats::n_misses}};
  for (const auto& [name, count] : columns) {
    fmt::format_to(out, R"(,"{}":[)", name);
    for (size_t i = 0; i < layers.size(); ++i) {
      fmt::format_to(out, "{}{}", i == 0 ? "" : ",", layers[i].*count - layers_before_[i].*count);
    }
    line_.push_back(']');
  }
  CountFrom(now, layers);
}

}  // namespace pantry
