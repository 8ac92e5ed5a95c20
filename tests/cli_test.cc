// SPDX-License-Identifier: Apache-2.0
// The program as a user runs it: what goes to which stream, exit codes, messages.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "support/run_program.h"
#include "support/temporary_files.h"
#include "support/test_paths.h"

namespace pantry {
namespace {

using ::pantry::testing::Args;
using ::pantry::testing::DemoModel;
using ::pantry::testing::Execute;
using ::pantry::testing::Outcome;
using ::pantry::testing::Surroundings;
using ::pantry::testing::TemporaryFile;
using ::pantry::testing::TemporaryFolder;
using ::pantry::testing::TestData;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

std::string Model() { return TestData("models/tiny-llama.gguf"); }

TEST(Program, AnswerAloneIsOnStandardOutput) {
  const Outcome outcome = Execute({"run", "-m", Model(), "-p", "Hello", "-n", "8", "--seed", "1", "--no-cnv"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_TRUE(outcome.out.ends_with("\n"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("mode:")));
  EXPECT_THAT(outcome.out, Not(HasSubstr("tok/s")));
  EXPECT_THAT(outcome.err, HasSubstr("mode: resident"));
  EXPECT_THAT(outcome.err, ContainsRegex("[0-9]+ tok · [0-9.]+ tok/s · TTFT [0-9.]+s · RSS [0-9.]+/[0-9.]+ GB"));
  EXPECT_THAT(outcome.err, Not(HasSubstr("\r"))) << "no redrawing where there is no terminal";
  EXPECT_THAT(outcome.err, Not(HasSubstr("\x1b")));
}

TEST(Program, QuietKeepsStandardErrorEmpty) {
  EXPECT_THAT(Execute({"run", "-m", Model(), "-p", "Hi", "-n", "2", "-lv", "0"}).err, IsEmpty());
}

TEST(Program, SameSeedSameTextAndAnotherSeedAnother) {
  const Args args = {"run", "-m",       Model(),  "-p",  "Once",         "-n",
                     "24",  "--no-cnv", "--temp", "1.5", "--ignore-eos", "--seed"};
  const auto with_seed = [&](const std::string& seed) {
    Args all = args;
    all.push_back(seed);
    return Execute(all).out;
  };
  EXPECT_EQ(with_seed("7"), with_seed("7"));
  EXPECT_NE(with_seed("7"), with_seed("8"));
}

TEST(Program, GreedyIgnoresTheSeedAndTheThreads) {
  const Args args = {"run", "-m", Model(), "-p", "Once", "-n", "16", "--no-cnv", "--temp", "0", "--ignore-eos"};
  const auto with = [&](const Args& more) {
    Args all = args;
    all.insert(all.end(), more.begin(), more.end());
    return Execute(all).out;
  };
  const std::string expected = with({"--seed", "1", "-t", "1"});
  EXPECT_EQ(with({"--seed", "2", "-t", "2"}), expected);
  EXPECT_EQ(with({"-ub", "1"}), expected);
}

TEST(Program, PromptComesFromFlagFileOrStandardInputAlike) {
  const TemporaryFile file("Tell me\n");
  const Args args = {"run", "-m", Model(), "-n", "8", "--temp", "0"};
  const auto with = [&](const Args& more, const std::string& input) {
    Args all = args;
    all.insert(all.end(), more.begin(), more.end());
    Surroundings setup;
    setup.input = input;
    return Execute(all, setup).out;
  };
  const std::string expected = with({"-p", "Tell me"}, "");
  EXPECT_EQ(with({"-f", file.path()}, ""), expected);
  EXPECT_EQ(with({}, "Tell me\n"), expected);
}

TEST(Program, BareModelAndLeadingFlagsMeanRun) {
  EXPECT_EQ(Execute({Model(), "-p", "x", "-n", "1"}).exit_code, 0);
  EXPECT_EQ(Execute({"-m", Model(), "-p", "x", "-n", "1"}).exit_code, 0);
}

TEST(Program, ModelIsFoundByNameInTheModelsFolder) {
  Surroundings setup;
  setup.variables["PANTRY_MODELS"] = TestData("models");
  EXPECT_EQ(Execute({"tokenize", "-m", "tiny-llama", "-p", "a"}, setup).exit_code, 0);
  EXPECT_EQ(Execute({"tokenize", "-m", "tiny-llama.gguf", "-p", "a"}, setup).exit_code, 0);
  const Outcome missing = Execute({"tokenize", "-m", "tiny-lama", "-p", "a"}, setup);
  EXPECT_EQ(missing.exit_code, 3);
  EXPECT_THAT(missing.err,
              StartsWith("error: cannot open model 'tiny-lama': No such file. Looked in: ./, $PANTRY_MODELS"));
  EXPECT_THAT(missing.err, HasSubstr("Try: tiny-"));
}

TEST(Program, MissingModelSaysWhereItLooked) {
  const Outcome outcome = Execute({"run", "-m", "no-such.gguf", "-p", "x"});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.out, IsEmpty());
  EXPECT_THAT(outcome.err,
              StartsWith("error: cannot open model 'no-such.gguf': No such file. Looked in: ./, $PANTRY_MODELS"));
}

TEST(Program, ZipInsteadOfAModelIsNamed) {
  const TemporaryFile zip(std::string("PK\x03\x04") + std::string(200, 'x'), ".gguf");
  const Outcome outcome = Execute({"run", "-m", zip.path(), "-p", "x"});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("is not a GGUF"));
  EXPECT_THAT(outcome.err, HasSubstr("zip"));
}

TEST(Program, UsageErrorsExitWithTwo) {
  const std::vector<std::pair<Args, std::string>> cases = {
      {{"frobnicate"}, "neither a command nor a model file"},
      {{"rnu"}, "Did you mean 'run'?"},
      {{"serve"}, "not available in this version"},
      {{"run"}, "no model given"},
      {{"run", "-m", Model(), "--tmep", "1"}, "Did you mean --temp?"},
      {{"run", "-m", Model(), "-p", "x", "--temp", "-3"}, "temp"},
      {{"run", "-m", Model(), "-p", "x", "--top-p", "7"}, "top"},
      {{"run", "-m", Model(), "-p", "x", "-n", "-7"}, "--predict"},
      {{"run", "-m", Model(), "-p", "x", "-t", "-5"}, "--threads"},
      {{"run", "-m", Model(), "-p", "x", "-b", "0"}, "--batch-size"},
      {{"run", "-m", Model(), "-p", "x", "--cache", "6G"}, "not available in this version"},
      {{"run", Model(), "hello"}, "a prompt goes after -p"},
      {{"tokenize", "-m", Model(), "--temp", "1"}, "not a flag of 'pantry tokenize'"},
      {{"template", "-m", Model()}, "--messages"},
      {{"eval", "-m", Model(), "-f", "x"}, "pantry eval perplexity"},
      {{"completion", "csh"}, "bash, zsh or fish"},
      {{"help", "frobnicate"}, "no command 'frobnicate'"},
  };
  for (const auto& [args, message] : cases) {
    const Outcome outcome = Execute(args);
    EXPECT_EQ(outcome.exit_code, 2) << message << "\n" << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("error: "));
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_THAT(outcome.out, IsEmpty());
  }
}

TEST(Program, MissingInputFilesAreErrors) {
  for (const Args& args : std::vector<Args>{{"run", "-m", Model(), "-f", "/no/such"},
                                            {"tokenize", "-m", Model(), "-f", "/no/such"},
                                            {"eval", "perplexity", "-m", Model(), "-f", "/no/such"},
                                            {"run", "-m", Model(), "-f", "/"}}) {
    const Outcome outcome = Execute(args);
    EXPECT_EQ(outcome.exit_code, 3) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("error: "));
  }
}

