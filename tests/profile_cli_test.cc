// SPDX-License-Identifier: Apache-2.0
// `pantry profile` and --sparsity as a user runs them: what they print, write and refuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "support/model_in_folder.h"
#include "support/run_program.h"
#include "support/temporary_files.h"
#include "support/test_paths.h"

namespace pantry {
namespace {

using ::pantry::testing::Args;
using ::pantry::testing::Execute;
using ::pantry::testing::ModelInFolder;
using ::pantry::testing::Outcome;
using ::pantry::testing::ReadFile;
using ::pantry::testing::TemporaryFile;
using ::pantry::testing::TestData;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class Profile : public ::testing::Test, protected ModelInFolder {
 protected:
  Profile() : ModelInFolder("tiny-llama") {}
  Outcome Make(const Args& more = {}) const { return OnText({"profile", model_, "-n", "256"}, more); }
};

TEST_F(Profile, FlagsOfSingleNeuronsSayWhereTheyHaveNoEffect) {
  const std::string of_profile = "--profile: no effect here because there is no --sparsity";
  EXPECT_THAT(Perplexity({"--profile", "x"}).err, HasSubstr(of_profile));
  EXPECT_THAT(Perplexity({"--profile", "x", "--no-warm-start"}).err, HasSubstr(of_profile));
  EXPECT_THAT(Perplexity({"--warm-start"}).err, HasSubstr("--warm-start: no effect here because"));
  for (const Args& args : {Args{}, Args{"--no-warm-start"}}) {
    EXPECT_THAT(Perplexity(args).err, Not(HasSubstr("no effect")));
  }
  EXPECT_THAT(Execute({"plan", model_, "--profile", "x"}).out, HasSubstr("--profile: no effect here because"));
}

TEST_F(Profile, AWantedSpeedOfAPlanSaysWhyItHasNoEffect) {
  EXPECT_THAT(Execute({"plan", model_, "--min-speed", "3"}).out,
              HasSubstr("--min-speed: no effect here because the model's neurons do not rest"));
  const std::string relu = TestData("models/tiny-bamboo-quantized.gguf");
  EXPECT_THAT(Execute({"plan", relu, "--min-speed", "3"}).out,
              HasSubstr("--min-speed: no effect here because its neurons would not lie one by one"));
}

TEST_F(Profile, LiesBesideTheModelAndServesSparsity) {
  const TemporaryFile page("");
  const Outcome made = Make({"--report", page.path()});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_THAT(made.out, StartsWith("layer"));
  EXPECT_THAT(made.err, HasSubstr("tiny.gguf.profile · 256 tokens"));
  EXPECT_THAT(ReadFile(model_ + ".profile"), StartsWith("PANTRYNP"));
  EXPECT_THAT(ReadFile(page.path()), HasSubstr("<svg"));

  const Outcome exact = Perplexity({}), none = Perplexity({"--sparsity", "0"}),
                half = Perplexity({"--sparsity", "50%"});
  ASSERT_EQ(half.exit_code, 0) << half.err;
  EXPECT_THAT(half.err, HasSubstr("50% of the neurons rest (lossy)"));
  EXPECT_THAT(half.err, HasSubstr("sparsity 50%: "));
  EXPECT_THAT(half.err, HasSubstr("saves no time in any layer"));  // it is of F32
  const auto json = nlohmann::json::parse(half.out);
  EXPECT_NEAR(json.at("resting_share").get<double>(), 0.5, 0.05);
  EXPECT_THAT(half.err, Not(HasSubstr("no effect")));
  EXPECT_NE(json.at("ppl"), nlohmann::json::parse(exact.out).at("ppl"));
  EXPECT_EQ(nlohmann::json::parse(none.out).at("ppl"), nlohmann::json::parse(exact.out).at("ppl"));
  EXPECT_THAT(none.err, Not(HasSubstr("lossy")));
}

TEST_F(Profile, AnswersAndTheirStatsSayThatTheyAreLossy) {
  ASSERT_EQ(Make().exit_code, 0);
  const TemporaryFile stats("");
  const Outcome run = Execute({"run", model_, "-p", "A pantry", "-n", "4", "--no-cnv", "--temp", "0", "--sparsity",
                               "0.3", "--stats", stats.path()});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("30% of the neurons rest (lossy)"));
  EXPECT_THAT(run.err, HasSubstr("of the neurons rested (lossy)"));
  EXPECT_THAT(ReadFile(stats.path()), HasSubstr(R"("sparsity":0.3,"neurons":)"));
}

TEST_F(Profile, JsonHasEveryLayerAndSparsityIsWhatCountsAsResting) {
  const Outcome made = Make({"--json", "--sparsity", "80%", "-o", folder_.path() + "/other"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const auto json = nlohmann::json::parse(made.out);
  EXPECT_EQ(json.at("tokens"), 256);
  ASSERT_THAT(json.at("layers"), Not(IsEmpty()));
  for (const auto& layer : json.at("layers")) {
    EXPECT_EQ(layer.at("thresholds").size(), 100u);
    EXPECT_NEAR(layer.at("active_share").at(0).get<double>(), 0.2, 0.02);
  }
  EXPECT_TRUE(std::filesystem::exists(folder_.path() + "/other"));
  EXPECT_FALSE(std::filesystem::exists(model_ + ".profile"));
}

class ProfileOfExperts : public ::testing::Test, protected ModelInFolder {
 protected:
  ProfileOfExperts() : ModelInFolder("tiny-turbosparse-quantized") {}
};

TEST_F(ProfileOfExperts, CountsUsesAndWarmsAStreamedRunUp) {
  const TemporaryFile page("");
  const Outcome made = OnText({"profile", model_, "-n", "256", "--json", "--report", page.path()}, {});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const auto json = nlohmann::json::parse(made.out);
  const auto n_experts = json.at("experts").get<size_t>();
  EXPECT_GT(n_experts, 1u);
  for (const auto& layer : json.at("layers")) {
    EXPECT_EQ(layer.at("use").size(), n_experts);
    EXPECT_GT(layer.at("active_share").at(0).get<double>(), 0.05);
  }
  EXPECT_THAT(ReadFile(page.path()), HasSubstr("layers of " + std::to_string(n_experts) + " experts of"));
  EXPECT_THAT(ReadFile(page.path()), Not(HasSubstr("<svg")));
  const Outcome table = OnText({"profile", model_, "-n", "256"}, {});
  EXPECT_THAT(table.out, HasSubstr("b=1: % of a chosen expert's neurons"));

  const Outcome cold = Perplexity({"--stream", "on", "--no-warm-start"}), warm = Perplexity({"--stream", "on"});
  ASSERT_EQ(warm.exit_code, 0) << warm.err;
  EXPECT_THAT(warm.err, HasSubstr("warm start: "));
  EXPECT_THAT(warm.err, HasSubstr(" experts ("));
  EXPECT_THAT(cold.err, Not(HasSubstr("warm start")));
  EXPECT_EQ(nlohmann::json::parse(warm.out).at("ppl"), nlohmann::json::parse(cold.out).at("ppl"));
  const Outcome resident = Perplexity({"--stream", "off", "--warm-start"});
  EXPECT_THAT(resident.err, HasSubstr("--warm-start: no effect here because neither single neurons nor experts"));
}

TEST_F(Profile, MistakesAreToldInWords) {
  const auto refused = [&](const Outcome& outcome, int exit_code, const std::string& what) {
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(what));
  };
  refused(Perplexity({"--sparsity", "50%"}), 3, "Make one: pantry profile");
  refused(Perplexity({"--sparsity", "50"}), 2, "Did you mean 50%?");
  refused(Perplexity({"--sparsity", "-1"}), 2, "--sparsity: expected a share from 0 to 99%");
  refused(Execute({"profile", model_}), 2, "no text given");
  refused(Make({"-n", "3"}), 2, "--n-tokens 3: expected 32 tokens or more");
  refused(Make({"-o", folder_.path() + "/no/such/folder"}), 3, "cannot write");
  EXPECT_THAT(std::filesystem::directory_iterator(folder_.path())->path().string(), HasSubstr("tiny.gguf"));
}

}  // namespace
}  // namespace pantry
