// SPDX-License-Identifier: Apache-2.0
#include "cli/args.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <unordered_map>
#include <utility>

#include "cli/flag_value.h"
#include "cli/foreign_flags.h"

namespace pantry {
namespace {

constexpr std::pair<Verb, std::string_view> kVerbs[] = {
    {kRun, "run"},     {kShow, "show"},       {kTokenize, "tokenize"}, {kTemplate, "template"},
    {kEval, "eval"},   {kVersion, "version"}, {kHelp, "help"},         {kCompletion, "completion"},
    {kBench, "bench"}, {kDoctor, "doctor"},   {kPlan, "plan"},         {kPack, "pack"},
    {kSim, "sim"},     {kProfile, "profile"},
};

// Variables of ours that are no flag's twin: of this program, of the tests, of the script `dev`.
constexpr std::string_view kOtherVariables[] = {"PANTRY_MODELS", "PANTRY_SHARED_DIR", "PANTRY_JOBS", "PANTRY_PYTHON"};

// What a spelling stands for.
struct Spelling {
  std::string_view
      long_name;  // the spelling that CLI11 gets: the flag's first long one, or the first that switches it off
  bool takes_value = false;
  uint32_t verbs = 0;
  const ForeignFlag* foreign = nullptr;  // then the rest is unused
};
using Spellings = std::unordered_map<std::string_view, Spelling>;

std::string_view FirstLong(std::string_view names) {
  for (const std::string_view name : SplitNames(names)) {
    if (name.starts_with("--")) return name;
  }
  return {};
}

// As `verb` knows them: its own spellings go before foreign ones, these before those of other verbs.
Spellings AllSpellings(Verb verb) {
  Spellings spellings;
  for (const ForeignFlag& foreign : ForeignFlags()) {
    for (const std::string_view name : SplitNames(foreign.names)) spellings[name].foreign = &foreign;
  }
  const CliOptions defaults;
  ForEachField(defaults, [&](const Flag& flag, const auto&) {
    const auto add = [&](std::string_view name, const Spelling& spelling) {
      if ((flag.verbs & verb) != 0) spellings[name] = spelling;
      else spellings.try_emplace(name, spelling);
    };
    for (const std::string_view name : SplitNames(flag.names)) {
      add(name, {FirstLong(flag.names), !flag.value.empty(), flag.verbs, nullptr});
    }
    for (const std::string_view name : SplitNames(flag.off_names)) {
      add(name, {FirstLong(flag.off_names), false, flag.verbs, nullptr});
    }
  });
  return spellings;
}

bool LooksLikeFlag(std::string_view word) { return word.size() > 1 && word[0] == '-'; }
bool IsSwitchWord(std::string_view word) {
  return word == "on" || word == "off" || word == "auto" || word == "0" || word == "1";
}

Status UnknownFlag(Verb verb, std::string_view word, const Spellings& spellings) {
  std::vector<std::string_view> candidates;
  for (const auto& [name, spelling] : spellings) {
    if (spelling.foreign == nullptr && (spelling.verbs & verb) != 0) candidates.push_back(name);
  }
  std::sort(candidates.begin(), candidates.end());
  const std::string_view near = Nearest(word.substr(0, word.find('=')), candidates);
  return InvalidArgumentError("unknown flag '{}'.{} See: pantry help {}", word,
                              near.empty() ? "" : fmt::format(" Did you mean {}?", near), VerbName(verb));
}

// Rewrites every spelling to its long name, checks that the verb knows it, and takes foreign flags out.
Status Normalise(Verb verb, std::span<const std::string> args, const Spellings& spellings,
                 std::vector<std::string>& out, std::vector<std::string>& warnings) {
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& word = args[i];
    if (word == "--") {
      out.insert(out.end(), args.begin() + static_cast<ptrdiff_t>(i), args.end());
      break;
    }
    const size_t equals = LooksLikeFlag(word) ? word.find('=') : std::string::npos;
    const auto found = LooksLikeFlag(word) ? spellings.find(std::string_view(word).substr(0, equals)) : spellings.end();
    if (found == spellings.end()) {
      out.push_back(word);  // a word, -n5, or unknown: CLI11 tells
      continue;
    }
    const auto& [name, spelling] = *found;
    if (spelling.foreign != nullptr) {
      const ForeignFlag& foreign = *spelling.foreign;
      if (foreign.kind == ForeignKind::kLater) {
        return InvalidArgumentError("{} is not available in this version; {}", name, foreign.reason);
      }
      const bool has_next = equals == std::string::npos && i + 1 < args.size();
      if (foreign.arity == ForeignArity::kOne && has_next) ++i;
      if (foreign.arity == ForeignArity::kOptional && has_next && IsSwitchWord(args[i + 1])) ++i;
      warnings.push_back(fmt::format("{}: no effect here because {}", name, foreign.reason));
      continue;
    }
    if ((spelling.verbs & verb) == 0) {
      return InvalidArgumentError("{} is not a flag of 'pantry {}'. See: pantry help {}", name, VerbName(verb),
                                  VerbName(verb));
    }
    out.emplace_back(spelling.long_name);
    if (!spelling.takes_value) {
      if (equals != std::string::npos) {
        return InvalidArgumentError("{} is a switch and takes no value, found '{}'", name, word.substr(equals + 1));
      }
      continue;
    }
    if (equals != std::string::npos) {
      out.push_back(word.substr(equals + 1));
    } else if (i + 1 < args.size()) {
      out.push_back(args[++i]);
    } else {
      return InvalidArgumentError("{} needs a value. See: pantry help {}", name, VerbName(verb));
    }
  }
  return OkStatus();
}

// "-m, --model" without multi-letter one-dash spellings, as CLI11 wants it: "-m,--model".
std::string CliNames(std::string_view names) {
  std::string out;
  for (const std::string_view name : SplitNames(names)) {
    if (!name.starts_with("--") && name.size() != 2) continue;
    if (!out.empty()) out += ',';
    out += name;
  }
  return out;
}

// A field of the Invocation while CLI11 is at work.
struct Bound {
  Flag flag;
  CLI::Option* on = nullptr;
  CLI::Option* off = nullptr;
  std::function<Status(std::string_view)> set;
};

Status SetFromEnvironment(const Bound& bound, Invocation& invocation) {
  const std::string variable = EnvironmentName(FlagName(bound.flag));
  const auto found = invocation.environment.find(variable);
  if (found == invocation.environment.end() || found->second.empty() || FlagName(bound.flag) == "--help") {
    return OkStatus();  // set to nothing is as good as not set
  }
  const Status status = bound.set(found->second);
  if (!status.ok()) return InvalidArgumentError("environment variable {}: {}", variable, status.message());
  invocation.sources[std::string(FlagName(bound.flag))] = ValueSource::kEnvironment;
  return OkStatus();
}

Status SetFromFlag(const Bound& bound, Invocation& invocation) {
  const bool on = bound.on->count() > 0;
  const bool off = bound.off != nullptr && bound.off->count() > 0;
  if (!on && !off) return OkStatus();
  const std::string_view name = FlagName(bound.flag);
  if (on && off) return InvalidArgumentError("{} and {} contradict each other", name, FirstLong(bound.flag.off_names));
  invocation.sources[std::string(name)] = ValueSource::kFlag;
  if (bound.flag.value.empty()) return bound.set(on ? "on" : "off");
  for (const std::string& text : bound.on->results()) {
    const Status status = bound.set(text);
    if (!status.ok()) return InvalidArgumentError("{}: {}", name, status.message());
  }
  return OkStatus();
}

// Flags of which one stands in for the others: where one is on the command line, the environment is not asked for the rest.
bool IsReplacedByAFlag(const Bound& bound, const Invocation& invocation) {
  constexpr std::pair<std::string_view, std::string_view> kRivals[] = {
      {"--prompt", "--file"},         {"--system-prompt", "--system-prompt-file"},
      {"--model", "--template-file"}, {"--chat-template", "--chat-template-file"},
      {"--verbose", "--verbosity"},
  };
  const std::string_view name = FlagName(bound.flag);
  return std::any_of(std::begin(kRivals), std::end(kRivals), [&](const auto& rivals) {
    const auto& [one, other] = rivals;
    return (name == one && invocation.SourceOf(other) == ValueSource::kFlag) ||
           (name == other && invocation.SourceOf(one) == ValueSource::kFlag);
  });
}

// After all flags are known.
Status SetFromEnvironment(std::span<const Bound> bounds, Invocation& invocation) {
  for (const Bound& bound : bounds) {
    const bool is_given = invocation.SourceOf(FlagName(bound.flag)) == ValueSource::kFlag;
    if (is_given || IsReplacedByAFlag(bound, invocation)) continue;
    PANTRY_RETURN_IF_ERROR(SetFromEnvironment(bound, invocation));
  }
  return OkStatus();
}

void WarnOfUnknownVariables(Invocation& invocation) {
  std::vector<std::string> known(std::begin(kOtherVariables), std::end(kOtherVariables));
  const CliOptions defaults;
  ForEachField(defaults, [&](const Flag& flag, const auto&) { known.push_back(EnvironmentName(FlagName(flag))); });
  constexpr std::string_view kPrefix = "PANTRY_";
  constexpr size_t kShortestWord = 4;  // anything is near a shorter one
  std::vector<std::string_view> candidates;
  for (const std::string& name : known) candidates.push_back(std::string_view(name).substr(kPrefix.size()));
  for (const auto& [name, value] : invocation.environment) {
    if (!name.starts_with(kPrefix) || std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string_view word = std::string_view(name).substr(kPrefix.size());
    const std::string_view near = word.size() < kShortestWord ? std::string_view() : Nearest(word, candidates);
    invocation.warnings.push_back(fmt::format("unknown environment variable {} has no effect{}", name,
                                              near.empty() ? "" : fmt::format(". Did you mean {}{}?", kPrefix, near)));
  }
}

}  // namespace

std::string_view ValueSourceName(ValueSource source) {
  switch (source) {
    case ValueSource::kDefault: return "default";
    case ValueSource::kModel: return "model";
    case ValueSource::kEnvironment: return "environment";
    case ValueSource::kFlag: return "flag";
  }
  return "";
}

ValueSource Invocation::SourceOf(std::string_view flag_name) const {
  const auto found = sources.find(std::string(flag_name));
  return found == sources.end() ? ValueSource::kDefault : found->second;
}

Verb FindVerb(std::string_view name) {
  for (const auto& [verb, verb_name] : kVerbs) {
    if (verb_name == name) return verb;
  }
  return kNoVerb;
}

std::string_view VerbName(Verb verb) {
  for (const auto& [candidate, name] : kVerbs) {
    if (candidate == verb) return name;
  }
  return "";
}

std::vector<std::string_view> SplitNames(std::string_view names) {
  std::vector<std::string_view> out;
  while (!names.empty()) {
    const size_t comma = std::min(names.find(", "), names.size());
    out.push_back(names.substr(0, comma));
    names.remove_prefix(std::min(comma + 2, names.size()));
  }
  return out;
}

std::string_view FlagName(const Flag& flag) { return FirstLong(flag.names); }

std::string EnvironmentName(std::string_view flag_name) {
  std::string out = "PANTRY_";
  for (const char c : flag_name.substr(2))
    out += c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return out;
}

namespace {

// Edits that turn `a` into `b`: a letter added, dropped, replaced, or two neighbours swapped.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> edits(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        edits[i][j] = i + j;
        continue;
      }
      const size_t replaced = edits[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      edits[i][j] = std::min({replaced, edits[i - 1][j] + 1, edits[i][j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) edits[i][j] = std::min(edits[i][j], edits[i - 2][j - 2] + 1);
    }
  }
  return edits[a.size()][b.size()];
}

}  // namespace