TEST(Program, FullDeviceIsAnIoError) {
  Surroundings setup;
  setup.out_path = "/dev/full";
  for (const Args& args : std::vector<Args>{
           {"version"}, {"tokenize", "-m", Model(), "-p", "x"}, {"run", "-m", Model(), "-p", "x", "-n", "2"}}) {
    const Outcome outcome = Execute(args, setup);
    EXPECT_EQ(outcome.exit_code, 5);
    EXPECT_THAT(outcome.err, HasSubstr("error: cannot write to standard output"));
  }
}

TEST(Program, ReaderThatLeavesEndsItQuietly) {
  Surroundings setup;
  setup.close_out = true;
  const Outcome outcome = Execute({"run", "-m", Model(), "-p", "x", "-n", "4", "-lv", "1"}, setup);
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, IsEmpty());
}

TEST(Program, CtrlCWhileWaitingForInputExitsWith130) {
  const std::string fifo = TemporaryFile("").path() + ".fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  Surroundings setup;
  setup.on_start = [&](pid_t child) {
    const int fd = open(fifo.c_str(), O_WRONLY | O_CLOEXEC);  // returns once the program waits for the text
    kill(child, SIGINT);
    close(fd);
  };
  const Outcome outcome = Execute({"tokenize", "-m", Model(), "-f", fifo}, setup);
  std::filesystem::remove(fifo);
  EXPECT_EQ(outcome.exit_code, 130);
  EXPECT_THAT(outcome.out, IsEmpty());
  EXPECT_THAT(outcome.err, IsEmpty());
}

TEST(Program, PromptThatDoesNotFitSaysBothNumbers) {
  const Outcome outcome = Execute({"run", "-m", Model(), "-p", std::string(300, 'x'), "-c", "32", "--no-cnv"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_THAT(outcome.err, ContainsRegex("prompt has [0-9]+ tokens, context is 32"));
}

TEST(Program, EnvironmentTwinsWorkAndUnknownOnesWarn) {
  Surroundings setup;
  setup.variables = {
      {"PANTRY_MODEL", Model()}, {"PANTRY_PREDICT", "3"}, {"PANTRY_PROMPT", "Hi"}, {"PANTRY_TEMPP", "1"}};
  const Outcome outcome = Execute({"run", "--ignore-eos"}, setup);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("3 tok · "));
  EXPECT_THAT(outcome.err,
              HasSubstr("warning: unknown environment variable PANTRY_TEMPP has no effect. Did you mean PANTRY_TEMP?"));
  EXPECT_THAT(Execute({"run", "--ignore-eos", "-n", "2"}, setup).err, HasSubstr("2 tok · "))
      << "a flag goes before the environment";
}

TEST(Program, CompatibilityFlagsSayWhyTheyDoNothing) {
  const Outcome outcome = Execute({"run", "-m", Model(), "-p", "x", "-n", "1", "-ngl", "99", "-fa", "on", "--no-mmap"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("-ngl: no effect here because"));
  EXPECT_THAT(outcome.err, HasSubstr("-fa: no effect here because"));
  EXPECT_THAT(outcome.err, HasSubstr("--no-mmap: no effect here because"));
}

TEST(Tokenize, PrintsIdsOnOneLine) {
  const Outcome outcome = Execute({"tokenize", "-m", Model(), "-p", "two\nlines"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1);
  EXPECT_THAT(outcome.out, ContainsRegex("^[0-9]+( [0-9]+)*\n$"));
  const TemporaryFile file("two\nlines");
  EXPECT_EQ(Execute({"tokenize", "-m", Model(), "-f", file.path()}).out, outcome.out);
  Surroundings setup;
  setup.input = "two\nlines";
  EXPECT_EQ(Execute({"tokenize", "-m", Model()}, setup).out, outcome.out);
}

TEST(Tokenize, EmptyTextWithoutBosIsAnEmptyLine) {
  EXPECT_EQ(Execute({"tokenize", "-m", Model(), "-p", "", "--no-bos"}).out, "\n");
}

TEST(Tokenize, ControlTokensAreReadOnlyWhenAsked) {
  const std::string text = "<|im_end|>";
  const std::string plain = Execute({"tokenize", "-m", Model(), "-p", text, "--no-bos"}).out;
  const std::string special = Execute({"tokenize", "-m", Model(), "-p", text, "--no-bos", "--parse-special"}).out;
  EXPECT_GT(std::count(plain.begin(), plain.end(), ' '), 2);
  EXPECT_EQ(std::count(special.begin(), special.end(), ' '), 0) << special;
}

TEST(Tokenize, PiecesShowTheTextOfEachToken) {
  const Outcome outcome = Execute({"tokenize", "-m", Model(), "-p", "a\"b", "--no-bos", "--pieces"});
  std::string text;
  std::string line;
  for (std::istringstream lines(outcome.out); std::getline(lines, line);) {
    text += nlohmann::json::parse(line.substr(line.find('\t') + 1)).get<std::string>();
  }
  EXPECT_EQ(text, "a\"b");
}

TEST(Template, RendersAFileByteForByte) {
  const TemporaryFile source(
      "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{{ strftime_now('%Y-%m-%d "
      "%H:%M') }}");
  const TemporaryFile messages(
      R"({"messages": [{"role": "user", "content": "h\u00e9\n"}], "tools": null, "add_generation_prompt": true})");
  const Outcome outcome = Execute({"template", "--template-file", source.path(), "--messages", messages.path(), "--var",
                                   "bos_token=<s>", "--now", "2025-01-15 12:34:56"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "<s>[user]h\u00e9\n2025-01-15 12:34");
}

TEST(Template, RefusalGoesToStandardErrorWithThree) {
  const TemporaryFile source("{{ raise_exception('only tea, no coffee') }}");
  const TemporaryFile messages(R"({"messages": []})");
  const Outcome outcome = Execute({"template", "--template-file", source.path(), "--messages", messages.path()});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.out, IsEmpty());
  EXPECT_THAT(outcome.err, HasSubstr("only tea, no coffee"));
}

TEST(Template, SyntaxErrorNamesLineAndColumn) {
  const TemporaryFile source("fine\n{% if %}");
  const TemporaryFile messages(R"({"messages": []})");
  const Outcome outcome = Execute({"template", "--template-file", source.path(), "--messages", messages.path()});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("line 2"));
}

TEST(Template, BrokenMessagesAreAnError) {
  const TemporaryFile source("x");
  const TemporaryFile messages("{\"messages\": [");
  EXPECT_EQ(Execute({"template", "--template-file", source.path(), "--messages", messages.path()}).exit_code, 3);
  EXPECT_EQ(
      Execute({"template", "--template-file", source.path(), "--messages", source.path(), "--now", "noon"}).exit_code,
      2);
}

TEST(Program, FlagsReplaceRivalsFromTheEnvironment) {
  Surroundings setup;
  setup.variables = {{"PANTRY_FILE", "/no/such"}, {"PANTRY_CHAT_TEMPLATE", "nonsense"}, {"PANTRY_TOP_K", ""}};
  const TemporaryFile chat_template("{{ messages[0]['content'] }}");
  const Outcome outcome = Execute(
      {"run", "-m", Model(), "-p", "Hi", "-n", "1", "--chat-template-file", chat_template.path(), "-lv", "1"}, setup);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, IsEmpty());
  setup.variables = {{"PANTRY_FILE", "/no/such"}};
  EXPECT_EQ(Execute({"tokenize", "-m", Model(), "-p", "Hi"}, setup).exit_code, 0);
}

TEST(Program, EmptyAnswerWritesNothing) {
  const Outcome outcome = Execute({"run", "-m", Model(), "-p", "Hi", "-n", "0", "--no-cnv"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, IsEmpty());
}

TEST(Program, WhatCannotBeMeantIsNamed) {
  const TemporaryFile empty("");
  struct Case {
    Args args;
    int exit_code;
    std::string message;
  };
  for (const Case& c :
       std::vector<Case>{{{"-l", "999999-inf"}, 2, "--logit-bias: token 999999 does not exist; the model has 0 to "},
                         {{"--chat-template-kwargs", R"({"messages": []})"}, 2, "--chat-template-kwargs: "},
                         {{"--chat-template", ""}, 2, "--chat-template: "},
                         {{"--chat-template-file", empty.path()}, 3, "is empty"},
                         {{"-m", "/dev/null"}, 3, "/dev/null"},
                         {{"--log-file", "/no/such/folder/log"}, 5, "cannot write log file"},
                         {{"--top-p", "2"}, 2, "--top-p: "},
                         {{"--temp", "-1"}, 2, "--temp: "},
                         {{"-b", "100000", "-ub", "100000"}, 2, "--batch-size"}}) {
    Args args = {"run", "-p", "Hi", "-n", "1"};
    if (c.args[0] != "-m") args.insert(args.end(), {"-m", Model()});
    args.insert(args.end(), c.args.begin(), c.args.end());
    const Outcome outcome = Execute(args);
    EXPECT_EQ(outcome.exit_code, c.exit_code) << c.args[0] << ": " << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(c.message));
  }
  const Outcome no_input = Execute({"run", "-m", Model()});
  EXPECT_EQ(no_input.exit_code, 2);
  EXPECT_THAT(no_input.err, HasSubstr("standard input is empty; give a prompt with -p or -f"));
}

TEST(Template, ErrorsNameTheMessagesFileAndThePlace) {
  const TemporaryFile source("x");
  const auto error_of = [&](const std::string& text) {
    const TemporaryFile messages(text);
    const Outcome outcome = Execute({"template", "--template-file", source.path(), "--messages", messages.path()});
    EXPECT_EQ(outcome.exit_code, 3);
    EXPECT_THAT(outcome.err, HasSubstr("error: '" + messages.path() + "': "));
    return outcome.err;
  };
  EXPECT_THAT(error_of("{}"), HasSubstr("no \"messages\""));
  EXPECT_THAT(error_of(R"({"tools": {"messages": []}})"), HasSubstr("no \"messages\""));
  EXPECT_THAT(error_of("{\n  \"messages\": oops}"), HasSubstr("line 2, column 15"));
  EXPECT_THAT(error_of("[1, 2"), HasSubstr("ends too early"));
}

TEST(Template, RefusalCannotDriveTheTerminal) {
  const TemporaryFile source("{{ raise_exception('a\x1b[2Jb') }}");
  const TemporaryFile messages("[]");
  const Outcome outcome = Execute({"template", "--template-file", source.path(), "--messages", messages.path()});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("a\\x1b[2Jb"));
}

