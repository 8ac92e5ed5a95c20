// SPDX-License-Identifier: Apache-2.0
#include "eval/routing/routing_variant.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "base/rng.h"

namespace pantry {
namespace {

constexpr ExpertLayers kLayers = {.first_layer = 0, .n_layers = 1, .n_experts = 32, .n_used = 4};
constexpr int32_t kNone = ExpertChooser::kNone;

std::vector<RoutingVariant> Parse(const std::string& text, const ExpertLayers& layers = kLayers) {
  auto variants = ParseRoutingVariants(text, layers);
  EXPECT_TRUE(variants.ok()) << variants.status().ToString();
  return std::move(variants).value();
}

// Experts 0, 1, 2, ... in the order of liking.
std::vector<float> Descending() {
  std::vector<float> logits;
  for (int i = 0; i < kLayers.n_experts; ++i) logits.push_back(static_cast<float>(-i));
  return logits;
}

std::vector<int32_t> ChooseOnce(const std::string& text, RoutingCounts* counts = nullptr) {
  const VirtualCache cache(kLayers, 8);
  auto chooser = VariantChooser::Create(Parse(text).at(0), kLayers, 0, cache).value();
  std::vector<int32_t> chosen(4);
  chooser->Choose(0, 1, Descending(), chosen);
  if (counts != nullptr) *counts = chooser->counts();
  return chosen;
}

TEST(ParseRoutingVariants, NamesGoOverTheirValuesAndValuesStandForThemselves) {
  EXPECT_EQ(Parse("cache-prior:0.25,prune:2,exact").size(), 3u);
  EXPECT_EQ(Parse("cache-prior:0.25")[0].strength(), 0.25);
  EXPECT_EQ(Parse("leave-out:3")[0].name(), "leave-out");
  EXPECT_GE(Parse("cache-prior").size(), 5u);
  EXPECT_EQ(Parse("replace").size(), 4u);                           // every rank
  EXPECT_EQ(Parse("prune,prune:3").size(), Parse("prune").size());  // none twice
  std::set<std::string> names;
  for (const RoutingVariant& variant : Parse("all")) names.insert(variant.name());
  EXPECT_EQ(names.size(), 9u);
}

// Whatever the model, its own defaults suit it.
TEST(ParseRoutingVariants, DefaultsSuitEveryModel) {
  for (const ExpertLayers& layers : {ExpertLayers{0, 1, 2, 1}, ExpertLayers{0, 1, 2, 2}, ExpertLayers{0, 1, 8, 2},
                                     ExpertLayers{0, 1, 64, 6}, ExpertLayers{0, 1, 128, 8}}) {
    const VirtualCache cache(layers, layers.n_used);
    for (const RoutingVariant& variant : Parse("all", layers)) {
      EXPECT_TRUE(VariantChooser::Create(variant, layers, 0, cache).ok()) << variant.name() << variant.strength();
    }
  }
}

TEST(ParseRoutingVariants, NamesWhatIsWrong) {
  for (const std::string text : {"lru", "prune:4", "prune:0", "replace:5", "replace:x", "cache-prior:2", "max-rank:3",
                                 "auto:1%", "cache-prior,,drop"}) {
    EXPECT_EQ(ParseRoutingVariants(text, kLayers).status().code(), StatusCode::kInvalidArgument) << text;
  }
}

TEST(VariantChooser, PrunesLeavesOutAndReplaces) {
  EXPECT_EQ(ChooseOnce("exact"), (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(ChooseOnce("prune:3"), (std::vector<int32_t>{0, 1, 2, kNone}));
  EXPECT_EQ(ChooseOnce("leave-out:1"), (std::vector<int32_t>{1, 2, 3, kNone}));
  EXPECT_EQ(ChooseOnce("leave-out:4"), (std::vector<int32_t>{0, 1, 2, kNone}));
  const auto replaced = ChooseOnce("replace:2");
  EXPECT_EQ((std::vector<int32_t>{replaced.begin(), replaced.begin() + 3}), (std::vector<int32_t>{0, 2, 3}));
  EXPECT_GE(replaced[3], 4);
  RoutingCounts counts;
  ChooseOnce("prune:3", &counts);
  EXPECT_EQ(counts.agreement(), 0.75);
  EXPECT_LT(counts.gate_mass(), 1);
  const double third = 1 + std::exp(-1) + std::exp(-2);  // of logits 0, -1, -2, -3
  EXPECT_NEAR(counts.mean_excess_kl(), std::log(1 + std::exp(-3) / third), 1e-12);
}

TEST(VariantChooser, AnyOtherExpertMayTakeThePlace) {
  const VirtualCache cache(kLayers, 8);
  auto chooser = VariantChooser::Create(Parse("replace:1").at(0), kLayers, 0, cache).value();
  std::set<int32_t> seen;
  std::vector<int32_t> chosen(4);
  for (int i = 0; i < 1000; ++i) {
    chooser->Choose(0, 1, Descending(), chosen);
    seen.insert(chosen[3]);
  }
  EXPECT_EQ(seen.size(), 28u);
  EXPECT_EQ(*seen.begin(), 4);
}

}  // namespace
}  // namespace pantry
