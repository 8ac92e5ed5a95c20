// SPDX-License-Identifier: Apache-2.0
#include "eval/routing/routing_variant.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

#include "base/parse_number.h"
#include "base/rng.h"
#include "policy/routing/exact.h"

namespace pantry {
namespace {

constexpr std::array<std::pair<RoutingVariantKind, std::string_view>, 3> kYardsticks = {
    {{RoutingVariantKind::kPrune, "prune"},
     {RoutingVariantKind::kReplace, "replace"},
     {RoutingVariantKind::kLeaveOut, "leave-out"}}};

// What is worth trying. Priors act at 0.03 to 0.5 (arXiv 2412.00099, figure 5), windows up to all experts, shares by what a router of a few dozen
// experts gives its best ones.
std::vector<double> ValuesFor(std::string_view name, const ExpertLayers& layers) {
  const double k = layers.n_used;
  if (name == "max-rank") {
    std::set<double> values = {static_cast<double>(layers.n_experts)};
    for (const double factor : {1.25, 1.5, 2.0, 3.0, 4.0, 6.0}) {
      values.insert(std::clamp(std::ceil(factor * k), k, static_cast<double>(layers.n_experts)));
    }
    return {values.begin(), values.end()};
  }
  if (name == "cumulative") return {0.4, 0.6, 0.75, 0.85, 0.92, 0.97, 0.99};
  if (name == "cache-prior") return {0.03, 0.06, 0.1, 0.15, 0.22, 0.32, 0.5};
  if (name == "margin") return {0.01, 0.02, 0.04, 0.07, 0.12, 0.2, 0.35};
  if (name == "factor") return {1.25, 1.5, 2, 3, 5};
  if (name == "drop") return {0.05, 0.1, 0.2, 0.3};
  std::vector<double> values;
  if (name == "prune") {
    for (int32_t n = layers.n_used - 1; n >= std::max(1, layers.n_used / 2); --n) values.push_back(n);
  } else if (name == "replace" || name == "leave-out") {
    for (int32_t rank = 1; rank <= layers.n_used; ++rank) values.push_back(rank);
  }
  return values;
}
constexpr std::string_view kAll = "max-rank,cumulative,margin,cache-prior,factor,drop,prune,replace,leave-out";

Result<RoutingVariant> ParseVariant(std::string_view text, const ExpertLayers& layers) {
  RoutingVariant variant;
  for (const auto& [kind, name] : kYardsticks) {
    if (!text.starts_with(name) || !text.substr(name.size()).starts_with(':')) continue;
    variant.kind = kind;
    const std::string_view value = text.substr(name.size() + 1);
    variant.value = ParseNumber<int32_t>(value).value_or(0);
    const int32_t most = kind == RoutingVariantKind::kPrune ? layers.n_used - 1 : layers.n_used;
    if (variant.value < 1 || variant.value > most) {
      return InvalidArgumentError("{}: expected 1 to {}, found '{}'", name, most, value);
    }
    return variant;
  }
  Result<ExpertPolicySpec> policy = ParseExpertPolicy(text);
  if (!policy.ok()) return policy.status().WithContext("--policies (which also knows prune:N, replace:R, leave-out:R)");
  variant.policy = *policy;
  if (variant.policy.kind == ExpertPolicyKind::kAuto) {
    return InvalidArgumentError("{}: its strength depends on waiting for a disk. Try cache-prior", text);
  }
  const auto fits = MakeExpertPolicy(variant.policy, layers.n_experts, layers.n_used);
  if (!fits.ok()) return fits.status();
  return variant;
}

class ByPolicy final : public VariantChooser {
 public:
  explicit ByPolicy(std::unique_ptr<CacheAwareRouter> router) : router_(std::move(router)) {}
  void Choose(int32_t layer, int64_t n_tokens, std::span<const float> logits, std::span<int32_t> chosen) override {
    router_->Choose(layer, n_tokens, logits, chosen);
  }
  void Guess(int32_t layer, std::span<const float> logits, std::span<int32_t> chosen) const override {
    router_->Guess(layer, logits, chosen);
  }
  const RoutingCounts& counts() const override { return router_->counts(); }

 private:
  std::unique_ptr<CacheAwareRouter> router_;
};

// The yardsticks: exact but for some ranks.
class ByRank final : public VariantChooser {
 public:
  ByRank(const RoutingVariant& variant, const ExpertLayers& layers)
      : variant_(variant), layers_(layers), own_(static_cast<size_t>(layers.n_used)) {
    for (int32_t layer = 0; layer < layers.n_layers; ++layer) rngs_.emplace_back(static_cast<uint64_t>(layer) + 1);
  }