TEST(Eval, PerplexityAsJsonHasItsKeys) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "The quick brown fox jumps over the lazy dog. ";
  const TemporaryFile file(text);
  const Outcome outcome =
      Execute({"eval", "perplexity", "-m", Model(), "-f", file.path(), "-c", "64", "--chunks", "3", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_GT(json.at("ppl").get<double>(), 1.0);
  EXPECT_GT(json.at("ppl_stderr").get<double>(), 0.0);
  EXPECT_EQ(json.at("tokens").get<int>(), 3 * 31);
  EXPECT_EQ(json.at("chunks").get<int>(), 3);
}

TEST(Eval, KeysAndValuesHaveTheirOwnNumberFormats) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "The quick brown fox jumps over the lazy dog. ";
  const TemporaryFile file(text);
  std::set<double> seen;
  for (const char* k_type : {"f32", "f16"}) {
    for (const char* v_type : {"f32", "f16"}) {
      const Outcome outcome = Execute({"eval", "perplexity", "-m", Model(), "-f", file.path(), "-c", "64", "--chunks",
                                       "2", "--json", "-ctk", k_type, "-ctv", v_type});
      ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
      seen.insert(nlohmann::json::parse(outcome.out).at("ppl").get<double>());
    }
  }
  EXPECT_EQ(seen.size(), 4u);
}

TEST(Eval, TooShortATextIsAUsageError) {
  const TemporaryFile file("short");
  const Outcome outcome = Execute({"eval", "perplexity", "-m", Model(), "-f", file.path()});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("error: "));
}

