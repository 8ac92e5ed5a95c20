// SPDX-License-Identifier: Apache-2.0
#include "policy/routing/expert_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "base/rng.h"
#include "policy/routing/expert_chooser.h"

namespace pantry {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Token {
  std::vector<float> logits;
  std::vector<uint8_t> is_near;
  float mean_range = 6;
  RouterView view() const { return {logits, is_near, mean_range}; }
};

float Normal(Rng& rng) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += rng.NextDouble();
  return static_cast<float>(sum);
}

Token RandomToken(Rng& rng, size_t n_experts, double near_share = 0.5) {
  Token token;
  for (size_t i = 0; i < n_experts; ++i) {
    token.logits.push_back(2 * Normal(rng));
    token.is_near.push_back(rng.NextDouble() < near_share ? 1 : 0);
  }
  return token;
}

// Ties, infinities, both zeros, NaN.
Token OddToken(Rng& rng, size_t n_experts) {
  constexpr std::array<float, 10> kOdd = {kInfinity, -kInfinity, kNan, -kNan, 0.0f, -0.0f, 1.0f, 1.0f, -1.0f, 1e-40f};
  Token token = RandomToken(rng, n_experts);
  for (float& logit : token.logits) {
    if (rng.NextDouble() < 0.6) logit = kOdd[rng.NextU64() % kOdd.size()];
  }
  return token;
}

std::vector<int32_t> Choose(ExpertPolicy& policy, const Token& token, size_t n_used) {
  std::vector<int32_t> chosen(n_used, -7);
  policy.Choose(token.view(), chosen);
  return chosen;
}
std::unique_ptr<ExpertPolicy> Make(const std::string& text, size_t n_experts, size_t n_used, int32_t top_j = 0) {
  auto spec = ParseExpertPolicy(text);
  EXPECT_TRUE(spec.ok()) << spec.status().ToString();
  spec->top_j = top_j;
  auto policy = MakeExpertPolicy(*spec, static_cast<int32_t>(n_experts), static_cast<int32_t>(n_used));
  EXPECT_TRUE(policy.ok()) << policy.status().ToString();
  return std::move(policy).value();
}

// All experts, best first: of equals the lower index, NaN with the lowest. What models/expert_routing.h promises of exact routing, too.
std::vector<int32_t> Ranked(const std::vector<float>& logits) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto value = [&](int32_t i) {
    const float logit = logits[static_cast<size_t>(i)];
    return std::isnan(logit) ? -kInfinity : logit;
  };
  std::ranges::sort(order, [&](int32_t a, int32_t b) { return value(a) != value(b) ? value(a) > value(b) : a < b; });
  return order;
}
std::vector<int32_t> RankedFirst(const std::vector<float>& logits, size_t n) {
  auto ranked = Ranked(logits);
  ranked.resize(n);
  return ranked;
}

int CountFar(const Token& token, const std::vector<int32_t>& chosen) {
  return static_cast<int>(std::ranges::count_if(
      chosen, [&](int32_t expert) { return expert >= 0 && token.is_near[static_cast<size_t>(expert)] == 0; }));
}

struct Sizes {
  size_t n_experts, n_used;
};
constexpr std::array<Sizes, 6> kSizes = {{{1, 1}, {8, 2}, {16, 2}, {32, 4}, {60, 4}, {128, 8}}};

std::vector<std::string> PoliciesOf(const Sizes& sizes) {
  const auto rank = [&](double share) {
    return std::to_string(sizes.n_used +
                          static_cast<size_t>(share * static_cast<double>(sizes.n_experts - sizes.n_used)));
  };
  return {"exact",
          "max-rank:" + rank(0.3),
          "max-rank:" + rank(1),
          "cumulative:0.6",
          "cumulative:1",
          "margin:0.1",
          "margin:1",
          "cache-prior:0.1",
          "cache-prior:1",
          "factor:2",
          "factor:1000",
          "drop:0.2",
          "drop:1",
          "auto:1%"};
}

