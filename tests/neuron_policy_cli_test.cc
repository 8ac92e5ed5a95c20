// SPDX-License-Identifier: Apache-2.0
// --neuron-policy as a user sees it: what it changes, what is said about it, and where it is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "support/model_in_folder.h"
#include "support/run_program.h"
#include "support/temporary_files.h"
#include "support/test_paths.h"
#include "support/tiny_pack.h"

namespace pantry {
namespace {

using ::pantry::testing::Args;
using ::pantry::testing::Execute;
using ::pantry::testing::Outcome;
using ::pantry::testing::TemporaryFile;
using ::pantry::testing::TemporaryFolder;
using ::pantry::testing::TestData;
using ::pantry::testing::TextOfJars;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::Not;

class NeuronPolicy : public ::testing::Test {
 protected:
  static Args With(Args args, const Args& more) {
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  Outcome Run(const Args& more) const {
    return Execute(With({"run", pack_.path(), "-p", "A pantry is a room", "-n", "12", "-s", "1", "--no-cnv",
                         "--ignore-eos", "-c", "64"},
                        more));
  }
  Outcome Eval(const char* what, const Args& more) const {
    return Execute(With({"eval", what, "-m", pack_.path(), "-c", "64", "--json"}, more));
  }
  static std::vector<nlohmann::json> Lines(const std::string& path) {
    std::vector<nlohmann::json> lines;
    std::istringstream text(testing::ReadFile(path));
    for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }
  // It holds nothing at first and fills as tokens come, so a strong prior leaves out what was never read.
  const testing::TinyPack pack_{"tiny-bamboo-quantized", NeuronPacking::kAlways};
  const TemporaryFile text_{TextOfJars()};
  const TemporaryFolder folder_;
};

TEST_F(NeuronPolicy, ExactIsTheDefaultAndNoStrengthSaysTheSame) {
  const Outcome plain = Run({});
  ASSERT_EQ(plain.exit_code, 0) << plain.err;
  EXPECT_THAT(plain.err, Not(HasSubstr("lossy")));
  for (const char* const policy : {"exact", "cache-prior:0"}) {
    const Outcome same = Run({"--neuron-policy", policy});
    EXPECT_EQ(same.out, plain.out);
    EXPECT_THAT(same.err, Not(HasSubstr("lossy")));
  }
  EXPECT_NE(Run({"--neuron-policy", "cache-prior:1"}).out, plain.out);
}

TEST_F(NeuronPolicy, ModeFooterAndStatsSayWhatItChanged) {
  const std::string stats = folder_.path() + "/stats.jsonl";
  const Outcome run = Run({"--neuron-policy", "cache-prior:0.5", "--stats", stats});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, AllOf(HasSubstr(" · neurons by cache-prior:0.5 (lossy)"),
                             ContainsRegex("cache-prior:0.5: [0-9.]+% of the firing neurons left out, [0-9.]+% of the "
                                           "gates' sum kept .lossy.")));
  const std::vector<nlohmann::json> lines = Lines(stats);
  ASSERT_EQ(lines.size(), 12u);
  int64_t n_left_out = 0;
  for (const nlohmann::json& json : lines) {
    EXPECT_EQ(json.at("neuron_policy"), "cache-prior:0.5");
    EXPECT_EQ(json.contains("firing"), json.at("n_tokens") == 1);
    EXPECT_EQ(json.contains("gate_sum_kept"), json.at("n_tokens") == 1);
    if (!json.contains("firing")) continue;
    const int64_t firing = json.at("firing").get<int64_t>(), left_out = json.at("left_out").get<int64_t>();
    EXPECT_EQ(json.at("hits").get<int64_t>() + json.at("misses").get<int64_t>(), firing - left_out);
    EXPECT_GT(firing, 0);
    EXPECT_EQ(json.at("gate_sum_kept").get<double>() < 1, left_out > 0);
    n_left_out += left_out;
  }
  EXPECT_GT(lines.front().at("n_tokens"), 1);
  EXPECT_GT(n_left_out, 0);
}

TEST_F(NeuronPolicy, PerplexityAndKlTellThePriceTokenByToken) {
  const auto perplexity = [&](const std::string& policy) {
    const Outcome outcome = Eval("perplexity", {"-f", text_.path(), "--chunks", "2", "--neuron-policy", policy});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out);
  };
  const nlohmann::json exact = perplexity("exact"), strong = perplexity("cache-prior:1");
  EXPECT_FALSE(exact.contains("neuron_policy"));
  EXPECT_EQ(perplexity("cache-prior:0").at("ppl"), exact.at("ppl"));
  EXPECT_NE(strong.at("ppl"), exact.at("ppl"));
  const nlohmann::json& policy = strong.at("neuron_policy");
  EXPECT_EQ(policy.at("policy"), "cache-prior:1");
  EXPECT_GT(policy.at("left_out_share"), 0);
  EXPECT_LT(policy.at("gate_sum_kept"), 1);
  EXPECT_GT(policy.at("gate_sum_kept").get<double>(), 1 - policy.at("left_out_share").get<double>());