TEST(Bench, JsonHasATestForEveryCombination) {
  const Outcome outcome = Execute({"bench", "-m", Model(), "-p", "8,16", "-n", "4", "-t", "1,2", "-r", "2", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_FALSE(json.at("machine").at("dram_read_bytes_per_s").empty());
  EXPECT_EQ(json.at("model").at("file"), "tiny-llama.gguf");
  EXPECT_GT(json.at("model").at("macs_per_token"), 0);
  ASSERT_EQ(json.at("tests").size(), 6u);
  for (const nlohmann::json& test : json.at("tests")) {
    EXPECT_TRUE(test.contains("n_prompt") && test.contains("n_gen") && test.contains("n_threads"));
    EXPECT_GT(test.at("tok_per_s"), 0);
    EXPECT_GT(test.at("gb_per_s"), 0);
    EXPECT_GT(test.at("gops"), 0);
    EXPECT_EQ(test.at("samples").size(), 2u);
  }
}

TEST(Bench, TableShowsTestsAtDepthsAndRandomTokensWork) {
  const Outcome outcome = Execute(
      {"bench", Model(), "-pg", "8,4", "-d", "0,16", "-r", "1", "--tokens", "random", "-np", "1,3", "--best-of", "2"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, ContainsRegex("pp8\\+tg4  .*pp8\\+tg4 @ d16 "));
  EXPECT_THAT(outcome.out, ContainsRegex("pp8\\+tg4 x3 .*each sequence .*pp8\\+tg4 best of 2 .* after one ended"));
}

TEST(Bench, MistakesAreUsageErrors) {
  const std::pair<Args, std::string> cases[] = {
      {{"-p", "0", "-n", "0"}, "nothing to measure: --n-prompt and --n-gen are 0"},
      {{"-p", "many"}, "--n-prompt: expected numbers such as 512"},
      {{"-t", "0"}, "--threads 0: expected 1 to 1024"},
      {{"-o", "sql"}, "--output: expected table, md, csv, json or jsonl, found 'sql'"},
      {{"-o", "csv", "--json"}, "contradict each other"},
      {{"--tokens", "real"}, "--tokens: expected sampled or random, found 'real'"},
      {{"-pg", "5"}, "-pg: expected two numbers such as 512,128, found '5'"},
      {{"-r", "0"}, "--repetitions 0: expected 1 to"},
  };
  for (const auto& [args, message] : cases) {
    Args all = {"bench", "-m", Model()};
    all.insert(all.end(), args.begin(), args.end());
    const Outcome outcome = Execute(all);
    EXPECT_EQ(outcome.exit_code, 2) << message;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_EQ(outcome.out, "");
  }
}

TEST(Bench, PositionsBeyondTheTrainedContextAreMeasuredWithAWarning) {
  const Outcome outcome = Execute({"bench", "-m", Model(), "-p", "0", "-n", "2", "-d", "5000", "-r", "1", "-o", "csv"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, ContainsRegex("come to 5002 positions, the model was trained on [0-9]+"));
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 2);
}

TEST(Bench, CtrlCEndsTheJsonAndExitsWith130) {
  const std::string fifo = TemporaryFile("").path() + ".fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  Surroundings setup;
  setup.on_start = [&](pid_t child) {
    const int fd = open(fifo.c_str(), O_RDONLY | O_CLOEXEC);  // returns once the program has opened its log
    std::string log;
    char c = 0;
    while (log.find("in a hurry") == std::string::npos && read(fd, &c, 1) == 1) log += c;  // the tests are next
    kill(child, SIGINT);
    close(fd);
  };
  const Outcome outcome =
      Execute({"bench", "-m", Model(), "-p", "8", "-r", "1000000", "--json", "--log-file", fifo}, setup);
  std::filesystem::remove(fifo);
  EXPECT_EQ(outcome.exit_code, 130) << outcome.err;
  if (outcome.out.empty()) return;  // interrupted while the model was loading
  EXPECT_LE(nlohmann::json::parse(outcome.out).at("tests").size(), 1u);
}

TEST(Show, TellsTheModelAndItsJsonParses) {
  const Outcome human = Execute({"show", Model(), "--tensors"});
  EXPECT_EQ(human.exit_code, 0) << human.err;
  for (const char* part : {"architecture", "tokenizer", "chat template", "metadata", "token_embd.weight"})
    EXPECT_THAT(human.out, HasSubstr(part));
  const nlohmann::json json =
      nlohmann::json::parse(Execute({"show", Model(), "--json", "--tensors", "--effective"}).out);
  EXPECT_EQ(json.at("shape").at("architecture"), "llama");
  EXPECT_EQ(json.at("tensors").size(), json.at("n_tensors").get<size_t>());
  EXPECT_EQ(json.at("effective").at("temp").at("source"), "default");
}

TEST(Show, EffectiveSettingsNameTheirSource) {
  Surroundings setup;
  setup.variables["PANTRY_TOP_K"] = "5";
  const Outcome outcome = Execute({"show", Model(), "--effective", "--temp", "0.25"}, setup);
  EXPECT_THAT(outcome.out, ContainsRegex("--temp +0.25 +flag"));
  EXPECT_THAT(outcome.out, ContainsRegex("--top-k +5 +environment"));
  EXPECT_THAT(outcome.out, ContainsRegex("--min-p +0.05 +default"));
}

TEST(Show, EffectiveJsonHasThePositionalModelAndNumbers) {
  const nlohmann::json json = nlohmann::json::parse(Execute({"show", Model(), "--json", "--effective"}).out);
  EXPECT_EQ(json.at("effective").at("model").at("value"), Model());
  EXPECT_EQ(json.at("effective").at("top-k").at("value"), 40);
  EXPECT_EQ(json.at("effective").at("temp").at("value"), 0.8);
}

TEST(Help, EveryVerbHasHelpWithItsFlags) {
  for (const std::string verb : {"run", "show", "tokenize", "template", "eval", "bench", "pack"}) {
    const Outcome outcome = Execute({"help", verb});
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_THAT(outcome.out, HasSubstr("--model"));
    EXPECT_EQ(Execute({verb, "--help"}).out, outcome.out);
  }
  EXPECT_EQ(Execute({"--help"}).out, Execute({"help"}).out);
}

TEST(Version, NamesVersionCompilerAndInstructionSet) {
  const Outcome outcome = Execute({"version"});
  EXPECT_THAT(outcome.out, ContainsRegex("^pantry [0-9]+\\.[0-9]+\\.[0-9]+\n"));
  EXPECT_THAT(outcome.out, HasSubstr("scalar"));
  EXPECT_EQ(Execute({"--version"}).out, outcome.out);
}

TEST(Completion, ScriptsParse) {
  for (const std::string shell : {"bash", "zsh", "fish"}) {
    const Outcome script = Execute({"completion", shell});
    EXPECT_EQ(script.exit_code, 0);
    EXPECT_THAT(script.out, HasSubstr("ctx-size"));
    Surroundings setup;
    setup.program = "/bin/" + shell;
    if (!std::filesystem::exists(setup.program)) setup.program = "/usr/bin/" + shell;
    if (!std::filesystem::exists(setup.program)) continue;
    const TemporaryFile file(script.out);
    const Outcome parsed = Execute({"-n", file.path()}, setup);
    EXPECT_EQ(parsed.exit_code, 0) << parsed.err;
  }
}

TEST(Doctor, PrintsTheProfileThatItKeeps) {
  const TemporaryFolder folder;
  Surroundings setup;
  setup.variables["XDG_CACHE_HOME"] = folder.path();
  const Outcome outcome = Execute({"doctor", Model(), "--json"}, setup);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, testing::ReadFile(folder.path() + "/pantry/hardware.json"));
  EXPECT_THAT(outcome.out + outcome.err, Not(HasSubstr("\x1b")));
  const auto json = nlohmann::json::parse(outcome.out);
  EXPECT_GT(json["dram_read_bytes_per_s"][0]["per_s"], 0);
  EXPECT_GT(json["int8_ops_per_s"][0]["per_s"], 0);
  EXPECT_GT(json["f32_flops"][0]["per_s"], 0);
  EXPECT_EQ(json["disk"]["path"], Model());
  EXPECT_GT(json["disk"]["sequential_bytes_per_s"], 0);

  const Outcome report = Execute({"doctor", "--no-disk"}, setup);
  EXPECT_EQ(report.exit_code, 0) << report.err;
  EXPECT_THAT(report.out,
              ContainsRegex("\nthreads +memory read +8-bit arithmetic +F32 arithmetic\n1 +[0-9.]+ [GM]B/s"));
  EXPECT_THAT(report.out, HasSubstr("the rates above are of " + json["disk"]["measured_at"].get<std::string>()));
  EXPECT_THAT(report.out + report.err, Not(HasSubstr("\x1b")));
}

TEST(Doctor, ProfileThatCannotBeKeptIsAWarning) {
  Surroundings setup;
  setup.variables["XDG_CACHE_HOME"] = "/dev/null";
  setup.variables["PANTRY_MODELS"] = "/nonexistent";
  const Outcome outcome = Execute({"doctor"}, setup);
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("warning: the profile is not kept"));
  EXPECT_THAT(outcome.out, HasSubstr("not measured, for want of a file to read"));
}

TEST(Doctor, WrongUseIsToldBeforeAnythingIsMeasured) {
  const std::vector<std::tuple<Args, int, std::string>> cases = {
      {{"doctor", "--fast"}, 2, "unknown flag '--fast'"},
      {{"doctor", "--no-disk", "--disk", "/tmp"}, 2, "contradict"},
      {{"doctor", "--no-disk", Model()}, 2, "no effect beside --no-disk"},
      {{"doctor", "--disk", "/tmp", "-m", Model()}, 2, "contradict"},
      {{"doctor", Model(), "more"}, 2, "unexpected argument 'more'"},
      {{"doctor", "/nonexistent.gguf"}, 3, "/nonexistent.gguf"},
      {{"doctor", "--temp", "1"}, 2, "not a flag of 'pantry doctor'"},
  };
  for (const auto& [args, exit_code, message] : cases) {
    const Outcome outcome = Execute(args);
    EXPECT_EQ(outcome.exit_code, exit_code) << message;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_THAT(outcome.out, IsEmpty());
  }
}

TEST(Doctor, CtrlCLeavesNoFile) {
  const TemporaryFolder folder;
  const std::string fifo = folder.path() + "/log";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  Surroundings setup;
  setup.variables["XDG_CACHE_HOME"] = folder.path() + "/cache";
  int fd = -1;
  setup.on_start = [&](pid_t child) {
    fd = open(fifo.c_str(), O_RDONLY | O_CLOEXEC);  // returns once the program opens its log
    kill(child, SIGINT);
  };
  const Outcome outcome = Execute({"doctor", "--no-disk", "--log-file", fifo}, setup);
  close(fd);
  EXPECT_EQ(outcome.exit_code, 130) << outcome.err;
  EXPECT_THAT(outcome.out, IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/cache"));
}

// Without a tokenizer, so it can be planned but not run; and one that can, which may be absent.
std::string MoeModel() { return TestData("models/tiny-qwen3moe.gguf"); }
std::string RunnableMoeModel() { return testing::SharedData("data/models/tiny-thinker-Q8_0.gguf"); }

TEST(Plan, WithoutAMeasuredMachineTellsTheMemoryAndWhatIsMissing) {
  const TemporaryFolder folder;
  Surroundings setup;
  setup.variables["XDG_CACHE_HOME"] = folder.path();
  const Outcome outcome = Execute({"plan", MoeModel(), "--memory", "1G", "--no-measure"}, setup);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, ContainsRegex("\nmode +resident"));
  EXPECT_THAT(outcome.out, ContainsRegex("\ndense weights +[0-9.]+ kB"));
  EXPECT_THAT(outcome.out, ContainsRegex("\ntogether +[0-9.]+ MB +of 1.1 GB"));
  EXPECT_THAT(outcome.out,
              HasSubstr("no speed to expect: this machine was not measured yet. Run: pantry doctor MODEL"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("prompt")));
}

TEST(Plan, DividesTheBudget) {
  const Outcome plan = Execute({"plan", MoeModel(), "--stream", "on", "--memory", "200M", "-c", "1024", "--json"});
  EXPECT_EQ(plan.exit_code, 0) << plan.err;
  const auto json = nlohmann::json::parse(plan.out);
  EXPECT_EQ(json["mode"], "streaming");
  const auto& memory = json["memory"];
  EXPECT_EQ(memory["budget_bytes"], 200 << 20);
  EXPECT_EQ(memory["n_ctx"], 1024);
  int64_t sum = 0;
  for (const char* part :
       {"process_bytes", "dense_bytes", "kv_bytes", "scratch_bytes", "reading_bytes", "cache_bytes"}) {
    EXPECT_GT(memory[part], 0) << part;
    sum += memory[part].get<int64_t>();
  }
  EXPECT_EQ(memory["total_bytes"], sum);
  EXPECT_LE(sum, 200 << 20);
  EXPECT_EQ(json["experts"]["n_in_memory"],
            json["experts"]["n_layers"].get<int>() * json["experts"]["n_experts"].get<int>());
  EXPECT_EQ(json["hit_rate"]["low"], 1);
}

TEST(Plan, WhatDoesNotFitExitsWithFourAndTheSum) {
  for (const std::string& model : {MoeModel(), Model()}) {
    const Outcome outcome = Execute({"plan", model, "--memory", "1M"});
    EXPECT_EQ(outcome.exit_code, 4) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("needs at least"));
    EXPECT_THAT(outcome.err, HasSubstr("--memory "));
    EXPECT_THAT(outcome.out, IsEmpty());
  }
  const Outcome dense = Execute({"plan", Model(), "--sim-memory", "1K"});
  EXPECT_EQ(dense.exit_code, 4) << dense.err;
}

