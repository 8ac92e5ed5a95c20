// SPDX-License-Identifier: Apache-2.0
// ParseArgs() turns a command line and the environment into an Invocation: options, positional words, and where each value came from.
//
// Multi-letter flags with one dash (-sys, -no-cnv, -tb: llama.cpp's habit) are first rewritten to their long names; CLI11 does the rest.
// Every error is kInvalidArgument and names the flag, what was expected, and where to look.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/option_table.h"
#include "cli/options.h"

namespace pantry {

enum class ValueSource : uint8_t { kDefault, kModel, kEnvironment, kFlag };
std::string_view ValueSourceName(ValueSource source);  // "default", "model", ...

using Environment = std::map<std::string, std::string>;

struct Invocation {
  Verb verb = kRun;
  CliOptions options;
  std::vector<std::string> words;              // what is not a flag, in order
  std::map<std::string, ValueSource> sources;  // by flag name ("--temp"); absent: default
  std::vector<std::string> warnings;           // to be shown before anything else
  Environment environment;

  ValueSource SourceOf(std::string_view flag_name) const;
  bool Given(std::string_view flag_name) const { return SourceOf(flag_name) != ValueSource::kDefault; }
};

// `args` without the program and the verb.
Result<Invocation> ParseArgs(Verb verb, std::span<const std::string> args, const Environment& environment);

// "run" -> kRun; kNoVerb for anything else.
Verb FindVerb(std::string_view name);
std::string_view VerbName(Verb verb);

// "-m, --model" -> {"-m", "--model"}.
std::vector<std::string_view> SplitNames(std::string_view names);
// The first long spelling: "--model".
std::string_view FlagName(const Flag& flag);
// "--ctx-size" -> "PANTRY_CTX_SIZE".
std::string EnvironmentName(std::string_view flag_name);
// The candidate nearest to `word` in edit distance, "" when none is near.
std::string_view Nearest(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace pantry
