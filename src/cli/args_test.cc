// SPDX-License-Identifier: Apache-2.0
#include "cli/args.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace pantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Args = std::vector<std::string>;

Invocation Parse(Verb verb, const Args& args, const Environment& environment = {}) {
  Result<Invocation> invocation = ParseArgs(verb, args, environment);
  EXPECT_TRUE(invocation.ok()) << invocation.status().ToString();
  return invocation.ok() ? *std::move(invocation) : Invocation();
}

std::string ErrorOf(Verb verb, const Args& args, const Environment& environment = {}) {
  const Result<Invocation> invocation = ParseArgs(verb, args, environment);
  EXPECT_FALSE(invocation.ok());
  EXPECT_EQ(invocation.status().code(), StatusCode::kInvalidArgument);
  return std::string(invocation.status().message());
}

TEST(Args, MultiLetterFlagsWithOneDashAreUnderstood) {
  const Invocation invocation = Parse(kRun, {"-sys", "be brief", "-tb", "3", "-ub", "64", "-ctk", "q8_0", "-ctv",
                                             "q4_0", "-no-cnv", "-st", "-m", "a.gguf"});
  EXPECT_EQ(invocation.options.system_prompt, "be brief");
  EXPECT_EQ(invocation.options.threads_batch, 3);
  EXPECT_EQ(invocation.options.ubatch_size, 64);
  EXPECT_EQ(invocation.options.cache_type_k, KvType::kQ8_0);
  EXPECT_EQ(invocation.options.cache_type_v, KvType::kQ4_0);
  EXPECT_EQ(invocation.options.conversation, false);
  EXPECT_TRUE(invocation.options.single_turn);
  EXPECT_EQ(invocation.options.model, "a.gguf");
}

TEST(Args, AValueMayLookLikeAFlag) {
  const Invocation invocation = Parse(kRun, {"-p", "-st", "-n", "-1", "--stop", "--", "-f", ""});
  EXPECT_EQ(invocation.options.prompt, "-st");
  EXPECT_FALSE(invocation.options.single_turn);
  EXPECT_EQ(invocation.options.predict, -1);
  EXPECT_THAT(invocation.options.stop, ElementsAre("--"));
  EXPECT_TRUE(invocation.Given("--file"));
  EXPECT_TRUE(invocation.words.empty());
}

TEST(Args, AValueMayHoldBracketsAndCommas) {
  EXPECT_EQ(Parse(kRun, {"-p", "[1, 2]"}).options.prompt, "[1, 2]");
  EXPECT_EQ(Parse(kRun, {"--prompt=[a,b]=c"}).options.prompt, "[a,b]=c");
  EXPECT_THAT(Parse(kRun, {"--stop", "[x,y]", "-r", "a,b"}).options.stop, ElementsAre("[x,y]", "a,b"));
}

TEST(Args, ValuesAreTakenWithEqualsSignAndGluedToShortFlags) {
  const Invocation invocation = Parse(kRun, {"--ctx-size=1024", "-n5", "-t2", "--prompt="});
  EXPECT_EQ(invocation.options.ctx_size, 1024);
  EXPECT_EQ(invocation.options.predict, 5);
  EXPECT_EQ(invocation.options.threads, 2);
  EXPECT_TRUE(invocation.Given("--prompt"));
}

TEST(Args, TheLastOfARepeatedFlagCounts) { EXPECT_EQ(Parse(kRun, {"-n", "1", "--predict", "2"}).options.predict, 2); }

TEST(Args, WordsKeepTheirOrderAndDoubleDashEndsFlags) {
  EXPECT_THAT(Parse(kRun, {"a", "-n", "1", "b", "--", "-c"}).words, ElementsAre("a", "b", "-c"));
}

TEST(Args, FlagGoesBeforeEnvironmentBeforeDefault) {
  const Environment environment = {{"PANTRY_CTX_SIZE", "100"}, {"PANTRY_TEMP", "0.5"}, {"PANTRY_CONVERSATION", "off"}};
  const Invocation invocation = Parse(kRun, {"-c", "200"}, environment);
  EXPECT_EQ(invocation.options.ctx_size, 200);
  EXPECT_EQ(invocation.SourceOf("--ctx-size"), ValueSource::kFlag);
  EXPECT_EQ(invocation.options.sampling.temperature, 0.5f);
  EXPECT_EQ(invocation.SourceOf("--temp"), ValueSource::kEnvironment);
  EXPECT_EQ(invocation.options.conversation, false);
  EXPECT_EQ(invocation.options.sampling.top_k, 40);
  EXPECT_EQ(invocation.SourceOf("--top-k"), ValueSource::kDefault);
  EXPECT_THAT(invocation.warnings, ElementsAre());
}