  const std::string reference = folder_.path() + "/reference";
  ASSERT_EQ(Eval("kl", {"-f", text_.path(), "--chunks", "2", "--save-logits", reference}).exit_code, 0);
  double before = -1;
  for (const char* const strength : {"exact", "cache-prior:0.1", "cache-prior:1"}) {
    const Outcome outcome = Eval("kl", {"--reference", reference, "--neuron-policy", strength});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const double kl = nlohmann::json::parse(outcome.out).at("kl_mean").at("value").get<double>();
    EXPECT_GT(kl, before) << strength;
    before = kl;
  }
}

// Of runs at the beginning of a text: whether their first layers found anything in memory.
TEST_F(NeuronPolicy, EachTextThatIsEvaluatedBeginsWithNothingInMemory) {
  const std::string stats = folder_.path() + "/stats.jsonl";
  const auto hits_at_first = [&](const Outcome& outcome) {
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    std::vector<int64_t> hits;
    for (const nlohmann::json& line : Lines(stats)) {
      if (line.at("position") == 0) hits.push_back(line.at("hits").get<int64_t>());
    }
    return hits;
  };
  const Args windows = {"-f", text_.path(), "--chunks", "2", "--stats", stats};
  EXPECT_THAT(hits_at_first(Eval("perplexity", windows)), ElementsAre(0, Gt(0)));  // nothing is forgotten without
  const Args policy = {"--neuron-policy", "cache-prior:0.5"};
  EXPECT_THAT(hits_at_first(Eval("perplexity", With(windows, policy))), ElementsAre(0, 0));

  const TemporaryFile questions(
      R"({"id":"q1","context":"A pantry keeps","choices":["food in jars","the weather"],"answer":0}
{"id":"q2","context":"A barn keeps","choices":["hay for cows","the sea"],"answer":0})",
      "-questions.jsonl");
  const Outcome tasks = Eval("tasks", With({questions.path(), "--stats", stats}, policy));
  EXPECT_THAT(hits_at_first(tasks), ElementsAre(0, 0));
  const auto figures = nlohmann::json::parse(tasks.out).at("neuron_policy");
  EXPECT_EQ(figures.at("policy"), "cache-prior:0.5");
  EXPECT_GT(figures.at("left_out_share"), 0);
}

TEST_F(NeuronPolicy, EvaluationDoesNotFillACacheThatItEmpties) {
  const Outcome outcome = Eval("perplexity", {"-f", text_.path(), "--chunks", "1", "--neuron-policy", "cache-prior:0.5",
                                              "--warm-start", "--profile", "/no/such/profile"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("--warm-start: no effect here because each text begins with nothing in "
                                           "memory"),
                                 HasSubstr("--profile: no effect here")));
}

TEST_F(NeuronPolicy, TokensAreEvaluatedOneByOneOnlyWhereThePolicyHasAnEffect) {
  const std::string stats = folder_.path() + "/stats.jsonl", gguf = TestData("models/tiny-bamboo-quantized.gguf");
  const auto longest_run = [&](const std::string& model, const char* policy) {
    const Outcome outcome = Execute({"eval", "perplexity", "-m", model, "-c", "64", "-f", text_.path(), "--chunks", "1",
                                     "--stats", stats, "--neuron-policy", policy});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    int64_t longest = 0;
    for (const nlohmann::json& line : Lines(stats)) longest = std::max(longest, line.at("n_tokens").get<int64_t>());
    return longest;
  };
  EXPECT_GT(longest_run(pack_.path(), "cache-prior:0"), 1);
  EXPECT_GT(longest_run(gguf, "cache-prior:0.5"), 1);
  EXPECT_EQ(longest_run(pack_.path(), "cache-prior:0.5"), 1);
}

