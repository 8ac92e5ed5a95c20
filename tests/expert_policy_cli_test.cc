// SPDX-License-Identifier: Apache-2.0
// --expert-policy as a user sees it: what it changes, what is said about it, and where it is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "support/run_program.h"
#include "support/temporary_files.h"
#include "support/test_paths.h"

namespace pantry {
namespace {

using ::pantry::testing::Args;
using ::pantry::testing::Execute;
using ::pantry::testing::Outcome;
using ::pantry::testing::TemporaryFolder;
using ::pantry::testing::TestData;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

// A trained model with experts, streamed with room for a third of them.
class ExpertPolicy : public ::testing::Test {
 protected:
  void SetUp() override {
    if (Model().empty()) GTEST_SKIP() << "the shared models are not there";
  }
  static std::string Model() { return testing::SharedData("data/models/tiny-thinker-Q8_0.gguf"); }
  static std::string Budget() {
    const Outcome plan = Execute({"plan", Model(), "--stream", "on", "--memory", "2G", "-c", "128", "--json"});
    EXPECT_EQ(plan.exit_code, 0) << plan.err;
    const auto memory = nlohmann::json::parse(plan.out).at("memory");
    const int64_t cache = memory.at("cache_bytes").get<int64_t>();
    return std::to_string((memory.at("total_bytes").get<int64_t>() - cache * 2 / 3) >> 20) + "M";
  }
  static Outcome Run(const Args& more) {
    Args args = {"run",      Model(),        "-p",       "The old man went to",
                 "--no-cnv", "-n",           "40",       "-s",
                 "1",        "--ignore-eos", "-c",       "128",
                 "--stream", "on",           "--memory", Budget()};
    args.insert(args.end(), more.begin(), more.end());
    return Execute(args);
  }
  static std::vector<nlohmann::json> Lines(const std::string& path) {
    std::vector<nlohmann::json> lines;
    std::istringstream text(testing::ReadFile(path));
    for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }
};

TEST_F(ExpertPolicy, ExactIsTheDefaultAndNoStrengthSaysTheSame) {
  const Outcome exact = Run({});
  EXPECT_EQ(exact.exit_code, 0) << exact.err;
  EXPECT_THAT(exact.err, Not(HasSubstr("of the router's picks")));
  EXPECT_EQ(Run({"--expert-policy", "exact"}).out, exact.out);
  const Outcome none = Run({"--expert-policy", "cache-prior:0"});
  EXPECT_EQ(none.out, exact.out);
  EXPECT_THAT(none.err, HasSubstr("cache-prior:0: 100.0% of the router's picks, 100.0% of their weight"));
}

TEST_F(ExpertPolicy, FooterAndStatsSayWhatItChanged) {
  const TemporaryFolder folder;
  const std::string stats = folder.path() + "/stats.jsonl";
  const Outcome run = Run({"--expert-policy", "cache-prior:0.9", "--stats", stats});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, ContainsRegex("cache-prior:0.9: [0-9.]+% of the router's picks, [0-9.]+% of their weight"));
  const std::vector<nlohmann::json> lines = Lines(stats);
  ASSERT_EQ(lines.size(), 40u);
  EXPECT_EQ(lines.front().at("choices"), 0);  // prompts are left alone
  int64_t n_picks = 0, n_agreed = 0;
  double excess_kl = 0;
  for (const nlohmann::json& line : lines) {
    EXPECT_EQ(line.at("policy"), "cache-prior:0.9");
    n_picks += line.at("picks").get<int64_t>();
    n_agreed += line.at("agreed").get<int64_t>();
    excess_kl += line.at("excess_kl").get<double>();
    EXPECT_LE(line.at("weight_kept").get<double>(), line.at("choices").get<double>() + 1e-6);
  }
  EXPECT_EQ(n_picks, 39 * 6 * 4);
  EXPECT_LT(n_agreed, n_picks);
  EXPECT_GT(n_agreed, n_picks / 4);
  EXPECT_GT(excess_kl, 0);
}

TEST_F(ExpertPolicy, PerplexityTellsThePriceAndTheGain) {
  const testing::TemporaryFile text(
      testing::ReadFile(testing::SharedData("data/models/tiny-thinker-eval.txt")).substr(0, 4000), ".txt");
  const auto measure = [&](const std::string& policy) {
    const Outcome outcome = Execute({"eval", "perplexity", "-m", Model(), "-f", text.path(), "-c", "128", "--chunks",
                                     "3", "--stream", "on", "--memory", Budget(), "--expert-policy", policy, "--json"});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out);
  };
  const nlohmann::json plain = measure("exact");
  EXPECT_FALSE(plain.contains("miss_rate"));
  const nlohmann::json none = measure("cache-prior:0"), strong = measure("cache-prior:0.6");
  EXPECT_EQ(none.at("ppl"), plain.at("ppl"));
  EXPECT_EQ(none.at("agreement"), 1);
  EXPECT_EQ(none.at("excess_kl"), 0);
  EXPECT_LT(strong.at("miss_rate"), none.at("miss_rate"));
  EXPECT_LT(strong.at("agreement"), 1);
  EXPECT_GE(strong.at("excess_kl").get<double>(), -std::log(strong.at("gate_mass").get<double>()));
  EXPECT_NE(strong.at("ppl"), plain.at("ppl"));
}

TEST_F(ExpertPolicy, AutoNamesItselfAndItsStrength) {
  const TemporaryFolder folder;
  const std::string stats = folder.path() + "/stats.jsonl";
  const Outcome run = Run({"--expert-policy", "auto:1%", "--stats", stats});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("auto:1%: "));
  for (const nlohmann::json& line : Lines(stats)) {
    EXPECT_GE(line.at("strength"), 0);
    EXPECT_LE(line.at("strength"), 1);
  }
}

TEST_F(ExpertPolicy, WhatDoesNotSuitTheModelIsRefused) {
  const Outcome rank = Run({"--expert-policy", "max-rank:33"});
  EXPECT_EQ(rank.exit_code, 2) << rank.err;
  EXPECT_THAT(rank.err, HasSubstr("32"));
  EXPECT_EQ(Run({"--expert-policy", "cache-prior:0.1", "--expert-policy-top", "5"}).exit_code, 2);
}

TEST_F(ExpertPolicy, WithEverythingInMemorySaysThatItHasNoEffect) {
  const Outcome run = Execute(
      {"run", Model(), "-p", "x", "--no-cnv", "-n", "2", "--stream", "off", "--expert-policy", "cache-prior:0.5"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("--expert-policy cache-prior:0.5: no effect here because all experts are in memory"));
}

TEST(ExpertPolicyFlag, NonsenseIsToldBeforeTheModelIsLoaded) {
  for (const std::string policy :
       {"nearest", "cache-prior", "cache-prior:x", "cache-prior:2", "auto:0", "max-rank:-1"}) {
    const Outcome run = Execute({"run", TestData("models/tiny-llama.gguf"), "-p", "x", "--expert-policy", policy});
    EXPECT_EQ(run.exit_code, 2) << policy << run.err;
    EXPECT_THAT(run.err, HasSubstr("--expert-policy")) << policy;
    EXPECT_THAT(run.err, Not(HasSubstr("mode:")));
  }
}

TEST(ExpertPolicyFlag, AModelWithoutExpertsSaysThatItHasNoEffect) {
  const Outcome run = Execute({"run", TestData("models/tiny-llama.gguf"), "-p", "x", "-n", "1", "--no-cnv",
                               "--expert-policy", "cache-prior:0.5"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("no effect here because the model has no experts"));
}

}  // namespace
}  // namespace pantry
