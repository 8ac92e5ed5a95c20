// SPDX-License-Identifier: Apache-2.0
// `pantry sim` as a user runs it: what it prints and refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "support/run_program.h"
#include "support/temporary_files.h"

namespace pantry {
namespace {

using ::pantry::testing::Args;
using ::pantry::testing::Execute;
using ::pantry::testing::Outcome;
using ::pantry::testing::TemporaryFile;
using ::testing::HasSubstr;

Outcome Sim(Args more) {
  Args args = {"sim", "--device", std::string(PANTRY_SOURCE_DIR) + "/src/sim/devices/oneplus12.json"};
  args.insert(args.end(), more.begin(), more.end());
  return Execute(args);
}

TEST(SimProgram, SameInputGivesTheSameJson) {
  const Args args = {"smallthinker-4b", "--memory",       "1G",     "--trace",
                     "zipf:tokens=8",   "--cache-policy", "lfu:32", "--json"};
  const Outcome outcome = Sim(args);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(Sim(args).out, outcome.out);
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json.at("policy"), "lfu");
  EXPECT_EQ(json.at("half_life_tokens"), 32);
  EXPECT_EQ(json.at("n_tokens"), 8);
  EXPECT_GT(json.at("tok_per_s").get<double>(), 0);
}

TEST(SimProgram, ADenseModelTakesANumberOfTokens) {
  const Outcome outcome = Sim({"llama-7b", "--trace", "zipf:tokens=3", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(nlohmann::json::parse(outcome.out).at("n_tokens"), 3);
}

TEST(SimProgram, MoreThreadsThanCoresAreCutWithAWarning) {
  const Outcome outcome = Sim({"smallthinker-4b", "--threads", "64", "--trace", "zipf:tokens=2", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(nlohmann::json::parse(outcome.out).at("n_cores"), 6);
  EXPECT_THAT(outcome.err, HasSubstr("has 6 cores, not 64"));
}

TEST(SimProgram, AnExpertPolicyReadsLessAndSaysWhatItGaveUp) {
  const Args args = {"smallthinker-4b", "--memory", "1G", "--trace", "zipf:tokens=20", "--json"};
  const auto with = [&](const std::string& policy) {
    Args more = args;
    more.insert(more.end(), {"--expert-policy", policy});
    const Outcome outcome = Sim(more);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.out;
  };
  const std::string exact = Sim(args).out;
  EXPECT_EQ(with("exact"), exact);
  nlohmann::json none = nlohmann::json::parse(with("cache-prior:0"));
  const nlohmann::json none_of_it = none.at("expert_policy");
  EXPECT_EQ(none_of_it.at("agreement"), 1);
  none.erase("expert_policy");
  EXPECT_EQ(none, nlohmann::json::parse(exact));
  const nlohmann::json some = nlohmann::json::parse(with("cache-prior:0.5"));
  const nlohmann::json& policy = some.at("expert_policy");
  EXPECT_EQ(policy.at("policy"), "cache-prior:0.5");
  EXPECT_EQ(policy.at("strength"), 0.5);
  EXPECT_EQ(policy.at("choices"), 20 * 32);
  EXPECT_LT(policy.at("agreed"), policy.at("picks"));
  EXPECT_LT(policy.at("gate_mass"), 1);
  EXPECT_EQ(none_of_it.at("excess_kl"), 0);
  EXPECT_GE(policy.at("excess_kl").get<double>(), -std::log(policy.at("gate_mass").get<double>()));
  EXPECT_LT(some.at("disk").at("bytes_read"), none.at("disk").at("bytes_read"));
  const Outcome text = Sim({"smallthinker-4b", "--memory", "1G", "--expert-policy", "auto:1%", "--expert-policy-skip",
                            "2", "--trace", "zipf:tokens=3"});
  EXPECT_THAT(text.out, HasSubstr("auto:1%: "));
  EXPECT_THAT(text.out, HasSubstr(" % of the router's picks, "));
  const Outcome resident = Sim({"smallthinker-4b", "--expert-policy", "factor:2", "--trace", "zipf:tokens=2"});
  EXPECT_EQ(resident.exit_code, 0);
  EXPECT_THAT(resident.err, HasSubstr("--expert-policy factor:2: no effect here because all experts are in memory"));
}

TEST(SimProgram, WhatHasNoEffectOrIsWrongIsRefused) {
  const TemporaryFile other(
      R"({"pantry_routing":1,"first_layer":0,"n_layers":32,"n_experts":32,"n_used":8,"block_bytes":[]})"
      "\n");
  const TemporaryFile bare(
      R"({"pantry_routing":1,"first_layer":0,"n_layers":32,"n_experts":32,"n_used":4,"block_bytes":[]})"
      "\n"
      R"({"t":0,"n":1,"layer":0,"experts":[1,2,3,4]})"
      "\n");
  const std::pair<Args, const char*> cases[] = {
      {{"--ablation", "powerinfer2", "--memory", "4G"}, "--memory has no effect on --ablation"},
      {{"--ablation", "powerinfer2", "-m", "llama-7b"}, "--model has no effect on --ablation"},
      {{"--ablation", "powerinfer2", "--skip", "3"}, "--skip has no effect on --ablation"},
      {{"--ablation", "powerinfer2-sensitivity", "--json"}, "--json has no effect on a table of sensitivities"},
      {{"--ablation", "powerinfer3"}, "expected powerinfer2 or powerinfer2-sensitivity"},
      {{"smallthinker-4b", "--stream", "on"}, "--stream has no effect on a shape"},
      {{"llama-7b", "--trace", "zipf:tokens=3,seed=2"}, "dense model"},
      {{"llama-7b", "--cache-policy", "lru"}, "dense model"},
      {{"qwen3-30b-a3b", "--trace", "zipf:topics=8192"}, "would take"},
      {{"smallthinker-4b", "--trace", "zipf:own=nan"}, "must be numbers"},
      {{"smallthinker-4b", "--threads", "5000"}, "1 to 1024"},
      {{"llama-7b", "--expert-policy", "factor:2"}, "dense model"},
      {{"--ablation", "powerinfer2", "--expert-policy", "drop:0.1"}, "--expert-policy has no effect on --ablation"},
      {{"smallthinker-4b", "--expert-policy", "nonsense"}, "--expert-policy: "},
      {{"smallthinker-4b", "--memory", "1G", "--expert-policy", "factor:2", "--cache-policy", "belady"},
       "the future is not known"},
      {{"smallthinker-4b", "--memory", "1G", "--expert-policy", "factor:2", "--trace", bare.path()},
       "has no logits of its router to choose by; record them: pantry run"},
      {{"smallthinker-4b", "--trace", other.path()}, "8 of 32 experts, the model has 32 with 4 of 32"},
  };
  for (const auto& [args, message] : cases) {
    const Outcome outcome = Sim(args);
    EXPECT_EQ(outcome.exit_code, 2) << message;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_EQ(outcome.out, "");
  }
}

}  // namespace
}  // namespace pantry
