// SPDX-License-Identifier: Apache-2.0
// A RoutingRun is one variant at work on a text: it chooses, keeps the virtual caches, and adds up what that did, window by window.
//
// It takes a batch of tokens as it would take them one by one: choosing and caching go token by token within a layer, and layers do not
// share a cache. So a text may be computed in large batches, as prompts are, with the result of decoding (models/model.h: a position's result
// does not depend on batches).
// What a window did counts when it is committed, so that all variants are compared over the same windows.
// Threads: thread-compatible.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "eval/loss_sum.h"
#include "eval/routing/routing_variant.h"
#include "eval/routing/virtual_cache.h"

namespace pantry {

// Losses of tokens, alone and against those of the exact run.
struct RoutingLosses {
  LossSum own;
  LossSum rises;  // less the exact run's

  void Add(double loss, double exact) {
    own.Add(loss);
    rises.Add(loss - exact);
  }
  int64_t n_tokens() const { return own.n(); }
  double cost() const { return std::expm1(rises.Mean()); }  // rise of perplexity, as a share
  // Of the same tokens under both: far smaller than perplexity's own.
  double cost_stderr() const { return rises.StandardError() * (1 + cost()); }
};

class RoutingRun final : public ExpertChooser {
 public:
  // With caches of `capacities`; what is near is what the first one holds. REQUIRES: at least one.
  static Result<std::unique_ptr<RoutingRun>> Create(const RoutingVariant& variant, const ExpertLayers& layers,
                                                    std::span<const int32_t> capacities, int32_t n_spared_layers);

  void Choose(int32_t layer, int64_t n_tokens, std::span<const float> logits, std::span<int32_t> chosen) override;
  void Guess(int32_t layer, std::span<const float> logits, std::span<int32_t> chosen) const override;

  // Empties the caches and forgets what was not committed. Routers go on: their mean range is that of all tokens seen.
  void BeginWindow();
  void AddLoss(double loss) { losses_.push_back(loss); }
  std::span<const double> window_losses() const { return losses_; }
  void CommitWindow(std::span<const double> exact_losses);

  // Keeps each layer's choices of a window, too.
  void RecordChoices() { recorded_.resize(static_cast<size_t>(layers_.n_layers)); }
  std::span<const std::vector<int32_t>> recorded() const { return recorded_; }  // [n_layers][tokens * n_used]

  const RoutingVariant& variant() const { return variant_; }
  std::span<const VirtualCache> caches() const { return caches_; }
  // Of the windows that were committed.
  const VirtualCacheFigures& cache_figures(size_t cache) const { return cache_figures_[cache]; }
  const RoutingCounts& counts() const { return counts_; }
  const RoutingLosses& losses() const { return total_; }

 private:
  RoutingRun(const RoutingVariant& variant, const ExpertLayers& layers) : variant_(variant), layers_(layers) {}

  RoutingVariant variant_;
  ExpertLayers layers_;
  std::vector<VirtualCache> caches_;
  std::unique_ptr<VariantChooser> chooser_;
  std::vector<double> losses_;
  std::vector<std::vector<int32_t>> recorded_;

  std::vector<VirtualCacheFigures> before_;  // of the caches, when the window began
  RoutingCounts counts_before_;
  std::vector<VirtualCacheFigures> cache_figures_;
  RoutingCounts counts_;
  RoutingLosses total_;
};

}  // namespace pantry
