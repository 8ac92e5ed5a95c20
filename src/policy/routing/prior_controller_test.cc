// SPDX-License-Identifier: Apache-2.0
#include "policy/routing/prior_controller.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "base/rng.h"

namespace pantry {
namespace {

constexpr int64_t kLayers = 24;  // choices of a token

// A model and a disk made up: what a token of some strength waits and loses.
struct Script {
  std::function<double(int token, double strength)> wait_share;
  std::function<double(int token, double strength)> loss;
};

struct Course {
  std::vector<double> strengths;  // of each token
  RoutingCounts counts;
  double highest_cost = 0;
  double Least(size_t from) const {
    return *std::min_element(strengths.begin() + static_cast<ptrdiff_t>(from), strengths.end());
  }
  double Most(size_t from) const {
    return *std::max_element(strengths.begin() + static_cast<ptrdiff_t>(from), strengths.end());
  }
};

Course Follow(const PriorControllerOptions& options, int n_tokens, const Script& script) {
  PriorController controller(options);
  Course course;
  double strength = 0;
  for (int token = 0; token < n_tokens; ++token) {
    course.counts.n_choices += kLayers;
    course.counts.share_kept += static_cast<double>(kLayers) * (1 - script.loss(token, strength));
    course.highest_cost = std::max(course.highest_cost, controller.EstimatedCost(course.counts));
    course.strengths.push_back(strength);
    strength = controller.Next(script.wait_share(token, strength), course.counts);
  }
  return course;
}

double QuadraticLoss(int, double strength) { return 0.4 * strength * strength; }
double LinearLoss(int, double strength) { return 0.2 * strength; }
double AlwaysWaits(int, double) { return 0.6; }

// A prompt's loss counts towards the bound, not as that of a token.
TEST(PriorController, APromptIsNotAToken) {
  PriorController with, without;
  RoutingCounts all, tokens;
  for (int token = 0; token < 60; ++token) {
    if (token % 10 == 9) {
      all += {.n_choices = 8 * kLayers, .share_kept = 0.995 * 8 * kLayers};
      with.Note(all);
    }
    const RoutingCounts of_token = {.n_choices = kLayers, .share_kept = 0.99 * kLayers};
    const double strength = with.Next(0.5, all += of_token);
    EXPECT_NEAR(strength, without.Next(0.5, tokens += of_token), 1e-9) << token;
    EXPECT_EQ(strength > 0, token > 0) << token;
  }
}

TEST(PriorController, WhereTheDiskAlwaysBindsTheCostSettlesJustBelowTheBound) {
  for (const auto& loss : {QuadraticLoss, LinearLoss}) {
    const PriorControllerOptions options = {.max_cost = 0.01, .cost_of_mass = 1};
    const Course course = Follow(options, 1000, {AlwaysWaits, loss});
    EXPECT_LE(course.highest_cost, 0.01);
    EXPECT_NEAR(loss(0, course.strengths.back()), 0.0085, 0.0003);
    // The band: within 3 % of where it settles, from the 300th token on.
    EXPECT_LT(course.Most(300) / course.Least(300), 1.03);
    EXPECT_GT(course.strengths[120], 0.5 * course.strengths.back());  // and it does not take for ever
  }
}

TEST(PriorController, StaysWithinTheBoundWhateverTokensVary) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Rng rng(seed);
    const auto noisy = [&rng](int token, double strength) {
      const double topic = token / 200 % 2 == 0 ? 1.0 : 1.8;  // another text, all of a sudden
      return topic * QuadraticLoss(token, strength) * (0.5 + rng.NextDouble());
    };
    for (const double max_cost : {0.002, 0.01, 0.05}) {
      const Course course = Follow({.max_cost = max_cost, .cost_of_mass = 2}, 1200, {AlwaysWaits, noisy});
      EXPECT_LE(course.highest_cost, max_cost) << seed;
      EXPECT_GT(2 * (1 - course.counts.gate_mass()), 0.5 * max_cost) << seed;  // and uses most of it
      std::vector<double> late(course.strengths.begin() + 300, course.strengths.end());
      EXPECT_LT(std::ranges::count(late, 0.0), 10) << seed;  // holding back is the exception
      std::erase(late, 0.0);
      EXPECT_LT(*std::ranges::max_element(late) / *std::ranges::min_element(late), 2.0) << seed;
    }
  }
}

TEST(PriorController, FallsToZeroWhenWaitsVanishAndComesBackWithThem) {
  const auto waits = [](int token, double) { return token / 300 % 2 == 0 ? 0.5 : 0.0; };
  const Course course = Follow({}, 900, {waits, QuadraticLoss});
  EXPECT_GT(course.strengths[299], 0.1);
  EXPECT_EQ(course.strengths[399], 0);
  EXPECT_EQ(*std::max_element(course.strengths.begin() + 400, course.strengths.begin() + 600), 0);
  EXPECT_GT(course.strengths[899], 0.1);
}

TEST(PriorController, GoesNoFurtherThanTheDiskAsksFor) {
  // Strength 0.1 hides all but a tenth of the waiting; the bound would allow 0.5.
  const auto waits = [](int, double strength) { return std::max(0.0, 0.5 - 4 * strength); };
  const Course course = Follow({.max_cost = 0.04}, 1500, {waits, QuadraticLoss});
  EXPECT_NEAR(course.strengths.back(), 0.1, 0.02);
  EXPECT_LT(course.Most(400) / course.Least(400), 1.05);
}

TEST(PriorController, DoesNothingWhereNothingWaitsOrNothingIsAllowed) {
  const auto never = [](int, double) { return 0.02; };
  EXPECT_EQ(Follow({}, 300, {never, QuadraticLoss}).Most(0), 0);
  EXPECT_EQ(Follow({.max_cost = 0}, 300, {AlwaysWaits, QuadraticLoss}).Most(0), 0);
}

TEST(PriorController, APromptChangesNothing) {
  PriorController controller;
  RoutingCounts counts;
  EXPECT_EQ(controller.Next(0.9, counts), 0);
  for (int token = 0; token < 50; ++token) {
    counts.n_choices += kLayers;
    counts.share_kept += static_cast<double>(kLayers);
    controller.Next(0.9, counts);
  }
  counts.n_choices += kLayers;
  counts.share_kept += static_cast<double>(kLayers);
  const double strength = controller.Next(0.9, counts);
  EXPECT_GT(strength, 0);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(controller.Next(0.9, counts), strength);
}

TEST(PriorController, StrengthStaysInRangeWhateverItIsTold) {
  Rng rng(3);
  const auto waits = [&rng](int token, double) { return token % 7 == 0 ? std::nan("") : 3 * rng.NextDouble() - 1; };
  const auto loss = [&rng](int, double) { return rng.NextDouble(); };
  const Course course = Follow({.max_cost = 10, .max_strength = 0.5}, 2000, {waits, loss});
  EXPECT_GE(course.Least(0), 0);
  EXPECT_LE(course.Most(0), 0.5);
}

}  // namespace
}  // namespace pantry
