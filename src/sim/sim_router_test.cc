// SPDX-License-Identifier: Apache-2.0
#include "sim/sim_router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "sim/sim_test_models.h"
#include "sim/simulator.h"

namespace pantry {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using testing::SmallDevice;
using testing::SmallModel;

constexpr int kTokens = 120;

RoutingTrace TraceOf(const SimModel& model, int n_tokens, bool keeps_logits) {
  return MakeTrace({"small", model.n_layers(), model.n_experts, model.n_used},
                   {.n_tokens = n_tokens, .ascends = true, .keeps_logits = keeps_logits});
}

RoutingTrace TraceWithLogits(const SimModel& model, int n_tokens = kTokens) { return TraceOf(model, n_tokens, true); }

SimOptions WithPolicy(const SimModel& model, const std::string& policy, double cache_share = 0.4) {
  SimOptions options;
  options.cache_bytes = static_cast<int64_t>(cache_share * model.block_bytes());
  options.expert_policy.policy = ParseExpertPolicy(policy).value();
  return options;
}

SimReport Simulated(const SimModel& model, const RoutingTrace& trace, const SimOptions& options,
                    const DeviceProfile& device = SmallDevice()) {
  auto report = Simulate(model, trace, device, options);
  EXPECT_TRUE(report.ok()) << report.status().ToString();
  return report.ok() ? *std::move(report) : SimReport();
}

TEST(SimRouter, APolicyThatIsExactGivesTheReportOfTheReplay) {
  const SimModel model = SmallModel();
  const RoutingTrace trace = TraceWithLogits(model);
  const SimReport replayed = Simulated(model, TraceOf(model, kTokens, false), WithPolicy(model, "exact"));
  EXPECT_GT(replayed.cache.n_misses, 0);
  EXPECT_GT(replayed.cache.n_guesses, 0);
  EXPECT_EQ(replayed.routing.n_choices, 0);
  for (const std::string policy : {"exact", "cache-prior:0", "max-rank:4", "cumulative:0", "factor:1", "drop:0"}) {
    SCOPED_TRACE(policy);
    const SimReport report = Simulated(model, trace, WithPolicy(model, policy));
    EXPECT_EQ(report.wall_us, replayed.wall_us);
    EXPECT_EQ(report.time_us, replayed.time_us);
    EXPECT_EQ(report.cache.n_hits, replayed.cache.n_hits);
    EXPECT_EQ(report.cache.n_late, replayed.cache.n_late);
    EXPECT_EQ(report.cache.n_guesses_used, replayed.cache.n_guesses_used);
    EXPECT_EQ(report.reader.bytes_read, replayed.reader.bytes_read);
    if (policy == "exact") continue;
    EXPECT_EQ(report.routing.n_choices, kTokens * model.n_layers());
    EXPECT_EQ(report.routing.n_agreed, report.routing.n_picks);
    EXPECT_EQ(report.routing.gate_mass(), 1);
  }
}

TEST(SimRouter, MissesFallWithStrengthAndGateMassWithThem) {
  const SimModel model = SmallModel();
  const RoutingTrace trace = TraceWithLogits(model, 300);
  for (const double recall : {0.0, 0.8}) {
    SCOPED_TRACE(recall);
    SimOptions options = WithPolicy(model, "exact");
    options.guess_recall = recall;
    const SimReport exact = Simulated(model, trace, options);
    SimReport before = exact;
    before.routing.n_choices = 0;
    for (const std::string strength : {"0.1", "0.2", "0.4", "0.8"}) {
      options.expert_policy = WithPolicy(model, "cache-prior:" + strength).expert_policy;
      const SimReport report = Simulated(model, trace, options);
      EXPECT_LT(report.reader.bytes_read, before.reader.bytes_read) << strength;
      EXPECT_LT(report.routing.gate_mass(), before.routing.gate_mass()) << strength;
      EXPECT_GT(report.tok_per_s(), before.tok_per_s()) << strength;
      before = report;
    }
    EXPECT_LT(before.cache.n_misses, 0.3 * static_cast<double>(exact.cache.n_misses));
    EXPECT_EQ(before.strength, 0.8);
  }
}

// A guess is what would be chosen if the layer were next now: the same, and nothing is counted.
TEST(SimRouter, GuessesGoThroughThePolicy) {
  const SimModel model = SmallModel();
  const RoutingTrace trace = TraceWithLogits(model, 40);
  const DeviceProfile device = SmallDevice();
  const SimOptions options = WithPolicy(model, "cache-prior:0.5");
  Machine machine(device, 2);
  const auto stream = SimStream::Open(model, trace, device, options, nullptr, machine).value();
  const auto router = SimRouter::Create(options.expert_policy, model, trace, *stream).value();
  const auto nothing = [](std::span<const BlockId>) {};
  const auto meanwhile = [](double) {};
  int n_unlike_routers = 0;
  for (size_t event = 0; event < trace.events.size(); ++event) {
    const int layer = trace.events[event].layer;
    if (layer == 0) stream->BeginRun(static_cast<int64_t>(event) / model.n_layers() + 1, 1);
    const auto wanted = router->Choose(event);
    const auto guessed = router->Guess(event);
    ASSERT_THAT(guessed, ElementsAreArray(wanted.begin(), wanted.end()));
    EXPECT_EQ(router->chooser().counts().n_choices, static_cast<int64_t>(event) + 1);
    const auto routers = trace.blocks_of(event);
    for (const BlockId block : guessed) n_unlike_routers += std::ranges::count(routers, block) == 0 ? 1 : 0;
    ASSERT_TRUE(stream
                    ->Provide(model.steps[static_cast<size_t>(layer)], wanted, FunctionRef<void(double)>(meanwhile),
                              SimStream::Compute(nothing))
                    .ok());
  }
  EXPECT_GT(n_unlike_routers, 0);
}

// What a simulation asks of the disk beforehand is what the policy would run, not what the trace ran: under a prior that takes what is near,
// next to nothing.
TEST(SimRouter, ASimulationGuessesByItsPolicy) {
  const SimModel model = SmallModel();
  const RoutingTrace trace = TraceWithLogits(model);
  SimOptions options = WithPolicy(model, "exact");
  options.guess_recall = 1;
  const SimReport exact = Simulated(model, trace, options);
  options.expert_policy = WithPolicy(model, "cache-prior:1").expert_policy;
  options.expert_policy.policy.top_j = 1;
  const SimReport prior = Simulated(model, trace, options);
  EXPECT_LT(prior.cache.n_guesses, exact.cache.n_guesses / 2);
  EXPECT_LE(prior.cache.n_guesses, prior.routing.n_choices) << "the best one, where it is far";
}

TEST(SimRouter, FirstLayersAndWhatIsSkippedAreNotCounted) {
  const SimModel model = SmallModel();
  const RoutingTrace trace = TraceWithLogits(model);
  SimOptions options = WithPolicy(model, "cache-prior:0.3");
  const RoutingCounts all = Simulated(model, trace, options).routing;
  options.skip_steps = 50;
  const RoutingCounts late = Simulated(model, trace, options).routing;
  EXPECT_EQ(late.n_choices, (kTokens - 50) * model.n_layers());
  EXPECT_LT(late.n_agreed, all.n_agreed);
  options.expert_policy.n_spared_layers = 2;
  EXPECT_EQ(Simulated(model, trace, options).routing.n_choices, (kTokens - 50) * (model.n_layers() - 2));
}

// A run of several tokens has no logits; it runs what it ran.
TEST(SimRouter, PromptsAreAsRecorded) {
  const SimModel model = SmallModel();
  const RoutingTrace tokens = TraceWithLogits(model, 30);
  RoutingTrace trace;
  for (size_t i = 0; i < tokens.events.size(); ++i) {
    const RoutingTrace::Event& event = tokens.events[i];
    const bool is_prompt = i < static_cast<size_t>(model.n_layers());
    trace.Add(event.layer, event.begins_step, tokens.blocks_of(i), is_prompt ? 7 : 1,
              is_prompt ? std::span<const float>() : tokens.logits_of(i));
  }
  SimOptions options = WithPolicy(model, "cache-prior:1");
  const SimReport report = Simulated(model, trace, options);
  EXPECT_EQ(report.routing.n_choices, 29 * model.n_layers());
  EXPECT_EQ(report.n_tokens, 36);
  options.expert_policy.in_prompts = true;
  const auto refused = Simulate(model, trace, SmallDevice(), options);
  EXPECT_EQ(refused.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--ubatch-size 1"));
}

TEST(SimRouter, AutoTakesWhatTheDiskAsksFor) {
  const SimModel model = SmallModel();
  const RoutingTrace trace = TraceWithLogits(model, 400);
  const SimReport slow = Simulated(model, trace, WithPolicy(model, "auto:5%"), SmallDevice(0.3e9));
  EXPECT_GT(slow.strength, 0);
  EXPECT_LT(slow.routing.agreement(), 1);
  EXPECT_LT(0.3 * (1 - slow.routing.gate_mass()), 0.05);
  EXPECT_LT(slow.cache.n_misses,
            Simulated(model, trace, WithPolicy(model, "exact"), SmallDevice(0.3e9)).cache.n_misses);
  // All is there after the first tokens: nothing waits, nothing is given up.
  const SimReport fits = Simulated(model, trace, WithPolicy(model, "auto:5%", 2));
  EXPECT_EQ(fits.strength, 0);
  EXPECT_GT(fits.routing.agreement(), slow.routing.agreement());
}

// Each expert left out is one that is neither read nor computed.
TEST(SimRouter, DroppedExpertsAreNotComputed) {
  const SimModel model = SmallModel();
  const RoutingTrace trace = TraceWithLogits(model);
  const SimReport exact = Simulated(model, trace, WithPolicy(model, "exact"));
  const SimReport dropped = Simulated(model, trace, WithPolicy(model, "drop:0.2"));
  EXPECT_LT(dropped.cache.n_demanded, exact.cache.n_demanded);
  EXPECT_EQ(dropped.cache.n_demanded, dropped.routing.n_agreed);
  EXPECT_LT(dropped.memory_bytes, exact.memory_bytes);
  const auto blocks = static_cast<size_t>(TimeUse::kBlocks);
  EXPECT_LT(dropped.time_us[blocks], exact.time_us[blocks]);
}

TEST(SimRouter, WhatCannotBeChosenIsRefused) {
  const SimModel model = SmallModel();
  const RoutingTrace trace = TraceWithLogits(model, 3);
  const auto message = [&](const RoutingTrace& of, const SimOptions& options) {
    const auto report = Simulate(model, of, SmallDevice(), options);
    EXPECT_EQ(report.status().code(), StatusCode::kInvalidArgument);
    return std::string(report.status().message());
  };
  const SimOptions prior = WithPolicy(model, "cache-prior:0.2");
  EXPECT_THAT(message(TraceOf(model, 3, false), prior), HasSubstr("pantry run -m MODEL -p TEXT --routing-trace"));
  RoutingTrace partly = trace;
  partly.events.back().logits_at = -1;
  EXPECT_THAT(message(partly, prior), HasSubstr("(layer 5) has no logits"));
  RoutingTrace other = trace;
  other.n_logits = 8;
  EXPECT_THAT(message(other, prior), HasSubstr("8 logits"));
  RoutingTrace deeper = trace;
  deeper.events.back().layer = 6;
  EXPECT_THAT(message(deeper, prior), HasSubstr("of layer 6"));
  SimOptions bound = prior;
  bound.knows_future = true;
  EXPECT_THAT(message(trace, bound), HasSubstr("the future is not known"));
  EXPECT_THAT(message(trace, WithPolicy(model, "max-rank:99")), HasSubstr("max-rank"));
}

}  // namespace
}  // namespace pantry