TEST(Plan, SimulatedMemoryStandsForTheMachines) {
  const auto budget = [](const Args& args) {
    const Outcome outcome = Execute(args);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out)["memory"]["budget_bytes"].get<int64_t>();
  };
  EXPECT_EQ(budget({"plan", Model(), "--memory", "50%", "--sim-memory", "8G", "--json"}), int64_t{4} << 30);
  // auto: 70 % of what is available, and what the process has already.
  const int64_t automatic = budget({"plan", MoeModel(), "--sim-memory", "8G", "--json"});
  EXPECT_GT(automatic, (int64_t{8} << 30) / 10 * 7);
  EXPECT_LT(automatic, (int64_t{8} << 30) / 10 * 7 + (int64_t{200} << 20));
}

TEST(Plan, WrongUseIsTold) {
  const std::vector<std::tuple<Args, int, std::string>> cases = {
      {{"plan"}, 2, "model"},
      {{"plan", Model(), "more"}, 2, "unexpected argument 'more'"},
      {{"plan", Model(), "--sim-memory", "much"}, 2, "--sim-memory"},
      {{"plan", Model(), "--memory", "0"}, 2, "--memory"},
      {{"plan", Model(), "-p", "0"}, 2, "--n-prompt"},
      {{"plan", Model(), "--stream", "perhaps"}, 2, "--stream"},
      {{"plan", Model(), "--temp", "1"}, 2, "not a flag of 'pantry plan'"},
      {{"plan", "/nonexistent.gguf"}, 3, "/nonexistent.gguf"},
  };
  for (const auto& [args, exit_code, message] : cases) {
    const Outcome outcome = Execute(args);
    EXPECT_EQ(outcome.exit_code, exit_code) << message;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_THAT(outcome.out, IsEmpty());
  }
}