TEST_F(NeuronPolicy, AReferenceMustBeExact) {
  const std::string reference = folder_.path() + "/reference";
  const Args save = {"-f", text_.path(), "--save-logits", reference};
  const auto refused = [&](const std::string& flag) {
    const Outcome outcome = Eval("kl", With(save, {flag, "cache-prior:0.5"}));
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("--save-logits: a reference must be exact, and " + flag + " cache-prior:0.5"));
  };
  refused("--neuron-policy");
  refused("--expert-policy");
  EXPECT_EQ(Eval("kl", With(save, {"--neuron-policy", "cache-prior:0"})).exit_code, 0);
}

TEST_F(NeuronPolicy, BenchNamesThePolicy) {
  const auto bench = [&](const char* policy) {
    return Execute({"bench", "-m", pack_.path(), "-p", "0", "-n", "4", "-np", "1,2", "-r", "1", "--json",
                    "--neuron-policy", policy});
  };
  const Outcome lossy = bench("cache-prior:0.5"), exact = bench("exact");
  ASSERT_EQ(lossy.exit_code, 0) << lossy.err;
  EXPECT_THAT(lossy.err, HasSubstr(" · neurons by cache-prior:0.5 (lossy)"));
  const auto json = nlohmann::json::parse(lossy.out);
  EXPECT_EQ(json.at("neuron_policy"), "cache-prior:0.5");
  EXPECT_THAT(json.at("model").at("type").get<std::string>(), EndsWith(" cache-prior:0.5"));
  EXPECT_FALSE(nlohmann::json::parse(exact.out).contains("neuron_policy"));
  const auto of_two = HasSubstr("--neuron-policy: no effect on steps of more than one sequence, which are exact");
  EXPECT_THAT(lossy.err, of_two);
  EXPECT_THAT(exact.err, Not(of_two));
}

TEST_F(NeuronPolicy, MistakesAreToldInWords) {
  const auto refused = [&](const Args& more, const std::string& what) {
    const Outcome outcome = Run(more);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(what));
  };
  refused({"--neuron-policy", "drop:0.1"},
          "--neuron-policy: unknown neuron policy 'drop:0.1'. Expected one of: exact, cache-prior:L");
  refused({"--neuron-policy", "cache-prior:1.5"},
          "--neuron-policy: cache-prior:L: expected a strength of 0 to 1, found '1.5'");
  const Outcome routing = Eval("routing", {"-f", text_.path(), "--neuron-policy", "cache-prior:0.5"});
  EXPECT_EQ(routing.exit_code, 2) << routing.err;
  EXPECT_THAT(routing.err, HasSubstr("--neuron-policy has no effect on 'pantry eval routing'"));
}

TEST_F(NeuronPolicy, WhereItHasNoEffectThatIsSaid) {
  const testing::TinyPack matrices("tiny-bamboo-quantized", NeuronPacking::kNever);
  std::vector<Args> runs = {{matrices.path(), "--stream", "on"}};
  for (const char* const name : {"tiny-bamboo-quantized", "tiny-llama", "tiny-turbosparse-quantized"}) {
    runs.push_back({TestData(std::string("models/") + name + ".gguf")});
  }
  for (const Args& model : runs) {
    const Outcome run = Execute(
        With(With({"run"}, model), {"-p", "A pantry", "-n", "2", "--no-cnv", "--neuron-policy", "cache-prior:0.5"}));
    EXPECT_EQ(run.exit_code, 0) << run.err;
    EXPECT_THAT(run.err,
                HasSubstr("--neuron-policy cache-prior:0.5: no effect here because no single neurons are streamed"));
    EXPECT_THAT(run.err, Not(HasSubstr("lossy")));
  }
}

}  // namespace
}  // namespace pantry