TEST(ExpertPolicy, ExactIsASlowSort) {
  Rng rng(1);
  for (const Sizes& sizes : kSizes) {
    const auto exact = Make("exact", sizes.n_experts, sizes.n_used);
    for (int round = 0; round < 300; ++round) {
      const Token token = round % 2 == 0 ? RandomToken(rng, sizes.n_experts) : OddToken(rng, sizes.n_experts);
      ASSERT_EQ(Choose(*exact, token, sizes.n_used), RankedFirst(token.logits, sizes.n_used));
    }
  }
}

TEST(ExpertPolicy, ANeutralValueChoosesExactlyWhatTheRouterDoes) {
  Rng rng(2);
  for (const Sizes& sizes : kSizes) {
    const std::string k = std::to_string(sizes.n_used);
    for (const std::string& text :
         {"max-rank:" + k, std::string("cumulative:0"), std::string("margin:0"), std::string("cache-prior:0"),
          std::string("factor:1"), std::string("drop:0"), std::string("auto:5%")}) {
      const auto policy = Make(text, sizes.n_experts, sizes.n_used);
      for (int round = 0; round < 300; ++round) {
        Token token = round % 2 == 0 ? RandomToken(rng, sizes.n_experts) : OddToken(rng, sizes.n_experts);
        if (round % 3 == 0) token.mean_range = kInfinity;
        ASSERT_EQ(Choose(*policy, token, sizes.n_used), RankedFirst(token.logits, sizes.n_used)) << text;
      }
    }
  }
}

TEST(ExpertPolicy, WhereAllExpertsAreNearOrNoneTheRouterDecides) {
  Rng rng(3);
  for (const Sizes& sizes : kSizes) {
    for (const std::string& text : PoliciesOf(sizes)) {
      const bool drops = text.starts_with("drop");
      const auto policy = Make(text, sizes.n_experts, sizes.n_used);
      for (int round = 0; round < 200; ++round) {
        const bool all = round % 2 == 0;
        if (!all && drops) continue;  // leaves out what is not near
        Token token = OddToken(rng, sizes.n_experts);
        std::ranges::fill(token.is_near, all ? 1 : 0);
        const auto chosen = Choose(*policy, token, sizes.n_used);
        // With none near, only the J best get the bonus, which they need not.
        ASSERT_EQ(chosen, RankedFirst(token.logits, sizes.n_used)) << text << (all ? " all near" : " none near");
      }
    }
  }
}

TEST(ExpertPolicy, ChoicesAreDistinctAndInDescendingOrderAndKeepTheBest) {
  Rng rng(4);
  for (const Sizes& sizes : kSizes) {
    for (const std::string& text : PoliciesOf(sizes)) {
      for (const size_t top_j : {size_t{1}, std::min<size_t>(2, sizes.n_used), sizes.n_used}) {
        const auto policy = Make(text, sizes.n_experts, sizes.n_used, static_cast<int32_t>(top_j));
        for (int round = 0; round < 100; ++round) {
          const Token token = round % 2 == 0 ? RandomToken(rng, sizes.n_experts) : OddToken(rng, sizes.n_experts);
          auto chosen = Choose(*policy, token, sizes.n_used);
          const auto ranked = Ranked(token.logits);
          while (!chosen.empty() && chosen.back() == ExpertChooser::kNone) chosen.pop_back();
          ASSERT_TRUE(text.starts_with("drop") || chosen.size() == sizes.n_used) << text;
          std::vector<ptrdiff_t> ranks;
          for (const int32_t expert : chosen) ranks.push_back(std::ranges::find(ranked, expert) - ranked.begin());
          ASSERT_TRUE(std::ranges::is_sorted(ranks, std::less_equal<>())) << text;
          ASSERT_LT(ranks.back(), static_cast<ptrdiff_t>(sizes.n_experts)) << text;
          for (size_t rank = 0; rank < top_j; ++rank) ASSERT_EQ(chosen[rank], ranked[rank]) << text;
        }
      }
    }
  }
}