TEST(Args, EveryFlagHasAnEnvironmentTwinOfItsOwn) {
  std::map<std::string, uint32_t> verbs;  // that know the variable
  const CliOptions defaults;
  ForEachField(defaults, [&](const Flag& flag, const auto&) {
    ASSERT_FALSE(FlagName(flag).empty()) << flag.names;
    uint32_t& others = verbs[EnvironmentName(FlagName(flag))];
    EXPECT_EQ(others & flag.verbs, 0u) << flag.names;
    others |= flag.verbs;
    EXPECT_NE(flag.verbs, 0u) << flag.names;
  });
}

TEST(Args, NoSpellingStandsForTwoFlagsOfAVerb) {
  std::map<std::string_view, uint32_t> verbs;  // that know the spelling
  const CliOptions defaults;
  ForEachField(defaults, [&](const Flag& flag, const auto&) {
    for (const std::string_view names : {flag.names, flag.off_names}) {
      for (const std::string_view name : SplitNames(names)) {
        EXPECT_EQ(verbs[name] & flag.verbs, 0u) << name;
        verbs[name] |= flag.verbs;
      }
    }
  });
}

TEST(Args, UnknownVariableOfOursIsAWarningThatGuesses) {
  const Invocation invocation = Parse(kRun, {}, {{"PANTRY_CTX_SIZ", "1"}, {"PANTRY_MODELS", "x"}, {"OTHER", "y"}});
  ASSERT_EQ(invocation.warnings.size(), 1u);
  EXPECT_THAT(invocation.warnings[0], HasSubstr("PANTRY_CTX_SIZ has no effect. Did you mean PANTRY_CTX_SIZE?"));
}

TEST(Args, VariablesOfOtherVerbsAreKnown) {
  EXPECT_TRUE(Parse(kTokenize, {}, {{"PANTRY_TEMP", "1"}}).warnings.empty());
}

TEST(Args, BadVariableIsNamed) {
  EXPECT_THAT(ErrorOf(kRun, {}, {{"PANTRY_TOP_K", "many"}}),
              HasSubstr("PANTRY_TOP_K: expected a whole number, found 'many'"));
}

TEST(Args, MistakesSayWhatWasExpected) {
  EXPECT_THAT(ErrorOf(kRun, {"--tmep", "1"}), HasSubstr("unknown flag '--tmep'. Did you mean --temp?"));
  EXPECT_THAT(ErrorOf(kRun, {"--top-k", "x"}), HasSubstr("--top-k: expected a whole number, found 'x'"));
  EXPECT_THAT(ErrorOf(kRun, {"--top-k", "99999999999"}), HasSubstr("2147483647"));
  EXPECT_THAT(ErrorOf(kRun, {"--temp", "nan"}), HasSubstr("expected a number, found 'nan'"));
  EXPECT_THAT(ErrorOf(kRun, {"--temp"}), HasSubstr("--temp needs a value"));
  EXPECT_THAT(ErrorOf(kRun, {"--ignore-eos=1"}), HasSubstr("takes no value"));
  EXPECT_THAT(ErrorOf(kRun, {"-l", "x"}), HasSubstr("expected TOKEN+BIAS"));
  EXPECT_THAT(ErrorOf(kRun, {"-ctk", "q9"}), HasSubstr("f32, f16, q8_0, q4_0"));
  EXPECT_THAT(ErrorOf(kRun, {"--isa", "mmx"}), HasSubstr("avx2"));
  EXPECT_THAT(ErrorOf(kRun, {"-cnv", "--no-cnv"}), HasSubstr("contradict"));
  EXPECT_THAT(ErrorOf(kTokenize, {"--temp", "1"}), HasSubstr("--temp is not a flag of 'pantry tokenize'"));
}

TEST(Args, ForeignFlagsSayWhyTheyDoNothing) {
  const Invocation invocation = Parse(kRun, {"-ngl", "99", "--mlock", "-fa", "on", "--jinja", "-fa", "m.gguf"});
  ASSERT_EQ(invocation.warnings.size(), 5u);
  for (const std::string& warning : invocation.warnings) EXPECT_THAT(warning, HasSubstr("no effect here because"));
  EXPECT_THAT(invocation.words, ElementsAre("m.gguf"));
}

