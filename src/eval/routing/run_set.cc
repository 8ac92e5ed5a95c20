// SPDX-License-Identifier: Apache-2.0
#include "eval/routing/run_set.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "eval/routing/belady_line.h"

namespace pantry {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

}  // namespace

Result<RunSet> RunSet::Create(const RoutingSweepOptions& options, const ExpertLayers& layers) {
  RunSet set(layers);
  for (const double share : options.cache_shares) set.capacities_.push_back(CapacityOf(layers, share));
  std::ranges::sort(set.capacities_);
  set.capacities_.erase(std::unique(set.capacities_.begin(), set.capacities_.end()), set.capacities_.end());
  set.belady_misses_.resize(set.capacities_.size());
  const std::span<const int32_t> capacities = set.capacities_;

  PANTRY_ASSIGN_OR_RETURN(std::vector<RoutingVariant> variants, ParseRoutingVariants(options.variants, layers));
  std::erase(variants, RoutingVariant{});
  variants.insert(variants.begin(), RoutingVariant{});
  for (RoutingVariant& variant : variants) {
    const size_t n_of_run = variant.looks_at_cache() ? 1 : capacities.size();
    if (variant.looks_at_cache()) variant.policy.top_j = options.top_j;
    for (size_t i = 0; i < capacities.size(); i += n_of_run) {
      PANTRY_ASSIGN_OR_RETURN(
          std::unique_ptr<RoutingRun> run,
          RoutingRun::Create(variant, layers, capacities.subspan(i, n_of_run), options.n_spared_layers));
      set.runs_.push_back(std::move(run));
    }
  }
  set.runs_.front()->RecordChoices();
  return set;
}

Status RunSet::CommitWindow() {
  for (const auto& run : runs_) run->CommitWindow(runs_.front()->window_losses());
  for (size_t i = 0; i < capacities_.size(); ++i) {
    PANTRY_ASSIGN_OR_RETURN(const int64_t n_misses, BeladyMisses(runs_.front()->recorded(), layers_, capacities_[i]));
    belady_misses_[i] += n_misses;
  }
  return OkStatus();
}

RoutingRow RunSet::RowOf(const RoutingRun& run, size_t cache) const {
  RoutingRow row;
  row.policy = run.variant().name();
  row.value = run.variant().strength();
  row.capacity = run.caches()[cache].capacity();
  row.cache_share = static_cast<double>(row.capacity) / layers_.n_experts;
  row.miss_rate = run.cache_figures(cache).miss_rate();
  row.lifetime = run.cache_figures(cache).lifetime();
  if (!std::isfinite(row.lifetime)) row.lifetime = kUnknown;
  const RoutingLosses& losses = run.losses();
  const bool is_scored = losses.n_tokens() > 0;
  row.ppl = is_scored ? losses.own.Perplexity() : kUnknown;
  row.ppl_stderr = is_scored ? losses.own.PerplexityError() : kUnknown;
  row.cost = is_scored ? losses.cost() : kUnknown;
  row.cost_stderr = is_scored ? losses.cost_stderr() : kUnknown;
  row.agreement = run.counts().agreement();
  row.gate_mass = run.counts().gate_mass();
  row.excess_kl = run.counts().mean_excess_kl();
  return row;
}

std::vector<RoutingRow> RunSet::Rows() const {
  std::vector<RoutingRow> rows;
  for (const auto& run : runs_) {
    for (size_t cache = 0; cache < run->caches().size(); ++cache) rows.push_back(RowOf(*run, cache));
    if (run != runs_.front()) continue;
    for (size_t cache = 0; cache < capacities_.size(); ++cache) {
      RoutingRow row = rows[cache];
      row.policy = "belady";
      row.miss_rate =
          static_cast<double>(belady_misses_[cache]) / static_cast<double>(run->cache_figures(cache).n_slots);
      row.lifetime = kUnknown;
      rows.push_back(row);
    }
  }
  return rows;
}

}  // namespace pantry