TEST(Plan, OfAMeasuredMachineForetellsWhatARunThenCompares) {
  const TemporaryFolder folder;
  Surroundings setup;
  setup.variables["XDG_CACHE_HOME"] = folder.path();
  ASSERT_EQ(Execute({"doctor", "--no-disk"}, setup).exit_code, 0);
  const Outcome diskless = Execute({"plan", MoeModel(), "--stream", "on", "--memory", "200M", "--no-measure"}, setup);
  EXPECT_THAT(diskless.out, HasSubstr("the disk was not measured yet. Run: pantry doctor MODEL"));
  ASSERT_EQ(Execute({"doctor", Model()}, setup).exit_code, 0);

  const Args common = {"--stream", "on", "--memory", "200M", "-c", "1024"};
  const auto with = [&](Args args) {
    args.insert(args.end(), common.begin(), common.end());
    return Execute(args, setup);
  };
  const Outcome text = with({"plan", MoeModel()});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, ContainsRegex("\nprompt +first token after +then, tokens/s +set by\n"));
  EXPECT_THAT(text.out, ContainsRegex("\n128 tokens +(about )?[0-9.]+.* s.* (about )?[0-9.]+.* [a-z]+"));
  EXPECT_THAT(text.out, ContainsRegex("\n512 tokens +"));
  const Outcome json_out = with({"plan", MoeModel(), "-p", "7", "--json"});
  const auto prompts = nlohmann::json::parse(json_out.out)["prompts"];
  ASSERT_EQ(prompts.size(), 1u);
  EXPECT_EQ(prompts[0]["n_prompt"], 7);
  for (const char* figure : {"first_token_s", "tok_per_s"}) {
    EXPECT_GT(prompts[0][figure]["low"], 0) << figure;
    EXPECT_GE(prompts[0][figure]["likely"], prompts[0][figure]["low"]) << figure;
    EXPECT_GE(prompts[0][figure]["high"], prompts[0][figure]["likely"]) << figure;
  }
  if (RunnableMoeModel().empty()) GTEST_SKIP() << "the shared models are not there";
  const Outcome run = with({"run", RunnableMoeModel(), "-p", "x", "-n", "4", "--ignore-eos", "-v"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, ContainsRegex("mode: streaming.* expect [0-9.]+( to [0-9.]+)? tok/s"));
  EXPECT_THAT(run.err, ContainsRegex("first token: expected after [0-9.]+.* s, measured [0-9.]+ s"));
  EXPECT_THAT(run.err, ContainsRegex("answer: expected .* tok/s, measured [0-9.]+; hits expected [0-9]+ to [0-9]+ %"));
  const Outcome lossy = with(
      {"run", RunnableMoeModel(), "-p", "x", "-n", "4", "--ignore-eos", "-v", "--expert-policy", "cache-prior:0.2"});
  EXPECT_THAT(lossy.err, ContainsRegex("mode: streaming.* · experts by cache-prior:0.2 · expect .* tok/s if exact"));
  EXPECT_THAT(lossy.err, ContainsRegex("answer: expected .* tok/s if exact, measured [0-9.]+"));
}

Outcome Pack(Args args) {
  args.insert(args.begin(), "pack");
  return Execute(args);
}

// What the model says, as greedily as can be.
Outcome Greedy(const std::string& model, const Args& more = {}) {
  Args args = {"run", "-m", model, "-p", "Once upon", "-n", "12", "--no-cnv", "--temp", "0", "--ignore-eos"};
  args.insert(args.end(), more.begin(), more.end());
  return Execute(args);
}

// A budget that leaves room for half of the model's experts, or for all of its layers where they are small.
std::string BudgetForHalf(const std::string& model) {
  const Outcome plan = Execute({"plan", model, "--stream", "on", "--memory", "2G", "-c", "256", "--json"});
  EXPECT_EQ(plan.exit_code, 0) << plan.err;
  const auto memory = nlohmann::json::parse(plan.out).at("memory");
  const int64_t half = memory.at("cache_bytes").get<int64_t>() / 2;
  const int64_t n_bytes = memory.at("total_bytes").get<int64_t>() - half;
  return std::to_string((n_bytes >> 20) + (half < (4 << 20) ? 16 : 0)) + "M";
}

// The last byte of a pack that is not 0 lies in its last block.
void FlipABitInTheLastBlock(const std::string& path) {
  std::string bytes = testing::ReadFile(path);
  const size_t at = bytes.find_last_not_of('\0');
  ASSERT_NE(at, std::string::npos);
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(Pack, WritesAFileAndSaysWhatItIs) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/tiny.pantry";
  const Outcome outcome = Pack({Model(), path});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith(path + ": "));
  EXPECT_THAT(outcome.out, ContainsRegex("[0-9.]+ [kM]B, [0-9]+ blocks for [a-z0-9-]+, written and verified in "));
  EXPECT_THAT(outcome.out, HasSubstr("\nRun it: pantry run " + path + "\n"));
  EXPECT_FALSE(std::filesystem::exists(path + ".part"));
  EXPECT_THAT(Pack({Model(), path, "--force", "--no-verify"}).out, HasSubstr(", written in "));
}

TEST(Pack, IsNamedAfterTheModelInItsFolderOrTheOneGiven) {
  const TemporaryFolder folder;
  const std::string model = folder.path() + "/it's tiny.gguf";
  std::filesystem::copy_file(Model(), model);
  const Outcome beside = Pack({"-m", model});
  EXPECT_EQ(beside.exit_code, 0) << beside.err;
  EXPECT_TRUE(std::filesystem::exists(folder.path() + "/it's tiny.pantry"));
  EXPECT_THAT(beside.out, HasSubstr("pantry run '" + folder.path() + "/it'\\''s tiny.pantry'\n"));
  EXPECT_EQ(Pack({Model(), folder.path()}).exit_code, 0);
  EXPECT_TRUE(std::filesystem::exists(folder.path() + "/tiny-llama.pantry"));
}

TEST(Pack, EqualModelsGiveEqualFiles) {
  const TemporaryFolder folder;
  ASSERT_EQ(Pack({Model(), folder.path() + "/a.pantry"}).exit_code, 0);
  ASSERT_EQ(Pack({Model(), folder.path() + "/b.pantry"}).exit_code, 0);
  EXPECT_TRUE(testing::ReadFile(folder.path() + "/a.pantry") == testing::ReadFile(folder.path() + "/b.pantry"));
}

