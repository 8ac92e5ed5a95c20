// SPDX-License-Identifier: Apache-2.0
#include "eval/routing/routing_run.h"

namespace pantry {

Result<std::unique_ptr<RoutingRun>> RoutingRun::Create(const RoutingVariant& variant, const ExpertLayers& layers,
                                                       std::span<const int32_t> capacities, int32_t n_spared_layers) {
  PANTRY_CHECK(!capacities.empty());
  std::unique_ptr<RoutingRun> run(new RoutingRun(variant, layers));
  run->caches_.reserve(capacities.size());  // the chooser looks at the first one, which must stay where it is
  for (const int32_t capacity : capacities) run->caches_.emplace_back(layers, capacity);
  PANTRY_ASSIGN_OR_RETURN(run->chooser_,
                          VariantChooser::Create(variant, layers, n_spared_layers, run->caches_.front()));
  run->before_.resize(capacities.size());
  run->cache_figures_.resize(capacities.size());
  return run;
}

void RoutingRun::Choose(int32_t layer, int64_t n_tokens, std::span<const float> logits, std::span<int32_t> chosen) {
  const auto n_experts = static_cast<size_t>(layers_.n_experts), n_used = static_cast<size_t>(layers_.n_used);
  for (size_t token = 0; token < static_cast<size_t>(n_tokens); ++token) {
    const auto to = chosen.subspan(token * n_used, n_used);
    chooser_->Choose(layer, 1, logits.subspan(token * n_experts, n_experts), to);
    for (VirtualCache& cache : caches_) cache.Use(layer, to);
    if (recorded_.empty()) continue;
    std::vector<int32_t>& record = recorded_[static_cast<size_t>(layer - layers_.first_layer)];
    record.insert(record.end(), to.begin(), to.end());
  }
}

void RoutingRun::Guess(int32_t layer, std::span<const float> logits, std::span<int32_t> chosen) const {
  chooser_->Guess(layer, logits, chosen);
}

void RoutingRun::BeginWindow() {
  for (size_t i = 0; i < caches_.size(); ++i) {
    caches_[i].Clear();
    before_[i] = caches_[i].figures();
  }
  counts_before_ = chooser_->counts();
  losses_.clear();
  for (std::vector<int32_t>& record : recorded_) record.clear();
}

void RoutingRun::CommitWindow(std::span<const double> exact_losses) {
  PANTRY_CHECK(exact_losses.size() == losses_.size());
  for (size_t i = 0; i < losses_.size(); ++i) total_.Add(losses_[i], exact_losses[i]);
  for (size_t i = 0; i < caches_.size(); ++i) cache_figures_[i] += caches_[i].figures() - before_[i];
  counts_ += chooser_->counts() - counts_before_;
}

}  // namespace pantry