TEST(Args, FlagsOfLaterVersionsAreRefused) {
  EXPECT_THAT(ErrorOf(kRun, {"--cache", "6G"}), HasSubstr("--cache is not available in this version"));
  EXPECT_THAT(ErrorOf(kRun, {"--n-expert-used=4"}), HasSubstr("not available"));
}

TEST(Args, LogitBiasReadsSignedAndInfiniteValues) {
  const auto bias = Parse(kRun, {"-l", "7+1.5", "-l", "8-2", "-l", "9-inf"}).options.sampling.logit_bias;
  ASSERT_EQ(bias.size(), 3u);
  EXPECT_EQ(bias[0], std::make_pair(TokenId{7}, 1.5f));
  EXPECT_EQ(bias[1], std::make_pair(TokenId{8}, -2.0f));
  EXPECT_LT(bias[2].second, -1e30f);
}

TEST(Args, ListsAreNumbersAndRangesAsLlamaBenchTakesThem) {
  const auto numbers = [](std::vector<std::string> args) {
    args.insert(args.begin(), "-p");
    return Parse(kBench, args).options.n_prompt.values;
  };
  EXPECT_THAT(Parse(kBench, {}).options.n_prompt.values, ElementsAre(512));
  EXPECT_THAT(numbers({"0"}), ElementsAre(0));
  EXPECT_THAT(numbers({"512,1024"}), ElementsAre(512, 1024));
  EXPECT_THAT(numbers({"1", "-p", "2"}), ElementsAre(1, 2));
  EXPECT_THAT(numbers({"1-4"}), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(numbers({"1-8*2,16"}), ElementsAre(1, 2, 4, 8, 16));
  EXPECT_THAT(numbers({"10-25+5"}), ElementsAre(10, 15, 20, 25));
  EXPECT_THAT(numbers({"9223372036854775806-9223372036854775807"}).size(), 2u);
  for (const std::string bad : {"", "x", "1,", "-1", "4-1", "0-8*2", "1-8*1", "1-8+0", "1+2", "1-", "1-2-3"}) {
    EXPECT_THAT(ErrorOf(kBench, {"-p", bad}), HasSubstr("--n-prompt: expected numbers such as")) << bad;
  }
  EXPECT_THAT(ErrorOf(kBench, {"-p", "1-99999999"}), HasSubstr("more than 1000 numbers"));
}

TEST(Args, AVerbsOwnSpellingsGoBeforeThoseOfOthers) {
  EXPECT_EQ(Parse(kRun, {"-p", "text", "-n", "3"}).options.prompt, "text");
  EXPECT_THAT(Parse(kBench, {"-p", "7", "-t", "1,2"}).options.thread_counts.values, ElementsAre(1, 2));
  EXPECT_FALSE(Parse(kBench, {"--no-warmup"}).options.warmup);
  EXPECT_EQ(Parse(kRun, {"--no-warmup"}).warnings.size(), 1u);
  EXPECT_EQ(Parse(kBench, {"-fa", "1"}).warnings.size(), 1u);
  EXPECT_THAT(ErrorOf(kBench, {"--top-k", "1"}), HasSubstr("--top-k is not a flag of 'pantry bench'"));
}

TEST(Args, EmptyVariablesCountAsUnset) {
  const Invocation invocation = Parse(kRun, {}, {{"PANTRY_CTX_SIZE", ""}, {"PANTRY_PROMPT", ""}});
  EXPECT_FALSE(invocation.Given("--ctx-size"));
  EXPECT_FALSE(invocation.Given("--prompt"));
}

TEST(Args, ShortUnknownVariablesSuggestNothing) {
  const Invocation invocation = Parse(kRun, {}, {{"PANTRY_ABC", "1"}, {"PANTRY_BATCHSIZE", "1"}});
  ASSERT_EQ(invocation.warnings.size(), 2u);
  EXPECT_THAT(invocation.warnings[0], ::testing::Not(HasSubstr("Did you mean")));
  EXPECT_THAT(invocation.warnings[1], HasSubstr("Did you mean PANTRY_BATCH_SIZE?"));
}

TEST(Nearest, FindsTyposAndNothingElse) {
  const std::string_view candidates[] = {"--temp", "--top-k", "--top-p"};
  EXPECT_EQ(Nearest("--tepm", candidates), "--temp");
  EXPECT_EQ(Nearest("--top-x", candidates), "--top-k");
  EXPECT_EQ(Nearest("--something", candidates), "");
}

}  // namespace
}  // namespace pantry
