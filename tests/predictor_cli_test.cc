// SPDX-License-Identifier: Apache-2.0
// `pantry profile train` and --predictor as a user runs them: what they print, write and refuse.
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
using ::pantry::testing::TemporaryFolder;
using ::pantry::testing::TestData;
using ::pantry::testing::TextOfJars;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class Predictor : public ::testing::TestWithParam<const char*>, protected ModelInFolder {
 protected:
  Predictor() : ModelInFolder(GetParam()) {}
  Outcome Train(const Args& more = {}) const { return OnText({"profile", "train", model_, "-n", "640"}, more); }
};

TEST_P(Predictor, LiesBesideTheModelAndIsLossyAsItSays) {
  for (const std::string kind : {"svd", "mlp"}) {
    const Outcome made = Train({"--kind", kind});
    ASSERT_EQ(made.exit_code, 0) << made.err;
    EXPECT_THAT(made.out, AllOf(StartsWith("layer"), HasSubstr("all")));
    EXPECT_THAT(made.err, HasSubstr("tiny.gguf.predictor · 640 tokens"));
    EXPECT_THAT(ReadFile(model_ + ".predictor"), StartsWith("PANTRYPD"));
    const Outcome exact = Perplexity({}), lossy = Perplexity({"--predictor", model_ + ".predictor"});
    ASSERT_EQ(lossy.exit_code, 0) << lossy.err;
    EXPECT_THAT(lossy.err, AllOf(HasSubstr("predicted for 95% recall"), HasSubstr("% of them fired, recall ")));
    EXPECT_THAT(exact.err, Not(HasSubstr("lossy")));
    const auto json = nlohmann::json::parse(lossy.out);
    EXPECT_NE(json.at("ppl"), nlohmann::json::parse(exact.out).at("ppl"));
    EXPECT_GT(json.at("recall").get<double>(), 0.8);
    EXPECT_LT(json.at("predicted_share").get<double>(), 1);
    // Token by token only what is predicted is computed; the answer is the same, and what was missed is not known.
    const auto one_by_one = nlohmann::json::parse(Perplexity({"--predictor", model_ + ".predictor", "-b", "1"}).out);
    EXPECT_EQ(one_by_one.at("ppl"), json.at("ppl"));
    EXPECT_EQ(one_by_one.at("predicted_share"), json.at("predicted_share"));
    EXPECT_FALSE(one_by_one.contains("recall") || one_by_one.contains("firing_share"));
  }
}

