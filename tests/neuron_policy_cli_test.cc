// SPDX-License-Identifier: Apache-2.0
// --neuron-policy as a user sees it: what it changes, what is said about it, and where it is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
}

TEST_F(NeuronPolicy, ModeFooterAndStatsSayWhatItChanged) {
  const std::string stats = folder_.path() + "/stats.jsonl";
  const Outcome run = Run({"--neuron-policy", "cache-prior:0.5", "--stats", stats});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, AllOf(HasSubstr(" · neurons by cache-prior:0.5 (lossy)"),
                             ContainsRegex("cache-prior:0.5: [0-9.]+% of the firing neurons left out, [0-9.]+% of the "
                                           "gates' sum kept .lossy.")));
  std::istringstream text(testing::ReadFile(stats));
  int64_t n_left_out = 0;
  size_t n_lines = 0;
  for (std::string line; std::getline(text, line); ++n_lines) {
    const auto json = nlohmann::json::parse(line);
    EXPECT_EQ(json.at("neuron_policy"), "cache-prior:0.5");
    const int64_t firing = json.at("firing").get<int64_t>(), left_out = json.at("left_out").get<int64_t>();
    const double mass = json.at("gate_mass").get<double>();
    if (json.at("n_tokens") == 1) {
      EXPECT_EQ(json.at("hits").get<int64_t>() + json.at("misses").get<int64_t>(), firing - left_out);
      EXPECT_GT(firing, 0);
    } else {
      EXPECT_EQ(firing, 0);  // prompts are exact
    }
    EXPECT_EQ(mass < 1, left_out > 0);
    n_left_out += left_out;
  }
  EXPECT_EQ(n_lines, 12u);
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
  EXPECT_EQ(strong.at("neuron_policy"), "cache-prior:1");
  EXPECT_GT(strong.at("left_out_share"), 0);
  EXPECT_LT(strong.at("gate_mass"), 1);
  EXPECT_GT(strong.at("gate_mass").get<double>(), 1 - strong.at("left_out_share").get<double>());

  const std::string reference = folder_.path() + "/reference";
  ASSERT_EQ(Eval("kl", {"-f", text_.path(), "--chunks", "2", "--save-logits", reference}).exit_code, 0);
  double before = -1;
  for (const char* const policy : {"exact", "cache-prior:0.1", "cache-prior:1"}) {
    const Outcome outcome = Eval("kl", {"--reference", reference, "--neuron-policy", policy});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const double kl = nlohmann::json::parse(outcome.out).at("kl_mean").at("value").get<double>();
    EXPECT_GT(kl, before) << policy;
    before = kl;
  }
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
  for (const char* const name : {"tiny-bamboo-quantized", "tiny-llama", "tiny-turbosparse-quantized"}) {
    const Outcome run = Execute({"run", TestData(std::string("models/") + name + ".gguf"), "-p", "A pantry", "-n", "2",
                                 "--no-cnv", "--neuron-policy", "cache-prior:0.5"});
    EXPECT_EQ(run.exit_code, 0) << run.err;
    EXPECT_THAT(run.err, HasSubstr("--neuron-policy: no effect here because no single neurons are streamed"));
    EXPECT_THAT(run.err, Not(HasSubstr("lossy")));
  }
}

}  // namespace
}  // namespace pantry
