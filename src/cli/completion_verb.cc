// SPDX-License-Identifier: Apache-2.0
// `pantry completion bash|zsh|fish`: completion scripts, written from the table of flags.
#include <fmt/ranges.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/verbs.h"

namespace pantry {
namespace {

constexpr std::pair<Verb, std::string_view> kVerbHelp[] = {
    {kRun, "answer a prompt, or chat"},
    {kShow, "what a model file holds"},
    {kTokenize, "token ids of a text"},
    {kTemplate, "the prompt that a conversation becomes"},
    {kEval, "how well a model predicts a text"},
    {kBench, "how fast a model runs here"},
    {kDoctor, "what this machine can do"},
    {kPlan, "how a model would run here"},
    {kPack, "write a model so that it streams faster here"},
    {kSim, "how a model would run on another machine"},
    {kProfile, "which neurons of a model fire"},
    {kVersion, "version and instruction sets"},
    {kHelp, "flags of a verb"},
    {kCompletion, "completion script for a shell"},
};

std::vector<std::string_view> VerbNames() {
  std::vector<std::string_view> names;
  for (const auto& [verb, help] : kVerbHelp) names.push_back(VerbName(verb));
  return names;
}

std::vector<std::string_view> Spellings(Verb verb) {
  std::vector<std::string_view> out;
  const CliOptions defaults;
  ForEachField(defaults, [&](const Flag& flag, const auto&) {
    if ((flag.verbs & verb) == 0) return;
    for (const std::string_view name : SplitNames(flag.names)) out.push_back(name);
    for (const std::string_view name : SplitNames(flag.off_names)) {
      if (!name.empty()) out.push_back(name);
    }
  });
  return out;
}

// Words that may follow a flag, "" where a file name may.
std::string ValueWords(const Flag& flag) {
  if (flag.names.find("--cache-type") != std::string_view::npos) return "f32 f16 q8_0 q4_0";
  if (flag.names == "--isa") return IsaNames(" ");
  if (flag.names == "-o, --output") return "table md csv json jsonl";
  if (flag.names == "--task") return "choice triviaqa gsm8k gsm8k_cot rolling";
  if (flag.names == "--tokens") return "sampled random";
  if (flag.names == "--ablation") return "powerinfer2 powerinfer2-sensitivity";
  if (flag.names == "--device") return "host";  // or a file
  return "";
}

bool TakesFile(const Flag& flag) { return flag.value.find("FILE") != std::string_view::npos; }

std::string_view FirstWords(Verb verb) {
  return verb == kEval ? "perplexity tasks kl routing" : verb == kCompletion ? "bash zsh fish" : "";
}

std::string Bash() {
  std::string out = fmt::format(
      "# bash completion for pantry. Use: source <(pantry completion bash)\n"
      "_pantry() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} verb=${{COMP_WORDS[1]}} flags= "
      "words=\n"
      "  COMPREPLY=()\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
      "    COMPREPLY=($(compgen -W '{}' -- \"$word\") $(compgen -f -X '!*.gguf' -- \"$word\") "
      "$(compgen -f -X '!*.pantry' -- \"$word\"))\n"
      "    return\n"
      "  fi\n"
      "  case $before in\n",
      fmt::join(VerbNames(), " "));
  const CliOptions defaults;
  ForEachField(defaults, [&](const Flag& flag, const auto&) {
    if (ValueWords(flag).empty()) return;
    out += fmt::format("    {}) COMPREPLY=($(compgen -W '{}' -- \"$word\"){}); return ;;\n",
                       fmt::join(SplitNames(flag.names), "|"), ValueWords(flag),
                       TakesFile(flag) ? R"( $(compgen -f -- "$word"))" : "");
  });
  out += "  esac\n  case $verb in\n";
  for (const auto& [verb, help] : kVerbHelp) {
    const std::string first =
        verb == kHelp ? fmt::format("{}", fmt::join(VerbNames(), " ")) : std::string(FirstWords(verb));
    out += fmt::format("    {}) flags='{}' words='{}' ;;\n", VerbName(verb), fmt::join(Spellings(verb), " "), first);
  }
  out += fmt::format("    *) flags='{}' ;;\n  esac\n", fmt::join(Spellings(kRun), " "));
  return out +
         "  case $word in\n"
         "    -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$word\")) ;;\n"
         "    *) COMPREPLY=($(compgen -W \"$words\" -- \"$word\") $(compgen -f -- \"$word\")) ;;\n"
         "  esac\n"
         "}\n"
         "complete -o filenames -F _pantry pantry\n";
}

// In single quotes for zsh's _arguments: brackets and colons have a meaning there.
std::string ZshQuote(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
      continue;
    }
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string ZshArguments(Verb verb) {
  std::string out = "_arguments";
  const CliOptions defaults;
  ForEachField(defaults, [&](const Flag& flag, const auto&) {
    if ((flag.verbs & verb) == 0) return;
    const std::string value =
        flag.value.empty() ? ""
                           : fmt::format(":{}:{}", ZshQuote(flag.value),
                                         ValueWords(flag).empty() ? "_files"
                                         : TakesFile(flag) ? fmt::format("{{compadd {}; _files}}", ValueWords(flag))
                                                           : fmt::format("({})", ValueWords(flag)));
    for (const std::string_view name : SplitNames(flag.names)) {
      out += fmt::format(" \\\n        '*{}[{}]{}'", name, ZshQuote(flag.help), value);
    }
    for (const std::string_view name : SplitNames(flag.off_names)) {
      if (!name.empty()) out += fmt::format(" \\\n        '*{}[not\\: {}]'", name, ZshQuote(flag.help));
    }
  });
  const std::string first =
      verb == kHelp ? fmt::format("{}", fmt::join(VerbNames(), " ")) : std::string(FirstWords(verb));
  if (!first.empty()) out += fmt::format(" \\\n        '1:what:({})'", first);
  return out + " \\\n        '*:file:_files'";
}

std::string Zsh() {
  std::string out =
      "#compdef pantry\n# zsh completion for pantry. Use: source <(pantry completion zsh)\n_pantry() {\n"
      "  local -a verbs=(\n";
  for (const auto& [verb, help] : kVerbHelp) out += fmt::format("    '{}:{}'\n", VerbName(verb), ZshQuote(help));
  out +=
      "  )\n  if (( CURRENT == 2 )); then\n    _describe command verbs\n    _files -g '*.(gguf|pantry)'\n    return\n  "
      "fi\n"
      "  local verb=$words[2]\n  shift words\n  (( CURRENT-- ))\n  case $verb in\n";
  for (const auto& [verb, help] : kVerbHelp)
    out += fmt::format("    {})\n      {} ;;\n", VerbName(verb), ZshArguments(verb));
  return out + "    *)\n      _files ;;\n  esac\n}\ncompdef _pantry pantry\n";
}

std::string FishQuote(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

std::string Fish() {
  std::string out = "# fish completion for pantry. Use: pantry completion fish | source\n";
  for (const auto& [verb, help] : kVerbHelp) {
    out += fmt::format("complete -c pantry -n __fish_use_subcommand -a {} -d {}\n", VerbName(verb), FishQuote(help));
  }
  for (const auto& [verb, help] : kVerbHelp) {
    const std::string condition = fmt::format("'__fish_seen_subcommand_from {}'", VerbName(verb));
    const CliOptions defaults;
    ForEachField(defaults, [&, verb_bit = static_cast<uint32_t>(verb)](const Flag& flag, const auto&) {
      if ((flag.verbs & verb_bit) == 0) return;
      std::string spellings;
      for (const std::string_view name : SplitNames(flag.names)) {
        spellings += name.starts_with("--") ? fmt::format(" -l {}", name.substr(2))
                     : name.size() == 2     ? fmt::format(" -s {}", name.substr(1))
                                            : fmt::format(" -o {}", name.substr(1));
      }
      if (!ValueWords(flag).empty())
        spellings += fmt::format(" {} -a {}", TakesFile(flag) ? "-r" : "-x", FishQuote(ValueWords(flag)));
      else if (!flag.value.empty()) spellings += " -r";
      out += fmt::format("complete -c pantry -n {}{} -d {}\n", condition, spellings, FishQuote(flag.help));
    });
    if (!FirstWords(verb).empty())
      out += fmt::format("complete -c pantry -n {} -a {}\n", condition, FishQuote(FirstWords(verb)));
  }
  return out;
}

}  // namespace

Status CompletionVerb(VerbContext& context) {
  std::vector<std::string>& words = context.invocation.words;
  const std::string shell = words.empty() ? "" : words.front();
  if (!words.empty()) words.erase(words.begin());
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(context.invocation));
  if (shell == "bash") return context.output.Write(Bash());
  if (shell == "zsh") return context.output.Write(Zsh());
  if (shell == "fish") return context.output.Write(Fish());
  return InvalidArgumentError("say for which shell: pantry completion bash, zsh or fish");
}

}  // namespace pantry