// Algorithm 1 of the paper as it is written down there.
std::vector<int32_t> SlowMaxRank(const Token& token, size_t window, size_t top_j, size_t n_used) {
  const auto ranked = Ranked(token.logits);
  std::vector<int32_t> picks(ranked.begin(), ranked.begin() + static_cast<ptrdiff_t>(top_j));
  const auto is_picked = [&](int32_t expert) { return std::ranges::find(picks, expert) != picks.end(); };
  for (size_t rank = top_j; rank < window; ++rank) {
    if (token.is_near[static_cast<size_t>(ranked[rank])] != 0) picks.push_back(ranked[rank]);
  }
  for (const int32_t expert : ranked) {
    if (!is_picked(expert)) picks.push_back(expert);
  }
  picks.resize(n_used);
  std::vector<int32_t> chosen;
  std::ranges::copy_if(ranked, std::back_inserter(chosen), is_picked);
  return chosen;
}

TEST(ExpertPolicy, MaxRankIsTheAlgorithmAsPublished) {
  Rng rng(5);
  for (const Sizes& sizes : kSizes) {
    const auto top_j = static_cast<size_t>(std::min(DefaultTopJ(static_cast<int32_t>(sizes.n_used)), 2));
    for (size_t window = sizes.n_used; window <= sizes.n_experts; window += 1 + window / 3) {
      const auto policy = Make("max-rank:" + std::to_string(window), sizes.n_experts, sizes.n_used);
      for (int round = 0; round < 60; ++round) {
        const Token token = round % 2 == 0 ? RandomToken(rng, sizes.n_experts, 0.3) : OddToken(rng, sizes.n_experts);
        ASSERT_EQ(Choose(*policy, token, sizes.n_used), SlowMaxRank(token, window, top_j, sizes.n_used)) << window;
      }
    }
  }
}

TEST(ExpertPolicy, CumulativeWindowsEndWhereTheSharesAreReached) {
  Rng rng(6);
  for (const double share : {0.2, 0.5, 0.9, 0.97}) {
    const auto policy = Make("cumulative:" + std::to_string(share), 32, 4);
    for (int round = 0; round < 300; ++round) {
      const Token token = RandomToken(rng, 32, 0.4);
      const auto ranked = Ranked(token.logits);
      double sum = 0, reached = 0;
      for (const float logit : token.logits) sum += std::exp(static_cast<double>(logit));
      size_t window = 0;
      while (reached < share * sum)
        reached += std::exp(static_cast<double>(token.logits[static_cast<size_t>(ranked[window++])]));
      ASSERT_EQ(Choose(*policy, token, 4), SlowMaxRank(token, std::max<size_t>(window, 4), 2, 4)) << share;
    }
  }
}

TEST(ExpertPolicy, MarginWindowsEndAPartOfTheRangeBelowTheLastPick) {
  Rng rng(11);
  for (const double share : {0.02, 0.1, 0.3, 1.0}) {
    const auto policy = Make(fmt::format("margin:{}", share), 32, 4);
    for (int round = 0; round < 300; ++round) {
      const Token token = RandomToken(rng, 32, 0.4);
      const auto ranked = Ranked(token.logits);
      const auto logit = [&](size_t rank) { return double{token.logits[static_cast<size_t>(ranked[rank])]}; };
      size_t window = 4;
      while (window < 32 && logit(window) >= logit(3) - share * 6) ++window;
      ASSERT_EQ(Choose(*policy, token, 4), SlowMaxRank(token, window, 2, 4)) << share;
    }
  }
}