TEST(Pack, WrongUseIsToldAndChangesNothing) {
  const TemporaryFolder folder;
  const std::string packed = folder.path() + "/packed.pantry", model = folder.path() + "/model.gguf";
  const std::string other = folder.path() + "/other.pantry";
  std::filesystem::copy_file(Model(), model);
  ASSERT_EQ(Pack({model, packed}).exit_code, 0);
  const std::string bytes = testing::ReadFile(packed);
  const std::vector<std::tuple<Args, int, std::string>> cases = {
      {{}, 2, "no model given"},
      {{model, packed}, 2, "'" + packed + "' exists already; --force replaces it"},
      {{model, model, "--force"}, 2, "is the model itself; name another file"},
      {{model, folder.path() + "/./model.gguf", "--force"}, 2, "is the model itself; name another file"},
      {{packed, other}, 2, "is packed already, for "},
      {{packed, packed, "--force"}, 2, "is the model itself"},
      {{model, other, "--isa", "sse9"}, 2, "--isa: "},
      {{model, other, "more"}, 2, "unexpected argument 'more'"},
      {{model, other, "--temp", "1"}, 2, "not a flag of 'pantry pack'"},
      {{folder.path() + "/none.gguf", other}, 3, "none.gguf"},
      {{model, folder.path() + "/none/out.pantry"}, 3, "/none/out.pantry"},
      {{model, "/dev/null/out.pantry"}, 5, "/dev/null/out.pantry"},
  };
  for (const auto& [args, exit_code, message] : cases) {
    const Outcome outcome = Pack(args);
    EXPECT_EQ(outcome.exit_code, exit_code) << message << "\n" << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_THAT(outcome.out, IsEmpty());
    EXPECT_TRUE(testing::ReadFile(packed) == bytes) << message;
    EXPECT_TRUE(testing::ReadFile(model) == testing::ReadFile(Model())) << message;
    EXPECT_FALSE(std::filesystem::exists(other)) << message;
    EXPECT_FALSE(std::filesystem::exists(other + ".part")) << message;
  }
}

TEST(Pack, SaysTheSameAsTheModelResidentAndStreamed) {
  for (const std::string& model : {Model(), RunnableMoeModel()}) {
    if (model.empty()) continue;  // the shared models are not there
    const TemporaryFolder folder;
    const std::string packed = folder.path() + "/packed.pantry";
    ASSERT_EQ(Pack({model, packed}).exit_code, 0);
    const Outcome expected = Greedy(model);
    ASSERT_EQ(expected.exit_code, 0) << expected.err;
    EXPECT_THAT(expected.out, Not(IsEmpty()));
    const Outcome resident = Greedy(packed, {"--stream", "off"});
    EXPECT_EQ(resident.exit_code, 0) << resident.err;
    EXPECT_THAT(resident.err, HasSubstr("mode: resident"));
    EXPECT_EQ(resident.out, expected.out);
    const Args streamed_args = {"--stream", "on", "--memory", BudgetForHalf(packed), "-c", "256"};
    const Outcome streamed = Greedy(packed, streamed_args);
    EXPECT_EQ(streamed.exit_code, 0) << streamed.err;
    EXPECT_THAT(streamed.err,
                ContainsRegex(model == Model() ? "mode: streaming" : "mode: streaming \\(needs [0-9.]+ MB >"));
    EXPECT_EQ(streamed.out, expected.out);
    EXPECT_EQ(Greedy(model, streamed_args).out, expected.out);
  }
}

TEST(Pack, LevelsWhoseTilesLieAlikeShareIt) {
  const TemporaryFolder folder;
  const std::string packed = folder.path() + "/avx512.pantry";
  if (Pack({Model(), packed, "--isa", "avx512"}).exit_code != 0) GTEST_SKIP() << "this machine has no AVX512";
  const Outcome run = Greedy(packed, {});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out, Greedy(Model(), {}).out);
}

TEST(Pack, ForAnotherInstructionSetSaysWhichOne) {
  const TemporaryFolder folder;
  const std::string packed = folder.path() + "/scalar.pantry";
  const Outcome outcome = Pack({Model(), packed, "--isa", "scalar"});
  EXPECT_THAT(outcome.out, HasSubstr(" blocks for scalar, "));
  EXPECT_EQ(Greedy(packed, {"--isa", "scalar"}).out, Greedy(Model(), {"--isa", "scalar"}).out);
  if (Pack({Model(), folder.path() + "/best.pantry"}).out.find(" blocks for scalar, ") != std::string::npos) {
    GTEST_SKIP() << "this machine has no other";
  }
  for (const char* stream : {"on", "off"}) {
    const Outcome run = Greedy(packed, {"--stream", stream});
    EXPECT_EQ(run.exit_code, 3) << run.err;
    EXPECT_THAT(run.err, HasSubstr("packed for the kernels of scalar"));
    EXPECT_THAT(run.err, HasSubstr("--isa scalar"));
    EXPECT_THAT(run.out, IsEmpty());
  }
}

TEST(Pack, OtherVerbsTakeItAsAModel) {
  const TemporaryFolder folder;
  const std::string packed = folder.path() + "/tiny.pantry";
  ASSERT_EQ(Pack({Model(), packed}).exit_code, 0);
  const Outcome show = Execute({"show", packed, "--tensors"});
  EXPECT_EQ(show.exit_code, 0) << show.err;
  EXPECT_THAT(show.out, ContainsRegex("\n +packed +[0-9]+ blocks for "));
  EXPECT_THAT(show.out, HasSubstr("blk.0.ffn_down.weight"));
  const auto shape_of = [](const std::string& model) {
    return nlohmann::json::parse(Execute({"show", model, "--json"}).out).at("shape");
  };
  EXPECT_EQ(shape_of(packed), shape_of(Model()));
  const Args tokenize = {"tokenize", "-p", "two words", "-m"};
  const auto tokens_of = [&](const std::string& model) {
    Args args = tokenize;
    args.push_back(model);
    return Execute(args).out;
  };
  EXPECT_EQ(tokens_of(packed), tokens_of(Model()));
  const auto plan_of = [](const std::string& model) {
    const Outcome plan = Execute({"plan", model, "--stream", "on", "--memory", "200M", "-c", "256", "--json"});
    EXPECT_EQ(plan.exit_code, 0) << plan.err;
    return nlohmann::json::parse(plan.out);
  };
  const auto of_pack = plan_of(packed), of_model = plan_of(Model());
  EXPECT_EQ(of_pack.at("mode"), "streaming");
  for (const char* part : {"dense_bytes", "kv_bytes", "scratch_bytes"}) {
    EXPECT_EQ(of_pack.at("memory").at(part), of_model.at("memory").at(part)) << part;
  }
}

TEST(Pack, ADamagedBlockIsNamedAndNothingIsSaidWithIt) {
  const TemporaryFolder folder;
  const std::string packed = folder.path() + "/tiny.pantry";
  ASSERT_EQ(Pack({Model(), packed}).exit_code, 0);
  FlipABitInTheLastBlock(packed);
  for (const Args& more : std::vector<Args>{{"--stream", "off"}, {"--stream", "on", "--memory", "200M"}}) {
    const Outcome outcome = Greedy(packed, more);
    EXPECT_EQ(outcome.exit_code, 3) << outcome.err;
    EXPECT_THAT(outcome.out, IsEmpty());
    EXPECT_THAT(outcome.err, HasSubstr(packed + ": blk.1.ffn_down.weight: "));
    EXPECT_THAT(outcome.err, ContainsRegex("the [0-9]+ bytes at offset [0-9]+ do not have their checksum"));
    EXPECT_THAT(outcome.err, HasSubstr("pack the model again (pantry pack MODEL.gguf --force)"));
  }
  ASSERT_EQ(Pack({Model(), packed, "--force"}).exit_code, 0);
  EXPECT_EQ(Greedy(packed).exit_code, 0);
}