TEST_P(Predictor, AnswersSayThatTheyAreLossy) {
  ASSERT_EQ(Train({"--kind", "svd", "-o", folder_.path() + "/other"}).exit_code, 0);
  EXPECT_FALSE(std::filesystem::exists(model_ + ".predictor"));
  const Outcome run = Execute({"run", model_, "-p", "A pantry", "-n", "4", "--no-cnv", "--temp", "0", "--predictor",
                               folder_.path() + "/other"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, AllOf(HasSubstr("predicted for 95% recall"), HasSubstr("% of them fired (lossy)")));
}

TEST_P(Predictor, JsonHasEveryNetworkAndEveryRankThatWasTried) {
  const Outcome made = Train({"--json", "--kind", "svd", "--recall", "0.8"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const auto json = nlohmann::json::parse(made.out);
  EXPECT_NEAR(json.at("recall_wanted").get<double>(), 0.8, 1e-6);
  double found = 0, n = 0;
  for (const auto& network : json.at("networks")) {
    if (network.at("rank").is_null()) continue;
    EXPECT_GE(network.at("recall").get<double>(), 0.8);
    EXPECT_EQ(network.at("tried").at(0).at("rank"), 0);
    ++n;
    found += network.at("recall").get<double>();
  }
  ASSERT_GT(n, 0);
  EXPECT_LT(found / n, 0.9);
}
INSTANTIATE_TEST_SUITE_P(DenseAndExperts, Predictor,
                         ::testing::Values("tiny-bamboo-quantized", "tiny-turbosparse-quantized"),
                         [](const auto& param) { return std::string(param.index == 0 ? "dense" : "experts"); });

TEST(PredictorMistakes, AreToldInWords) {
  const TemporaryFolder folder;
  const TemporaryFile text{TextOfJars()};
  const std::string relu = TestData("models/tiny-bamboo-quantized.gguf"), silu = TestData("models/tiny-llama.gguf");
  const std::string predictor = folder.path() + "/p";
  const auto refused = [](const Args& args, int exit_code, const std::string& what) {
    const Outcome outcome = Execute(args);
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(what));
  };
  const Args train = {"profile", "train", relu, "-f", text.path(), "-n", "640", "-c", "64", "-o", predictor};
  const auto train_with = [&](const Args& more) {
    Args args = train;
    args.insert(args.end(), more.begin(), more.end());
    return args;
  };
  refused(train_with({"--kind", "magic"}), 2, "--kind: expected hot, svd or mlp, found 'magic'");
  refused(train_with({"--recall", "95"}), 2, "--recall 95: expected a share from 0.01 to below 1");
  refused(train_with({"--report", "x.html"}), 2, "--report has no effect on 'pantry profile train'");
  refused({"profile", relu, "-f", text.path(), "--recall", "0.9"}, 2, "--recall is for 'pantry profile train");
  refused({"profile", "train", relu}, 2, "no text given");
  refused({"profile", "train", silu, "-f", text.path(), "-o", predictor}, 3, "do not gate by ReLU");
  ASSERT_EQ(Execute(train_with({"--kind", "svd"})).exit_code, 0);
  const auto perplexity = [&](const std::string& model, const std::string& file) {
    return Args{"eval", "perplexity", "-m", model, "-f", text.path(), "-c", "64", "--predictor", file};
  };
  refused(perplexity(relu, folder.path() + "/none"), 3, "Make one: pantry profile train");
  refused(perplexity(TestData("models/tiny-turbosparse-quantized.gguf"), predictor), 2, "predictors of another model");
  refused(perplexity(relu, text.path()), 3, "not a predictor of 'pantry profile train'");
  const Outcome none = Execute(perplexity(silu, predictor));
  EXPECT_EQ(none.exit_code, 0) << none.err;
  EXPECT_THAT(none.err, HasSubstr("--predictor: no effect here because the model's neurons do not gate by ReLU"));
  Args streamed = perplexity(TestData("models/tiny-turbosparse-quantized.gguf"), predictor);
  streamed.insert(streamed.end(), {"--stream", "on"});
  const Outcome ignored = Execute(streamed);
  EXPECT_EQ(ignored.exit_code, 0) << ignored.err;
  EXPECT_THAT(ignored.err, HasSubstr("--predictor: no effect here because the model is streamed"));
}

TEST(PredictorMistakes, PacksAreNotLearnedFromAndSaveNothing) {
  const TemporaryFolder folder;
  const TemporaryFile text{TextOfJars()};
  const std::string model = TestData("models/tiny-turbosparse-quantized.gguf"), pack = folder.path() + "/tiny.pantry";
  const std::string predictor = folder.path() + "/p";
  ASSERT_EQ(Execute({"pack", model, pack}).exit_code, 0);
  const auto train = [&](const std::string& of) {
    return Execute(
        {"profile", "train", of, "-f", text.path(), "-n", "640", "-c", "64", "--kind", "svd", "-o", predictor});
  };
  const Outcome refused = train(pack);
  EXPECT_EQ(refused.exit_code, 3) << refused.err;
  EXPECT_THAT(refused.err, HasSubstr("train with the GGUF file that it was made of"));
  ASSERT_EQ(train(model).exit_code, 0);
  for (const std::string& of : {model, pack}) {
    const Outcome outcome = Execute(
        {"eval", "perplexity", "-m", of, "-f", text.path(), "-c", "64", "--stream", "off", "--predictor", predictor});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    const bool warns =
        outcome.err.find("--predictor: costs quality and saves no time in any layer") != std::string::npos;
    EXPECT_EQ(warns, of == pack) << outcome.err;
  }
}

}  // namespace
}  // namespace pantry