// Of 4 picks fewer have a logit that is a number: there is nothing that the window could be measured from, so what runs is exact.
TEST(ExpertPolicy, AMarginBelowNoNumberIsNone) {
  const auto policy = Make("margin:1", 32, 4);
  for (const float none : {-kInfinity, kNan}) {
    Token token = {std::vector<float>(32, none), std::vector<uint8_t>(32, 0), 6};
    for (const size_t expert : {7, 20, 30}) token.logits[expert] = 1;
    for (const size_t expert : {9, 31}) token.is_near[expert] = 1;
    EXPECT_EQ(Choose(*policy, token, 4), RankedFirst(token.logits, 4));
    token.logits[9] = 0.5;  // the last pick has one: what has none is below any margin
    token.logits[31] = 0.25;
    token.is_near = std::vector<uint8_t>(32, 1);
    token.is_near[9] = token.is_near[7] = 0;
    EXPECT_EQ(Choose(*policy, token, 4), (std::vector<int32_t>{7, 20, 30, 31}));
  }
}

// Why margin.cc measures from the last pick.
TEST(ExpertPolicy, AMarginFromTheExpertThatGivesWayWouldBeCachePrior) {
  Rng rng(12);
  const auto prior = Make("cache-prior:0.1", 32, 4);
  int n_swaps = 0;
  for (int round = 0; round < 1000; ++round) {
    const Token token = RandomToken(rng, 32, 0.4);
    const auto ranked = Ranked(token.logits);
    const auto logit = [&](int32_t expert) { return double{token.logits[static_cast<size_t>(expert)]}; };
    const auto is_near = [&](int32_t expert) { return token.is_near[static_cast<size_t>(expert)] != 0; };
    std::vector<int32_t> slow(ranked.begin(), ranked.begin() + 4);
    auto stand_in = std::find_if(ranked.begin() + 4, ranked.end(), is_near);
    for (size_t rank = 4; rank-- > 2;) {
      if (is_near(slow[rank])) continue;
      if (stand_in == ranked.end() || logit(*stand_in) < logit(slow[rank]) - 0.1 * 6) break;
      slow[rank] = *stand_in;
      stand_in = std::find_if(stand_in + 1, ranked.end(), is_near);
      ++n_swaps;
    }
    auto found = Choose(*prior, token, 4);
    std::ranges::sort(slow);
    std::ranges::sort(found);
    ASSERT_EQ(found, slow);
  }
  EXPECT_GT(n_swaps, 100);
}

TEST(ExpertPolicy, WithoutARangeOfLogitsTheRouterDecides) {
  Rng rng(13);
  for (const std::string text : {"margin:1", "cache-prior:1"}) {
    const auto policy = Make(text, 32, 4);
    for (const float range : {0.0f, kInfinity, kNan}) {
      for (int round = 0; round < 20; ++round) {
        Token token = OddToken(rng, 32);
        token.mean_range = range;
        ASSERT_EQ(Choose(*policy, token, 4), RankedFirst(token.logits, 4)) << text;
      }
    }
  }
}

TEST(ExpertPolicy, PriorsAddAPartOfTheRangeOrAFactorOfTheShare) {
  Rng rng(7);
  for (int round = 0; round < 400; ++round) {
    const Token token = RandomToken(rng, 32, 0.4);
    const auto ranked = Ranked(token.logits);
    for (const bool is_factor : {false, true}) {
      const double bonus = is_factor ? std::log(3.0) : 0.15 * 6;
      std::vector<double> raised(token.logits.begin(), token.logits.end());
      for (size_t i = 0; i < raised.size(); ++i) {
        if (token.is_near[i] != 0 || static_cast<int32_t>(i) == ranked[0] || static_cast<int32_t>(i) == ranked[1]) {
          raised[i] += bonus;
        }
      }
      auto slow = ranked;
      std::ranges::sort(
          slow, [&](int32_t a, int32_t b) { return raised[static_cast<size_t>(a)] > raised[static_cast<size_t>(b)]; });
      slow.resize(4);
      auto found = Choose(*Make(is_factor ? "factor:3" : "cache-prior:0.15", 32, 4), token, 4);
      std::ranges::sort(slow);
      std::ranges::sort(found);
      ASSERT_EQ(found, slow);
    }
  }
}