  void Choose(int32_t layer, int64_t n_tokens, std::span<const float> logits, std::span<int32_t> chosen) override {
    Rng& rng = rngs_[static_cast<size_t>(layer - layers_.first_layer)];
    const auto n_experts = static_cast<size_t>(layers_.n_experts), n_used = own_.size();
    for (size_t token = 0; token < static_cast<size_t>(n_tokens); ++token) {
      const auto of_token = logits.subspan(token * n_experts, n_experts);
      const auto to = chosen.subspan(token * n_used, n_used);
      ChooseExperts(of_token, own_);
      std::ranges::copy(own_, to.begin());
      Change(to, rng);
      counts_.Add(of_token, to, own_);
    }
  }
  void Guess(int32_t, std::span<const float> logits, std::span<int32_t> chosen) const override {
    ChooseExperts(logits, chosen);
  }
  const RoutingCounts& counts() const override { return counts_; }

 private:
  void Change(std::span<int32_t> chosen, Rng& rng) {
    const auto value = static_cast<size_t>(variant_.value);
    if (variant_.kind == RoutingVariantKind::kPrune) {
      std::ranges::fill(chosen.subspan(value), ExpertChooser::kNone);
      return;
    }
    const int32_t other = variant_.kind == RoutingVariantKind::kReplace ? AnyOther(rng) : ExpertChooser::kNone;
    std::ranges::copy(chosen.subspan(value), chosen.begin() + static_cast<ptrdiff_t>(value) - 1);
    chosen.back() = other;  // which the router likes less than any of its own
  }
  // That the router did not choose; where it chose all, none.
  int32_t AnyOther(Rng& rng) {
    const auto n_others = static_cast<uint64_t>(layers_.n_experts) - own_.size();
    if (n_others == 0) return ExpertChooser::kNone;
    uint64_t skip = rng.NextU64() % n_others;
    for (int32_t expert = 0;; ++expert) {
      if (std::ranges::find(own_, expert) != own_.end()) continue;
      if (skip-- == 0) return expert;
    }
  }

  RoutingVariant variant_;
  ExpertLayers layers_;
  std::vector<int32_t> own_;
  std::vector<Rng> rngs_;  // by layer: what a token is given does not depend on how tokens are batched
  RoutingCounts counts_;
};

}  // namespace

std::string RoutingVariant::name() const {
  for (const auto& [yardstick, name] : kYardsticks) {
    if (yardstick == kind) return std::string(name);
  }
  const std::string text = ExpertPolicyText(policy);
  return text.substr(0, text.find(':'));
}

double RoutingVariant::strength() const { return kind == RoutingVariantKind::kPolicy ? policy.value : value; }

bool RoutingVariant::looks_at_cache() const {
  return kind == RoutingVariantKind::kPolicy && policy.kind != ExpertPolicyKind::kExact;
}

Result<std::vector<RoutingVariant>> ParseRoutingVariants(std::string_view text, const ExpertLayers& layers) {
  if (text == "all") text = kAll;
  std::vector<RoutingVariant> variants;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string name(text.substr(0, comma));
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    if (name == "prune" && layers.n_used == 1) continue;  // there is nothing to prune
    const std::vector<double> values =
        name.find(':') == std::string::npos ? ValuesFor(name, layers) : std::vector<double>();
    std::vector<std::string> each;
    for (const double value : values) each.push_back(fmt::format("{}:{}", name, value));
    if (each.empty()) each.push_back(name);
    for (const std::string& one : each) {
      PANTRY_ASSIGN_OR_RETURN(const RoutingVariant variant, ParseVariant(one, layers));
      if (std::ranges::find(variants, variant) == variants.end()) variants.push_back(variant);
    }
  }
  return variants;
}

Result<std::unique_ptr<VariantChooser>> VariantChooser::Create(const RoutingVariant& variant,
                                                               const ExpertLayers& layers, int32_t n_spared_layers,
                                                               const NearExperts& near) {
  if (variant.kind != RoutingVariantKind::kPolicy) return {std::make_unique<ByRank>(variant, layers)};
  const CacheAwareRouterOptions options = {.policy = variant.policy,
                                           .first_layer = layers.first_layer,
                                           .n_layers = layers.n_layers,
                                           .n_experts = layers.n_experts,
                                           .n_used = layers.n_used,
                                           .n_spared_layers = n_spared_layers};
  PANTRY_ASSIGN_OR_RETURN(std::unique_ptr<CacheAwareRouter> router, CacheAwareRouter::Create(options, near));
  return {std::make_unique<ByPolicy>(std::move(router))};
}

}  // namespace pantry