std::string_view Nearest(std::string_view word, std::span<const std::string_view> candidates) {
  constexpr size_t kLongestWord = 64;  // nobody mistypes that much
  if (word.size() > kLongestWord) return {};
  std::string_view best;
  size_t best_distance = 2 + word.size() / 4;  // a typo in every fourth letter is still a typo
  for (const std::string_view candidate : candidates) {
    const size_t distance = EditDistance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

Result<Invocation> ParseArgs(Verb verb, std::span<const std::string> args, const Environment& environment) {
  Invocation invocation;
  invocation.verb = verb;
  invocation.environment = environment;
  const Spellings spellings = AllSpellings(verb);
  std::vector<std::string> normalised;
  PANTRY_RETURN_IF_ERROR(Normalise(verb, args, spellings, normalised, invocation.warnings));

  CLI::App app;
  app.set_help_flag("");
  app.allow_extras();
  std::vector<Bound> bounds;
  ForEachField(invocation.options, [&](const Flag& flag, auto& field) {
    if ((flag.verbs & verb) == 0) return;
    Bound bound{flag, nullptr, nullptr, [&field](std::string_view text) { return SetField(field, text); }};
    if (flag.value.empty()) {
      bound.on = app.add_flag(CliNames(flag.names));
      if (!flag.off_names.empty()) bound.off = app.add_flag(CliNames(flag.off_names));
    } else {
      bound.on = app.add_option(CliNames(flag.names))->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    }
    bounds.push_back(std::move(bound));
  });
  try {
    std::reverse(normalised.begin(), normalised.end());  // CLI11 takes the words last first
    app.parse(std::move(normalised));
  } catch (const CLI::Error& error) {
    return InvalidArgumentError("{}. See: pantry help {}", error.what(), VerbName(verb));
  }
  bool flags_over = false;
  for (std::string& word : app.remaining()) {
    if (!flags_over && word == "--") {
      flags_over = true;
    } else if (!flags_over && LooksLikeFlag(word)) {
      return UnknownFlag(verb, word, spellings);
    } else {
      invocation.words.push_back(std::move(word));
    }
  }
  for (const Bound& bound : bounds) PANTRY_RETURN_IF_ERROR(SetFromFlag(bound, invocation));
  PANTRY_RETURN_IF_ERROR(SetFromEnvironment(bounds, invocation));
  WarnOfUnknownVariables(invocation);
  return invocation;
}

}  // namespace pantry