TEST(Pack, IsFoundByNameBehindTheModel) {
  const TemporaryFolder folder;
  ASSERT_EQ(Pack({Model(), folder.path() + "/tiny.pantry"}).exit_code, 0);
  Surroundings setup;
  setup.variables["PANTRY_MODELS"] = folder.path();
  const auto is_packed = [&] {
    const Outcome show = Execute({"show", "tiny", "--json"}, setup);
    EXPECT_EQ(show.exit_code, 0) << show.err;
    return nlohmann::json::parse(show.out).contains("pack");
  };
  EXPECT_TRUE(is_packed());
  EXPECT_THAT(Execute({"show", "tinny"}, setup).err, HasSubstr("Try: tiny.pantry"));
  EXPECT_THAT(Execute({"show", folder.path()}).err, HasSubstr("Try: " + folder.path() + "/tiny.pantry"));
  EXPECT_EQ(Execute({"no-such.pantry", "-p", "x"}, setup).exit_code, 3) << "meant as a model, not as a command";
  std::filesystem::copy_file(Model(), folder.path() + "/tiny.gguf");
  EXPECT_FALSE(is_packed());
}

TEST(Pack, IsSuggestedOnceForEachStreamedModel) {
  const TemporaryFolder folder;
  const std::string model = folder.path() + "/tiny.gguf", packed = folder.path() + "/tiny.pantry";
  std::filesystem::copy_file(Model(), model);
  Surroundings setup;
  setup.variables["XDG_CACHE_HOME"] = folder.path() + "/cache";
  const auto is_suggested = [&](const std::string& path, const Args& more) {
    Args args = {"run", "-m", path, "-p", "x", "-n", "1", "-c", "64", "--memory", "200M"};
    args.insert(args.end(), more.begin(), more.end());
    const Outcome outcome = Execute(args, setup);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    const bool is_there = outcome.err.find("hint: packed it would stream a little faster") != std::string::npos;
    if (is_there) {
      EXPECT_THAT(outcome.err, ContainsRegex(": pantry pack " + path + " \\(writes [0-9.]+ [kM]B\\)\n"));
    }
    return is_there;
  };
  EXPECT_FALSE(is_suggested(model, {"--stream", "off"}));
  EXPECT_FALSE(is_suggested(model, {"--stream", "on", "-lv", "1"}));
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/cache")) << "what was not said is not kept";
  EXPECT_TRUE(is_suggested(model, {"--stream", "on"}));
  EXPECT_FALSE(is_suggested(model, {"--stream", "on"}));
  EXPECT_TRUE(is_suggested(Model(), {"--stream", "on"}));
  EXPECT_FALSE(std::filesystem::exists(packed)) << "nothing is packed unasked";
  ASSERT_EQ(Pack({model}).exit_code, 0);
  EXPECT_FALSE(is_suggested(packed, {"--stream", "on"}));
  setup.variables["XDG_CACHE_HOME"] = "/dev/null";
  EXPECT_FALSE(is_suggested(model, {"--stream", "on"})) << "what cannot be kept would be said every time";
}

// Runs the program with --stats and gives what was written.
std::vector<nlohmann::json> StatsOf(Args args) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/stats";
  args.insert(args.end(), {"-n", "5", "--ignore-eos", "--stats", path});
  const Outcome outcome = Execute(args);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  std::vector<nlohmann::json> lines;
  std::istringstream text(testing::ReadFile(path));
  for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

TEST(Stats, AreALineOfJsonForEachRun) {
  int64_t position = 0;
  const std::vector<nlohmann::json> lines = StatsOf({"run", Model(), "-p", "hello", "--no-cnv"});
  ASSERT_EQ(lines.size(), 5u);  // the prompt, and each token but the last
  for (const nlohmann::json& line : lines) {
    EXPECT_EQ(line.size(), 3u);
    EXPECT_EQ(line["position"], position);
    EXPECT_GE(line["us"], 0);
    position += line["n_tokens"].get<int64_t>();
  }
  EXPECT_EQ(lines[4]["n_tokens"], 1);
}

TEST(Stats, OfAStreamedRunTellWhatEachLayerFound) {
  if (RunnableMoeModel().empty()) GTEST_SKIP() << "the shared models are not there";
  const std::vector<nlohmann::json> lines =
      StatsOf({"run", RunnableMoeModel(), "-p", "hello", "--no-cnv", "--memory", "200M", "--stream", "on"});
  ASSERT_EQ(lines.size(), 5u);
  int64_t n_wanted = 0;
  const auto wanted = [](const nlohmann::json& line) {
    return line["hits"].get<int64_t>() + line["late"].get<int64_t>() + line["misses"].get<int64_t>();
  };
  for (const nlohmann::json& line : lines) {
    n_wanted += wanted(line);
    for (const std::string what : {"hits", "late", "misses"}) {
      int64_t sum = 0;
      for (const nlohmann::json& of_layer : line["layer_" + what]) sum += of_layer.get<int64_t>();
      EXPECT_EQ(line[what], sum);
    }
    EXPECT_EQ(line["evictions"], 0);
  }
  EXPECT_GT(lines.front()["bytes_read"], 0);
  EXPECT_GT(wanted(lines.back()), 0);
  EXPECT_LT(wanted(lines.back()), n_wanted);  // counts begin anew with each line
}

TEST(Stats, AFileThatCannotBeWrittenIsToldBeforeTheModelIsLoaded) {
  const Outcome outcome = Execute({"run", Model(), "-p", "x", "-n", "1", "--stats", "/dev/null/stats"});
  EXPECT_EQ(outcome.exit_code, 5) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("/dev/null/stats"));
  EXPECT_THAT(outcome.err, Not(HasSubstr("mode:")));
}

TEST(DemoModel, KnowsTheCapitalOfFrance) {
  if (DemoModel().empty()) GTEST_SKIP() << "the demo model is not there; ./dev demo gets it";
  const Outcome outcome =
      Execute({"run", "-m", DemoModel(), "-p", "The capital of France is", "--temp", "0", "-n", "8", "--no-cnv"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("Paris"));
}

TEST(DemoModel, ChatAnswersAreSeparateTurns) {
  if (DemoModel().empty()) GTEST_SKIP() << "the demo model is not there; ./dev demo gets it";
  Surroundings setup;
  setup.input = "What is gravity?\n/regen\n/stats\n/set temperature cold\n/bogus\n/exit\n";
  const Outcome outcome = Execute({"run", "-m", DemoModel(), "-i", "--temp", "0", "-n", "12"}, setup);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const std::string first = outcome.out.substr(0, outcome.out.find('\n') + 1);
  EXPECT_THAT(first, HasSubstr("ravity"));
  EXPECT_EQ(outcome.out, first + first) << "greedy: /regen writes the same again";
  EXPECT_THAT(outcome.err, HasSubstr("all answers: 2 · 24 tok"));
  EXPECT_THAT(outcome.err, HasSubstr("expected a number, found 'cold'"));
  EXPECT_THAT(outcome.err, HasSubstr("unknown command '/bogus'"));
}

}  // namespace
}  // namespace pantry