TEST(ExpertPolicy, MoreOfAPolicyNeverChoosesMoreFarExperts) {
  Rng rng(8);
  std::vector<std::vector<std::string>> scales(5);
  for (int step = 0; step <= 20; ++step) {
    scales[0].push_back(fmt::format("cache-prior:{}", step * 0.05));
    scales[1].push_back(fmt::format("max-rank:{}", 4 + step));
    scales[2].push_back(fmt::format("cumulative:{}", step * 0.05));
    scales[3].push_back(fmt::format("factor:{}", 1 + step));
    scales[4].push_back(fmt::format("margin:{}", step * 0.05));
  }
  for (const auto& scale : scales) {
    int saved = 0;
    for (int round = 0; round < 200; ++round) {
      const Token token = round % 4 == 3 ? OddToken(rng, 32) : RandomToken(rng, 32, 0.1 + 0.2 * (round % 3));
      int before = 4;
      for (const std::string& text : scale) {
        const int n_far = CountFar(token, Choose(*Make(text, 32, 4), token, 4));
        ASSERT_LE(n_far, before) << text;
        saved += before - n_far;
        before = n_far;
      }
    }
    EXPECT_GT(saved, 200) << scale.back();  // and it does something
  }
}

TEST(ExpertPolicy, DropLeavesOutNoMoreThanItsShareAndNeverWhatIsNear) {
  Rng rng(9);
  int n_dropped = 0;
  for (const double share : {0.05, 0.2, 0.5, 1.0}) {
    const auto policy = Make(fmt::format("drop:{}", share), 32, 4);
    for (int round = 0; round < 300; ++round) {
      const Token token = RandomToken(rng, 32, 0.5);
      const auto exact = RankedFirst(token.logits, 4);
      const auto chosen = Choose(*policy, token, 4);
      double all = 0, left_out = 0, least_kept_far = kInfinity;
      for (size_t rank = 0; rank < 4; ++rank) {
        const auto expert = static_cast<size_t>(exact[rank]);
        const double weight = std::exp(static_cast<double>(token.logits[expert]));
        all += weight;
        const bool is_kept = std::ranges::find(chosen, exact[rank]) != chosen.end();
        if (!is_kept) {
          ++n_dropped;
          left_out += weight;
          ASSERT_EQ(token.is_near[expert], 0);
          ASSERT_GE(rank, 2u);
        } else if (token.is_near[expert] == 0 && rank >= 2) {
          least_kept_far = std::min(least_kept_far, weight);
        }
      }
      ASSERT_LE(left_out, share * all * (1 + 1e-12));
      ASSERT_GT(left_out + least_kept_far, share * all * (1 - 1e-12));  // nor less than it may
    }
  }
  EXPECT_GT(n_dropped, 200);
}

TEST(ExpertPolicy, FewerMayBeAskedForThanTheModelUses) {
  Rng rng(10);
  for (const std::string& text : PoliciesOf({32, 4})) {
    const auto policy = Make(text, 32, 4);
    for (const size_t n : {size_t{0}, size_t{1}, size_t{3}}) {
      const Token token = RandomToken(rng, 32);
      const auto chosen = Choose(*policy, token, n);
      if (n > 0) {
        EXPECT_EQ(chosen[0], Ranked(token.logits)[0]) << text;
      }
    }
    const Token few = RandomToken(rng, 5);  // and of fewer than it was made for
    const auto of_few = Choose(*policy, few, 4);
    EXPECT_GE(std::set<int32_t>(of_few.begin(), of_few.end()).size(), 2u) << text;
    EXPECT_LT(*std::ranges::max_element(of_few), 5) << text;
  }
}

}  // namespace
}  // namespace pantry
