// SPDX-License-Identifier: Apache-2.0
// `pantry help [VERB]`: written from the table of flags.
#include <algorithm>
#include <string>
#include <vector>

#include "cli/flag_value.h"
#include "cli/verbs.h"

namespace pantry {
namespace {

constexpr std::string_view kOverview =
    R"(pantry runs language models from GGUF files.

  pantry run MODEL                         chat on a terminal
  pantry run -m MODEL -p "a question"      one answer, on standard output alone
  pantry run -m MODEL < question.txt       the same from a file or a pipe
  pantry show MODEL                        what a model file holds
  pantry tokenize -m MODEL -f FILE         token ids of a text
  pantry template -m MODEL --messages FILE the prompt that a conversation becomes
  pantry eval perplexity -m MODEL -f FILE  how well a model predicts a text
  pantry eval tasks -m MODEL FILE.jsonl... how well it answers questions with known answers
  pantry eval kl -m MODEL --reference FILE how far its probabilities are from those of another
  pantry eval routing -m MODEL -f FILE     what choosing experts by what is in memory saves and costs
  pantry bench -m MODEL                    how fast it runs here, and how near to what the machine can do
  pantry plan MODEL --memory 6G            how it would run in so much memory: what fits, how fast; reads no weights
  pantry sim MODEL --device FILE           how it would run on another machine, by its cache and pipeline on a virtual clock
  pantry profile MODEL -f FILE             which of its neurons fire on a text, kept in MODEL.profile
  pantry pack MODEL                        write it so that it streams faster here, as MODEL.pantry
  pantry doctor                            what this machine can do: memory, arithmetic, disk
  pantry version                           version, compiler, instruction sets
  pantry completion bash|zsh|fish          completion script for a shell
  pantry help VERB                         all flags of a verb

`pantry MODEL.gguf` is `pantry run MODEL.gguf`. A MODEL is a path, or a name in the models folder: $PANTRY_MODELS, else
$XDG_DATA_HOME/pantry/models, else ~/.local/share/pantry/models. Every flag has a twin in the environment: --ctx-size is
PANTRY_CTX_SIZE. A flag goes before the environment, that before what the model recommends, that before the default.

Exit codes: 0 done, 1 an error while running, 2 wrong usage, 3 a model or input file is missing, damaged or not
supported, 4 does not fit in memory or context, 5 reading or writing failed, 130 interrupted.
)";

std::string_view Usage(Verb verb) {
  switch (verb) {
    case kRun: return "pantry run [-m] MODEL [-p TEXT | -f FILE] [flags]\n\nAnswers a prompt, or chats on a terminal.";
    case kShow: return "pantry show [-m] MODEL [--tensors] [--effective] [--json]\n\nTells what a model file holds.";
    case kTokenize:
      return "pantry tokenize -m MODEL [-p TEXT | -f FILE] [--no-bos] [--parse-special] [--pieces]\n\n"
             "Prints the token ids of a text on one line. A GGUF with a vocabulary only will do.";
    case kTemplate:
      return "pantry template (-m MODEL | --template-file FILE) --messages FILE [--var NAME=STRING]... [--now TIME]\n\n"
             "Prints the prompt that a conversation becomes, byte for byte.";
    case kEval:
      return "pantry eval perplexity -m MODEL -f FILE [-c 512] [--chunks N] [--json]\n"
             "pantry eval tasks -m MODEL FILE.jsonl... [--limit N] [--out FILE] [--json]\n"
             "pantry eval kl -m MODEL (-f TEXT --save-logits FILE | --reference FILE) [-c 512] [--chunks N] "
             "[--json]\n"
             "pantry eval routing (-m MODEL -f FILE | --replay FILE) [--policies LIST] [--cache-shares LIST] [--csv "
             "FILE] "
             "[--html FILE]\n\n"
             "perplexity scores a model on a text as llama.cpp does. tasks asks it the questions of JSON lines as\n"
             "lm-evaluation-harness does: choices by log-likelihood (acc; acc_norm divides by characters), answers by\n"
             "greedy decoding, whole texts by their perplexity. kl keeps a model's probabilities after each token of "
             "a\n"
             "text, or compares a model with what was kept. routing tries out policies of choosing experts by what a "
             "cache\n"
             "holds: misses, perplexity and what is given up, for caches of several sizes; --csv and --html keep it.";
    case kBench:
      return "pantry bench [-m] MODEL [-p 512] [-n 128] [-d 0] [-t THREADS] [-b 512] [-r 5] [-o FORMAT]\n\nMeasures "
             "how "
             "fast a prompt is read (pp) and an answer written (tg), and the share of this machine's limits\nthat is "
             "reached. A LIST is a number, 128,512, a range 1-8, 1-8+2 or 1-8*2, or the flag several times; every "
             "combination\nis a test.";
    case kDoctor:
      return "pantry doctor [MODEL | --disk DIR | --no-disk] [--json]\n\nMeasures this machine in some seconds: how "
             "fast it reads "
             "memory, computes, and reads the disk that MODEL lies on (by\ndefault the largest of the models folder). "
             "It only "
             "reads. What it finds is kept in $XDG_CACHE_HOME/pantry/hardware.json,\nelse "
             "~/.cache/pantry/hardware.json, and used "
             "by `pantry bench` and `pantry plan`.";
    case kPlan:
      return "pantry plan [-m] MODEL [--memory SIZE] [-c N] [-p 128,512] [--sim-memory SIZE] [--json]\n\nTells how a "
             "model would run here without reading its weights: how memory is divided, how many experts fit, the\n"
             "speed to expect, and what sets it. The speed follows from what `pantry doctor MODEL` measured and kept. "
             "Of a model whose\nneurons rest it compares the ways to run it, by MODEL.profile; --min-speed N says how "
             "much memory makes N tokens/s.";
    case kPack:
      return "pantry pack [-m] MODEL.gguf [OUT.pantry] [--force] [--no-verify]\n\nWrites a model so that it streams "
             "faster here: what is read from the disk while it runs lies together, in the order of this\nCPU's "
             "kernels. "
             "OUT is by default next to the model, and takes about as much room. A run that was interrupted goes on "
             "where it\nwas. The model itself is not changed.";
    case kProfile:
      return "pantry profile [-m] MODEL -f TEXT [-n 4096] [-o FILE] [--report FILE.html] [--json]\n\nHas a model "
             "read a text and tells which of its neurons fire, alone and in batches of up to 32 tokens, how\noften "
             "they "
             "fire again at the next token, and how small activations are. The profile is kept beside the model; "
             "\n`pantry run --sparsity` takes its thresholds from there, a streamed run its warm start, `pantry plan` "
             "what fires.\nOf experts that gate by ReLU, in a GGUF file or a pack, it tells how often each is used and "
             "each of its neurons fires.\n\npantry profile train [-m] MODEL -f TEXT "
             "[-n 4096] [--kind hot|svd|mlp] [--recall 0.95] [-o FILE] [--json]\n\nLearns from a text to predict "
             "which "
             "neurons of a model that gates by ReLU fire, for each layer or expert as far as that saves\nreading, and "
             "keeps it in MODEL.predictor. `pantry run --predictor FILE` then computes only the gates that are "
             "predicted.";
    case kSim:
      return "pantry sim [-m] MODEL|SHAPE [--device host|FILE] [--memory SIZE] [--trace FILE|zipf:..] [--trace-out "
             "FILE] "
             "[--json]\n\nRuns a model's tokens on a simulated machine: the real cache, pipeline and reader, a virtual "
             "clock, and a device\nthat is a table of rates. Prints the speed, the hit rate and where the time goes. "
             "No weights are read; a SHAPE\n(such as qwen3-30b-a3b) needs no file at all.";
    case kVersion: return "pantry version";
    case kCompletion:
      return "pantry completion bash|zsh|fish\n\nPrints a completion script, e.g. for ~/.bashrc: source <(pantry "
             "completion bash)";
    default: return "";
  }
}

// Breaks `text` into lines of at most `columns`, all but the first indented.
std::string Wrap(std::string_view text, size_t indent, size_t columns) {
  std::string out;
  size_t used = indent;
  while (!text.empty()) {
    const size_t space = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, space);
    if (used > indent && used + 1 + word.size() > columns) {
      out += "\n" + std::string(indent, ' ');
      used = indent;
    } else if (used > indent) {
      out += ' ';
      ++used;
    }
    out += word;
    used += word.size();
    text.remove_prefix(std::min(space + 1, text.size()));
  }
  return out;
}

// Columns that UTF-8 text takes, for text without wide characters.
size_t Columns(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// What a flag means to one verb, where the table speaks of all.
struct VerbText {
  Verb verb;
  std::string_view flag;
  std::string_view help;
  std::string_view default_value;  // "": the table's
};
constexpr VerbText kVerbTexts[] = {
    {kTokenize, "--prompt", "the text; without -p and -f: standard input", ""},
    {kTokenize, "--file", "read the text from FILE, byte for byte; -: standard input", ""},
    {kTokenize, "--parse-special", "read control tokens such as <|im_end|> in the text", ""},
    {kDoctor, "--model", "the file to read from its disk; a name in the models folder will do", ""},
    {kEval, "--file", "read the text from FILE; -: standard input", ""},
    {kEval, "--ctx-size",
     "tokens in a window; each is scored on its second half (tasks: of context; by default what the items need)",
     "512"},
    {kPack, "--model", "the GGUF file to pack; of a sharded model, the first shard", ""},
    {kPack, "--isa", "the instruction set whose kernels will read it", ""},
    {kSim, "--model", "a GGUF or .pantry file, or a shape: bamboo-7b, llama-7b, mixtral-47b, qwen3-30b-a3b, ...", ""},
    {kSim, "--threads", "cores that compute; -1: the device's", ""},
    {kSim, "--memory", "of the simulated process: 6G, 512M; of a shape, auto is all that it wants", ""},
    {kSim, "--expert-policy",
     "choose anew by what the simulated cache holds, from the logits in --trace: cache-prior:0.2, max-rank:M, "
     "cumulative:P, factor:F, drop:F, auto:1%; exact: what the trace says",
     ""},
    {kSim, "--expert-policy-prompts", "for the tokens of prompts, too; only where these were recorded one by one", ""},
    {kPlan, "--ctx-size", "context in tokens; 0: the model's, cut to what memory allows", ""},
    {kEval, "--threads-batch", "no effect here beside -t", ""},
    {kEval, "--batch-size", "tokens of a window handed over at once", ""},
    {kEval, "--ubatch-size", "tokens of a window computed together (never more than -b)", ""},
};

std::string FlagHelp(const Flag& flag, const std::string& default_value) {
  constexpr size_t kIndent = 34;
  constexpr size_t kColumns = 110;
  std::string head = fmt::format("  {}{}{}", flag.names, flag.value.empty() ? "" : " ", flag.value);
  if (!flag.off_names.empty()) head += fmt::format(" ({})", flag.off_names);
  std::string text(flag.help);
  if (!flag.value.empty() && !default_value.empty()) text += fmt::format(" (default {})", default_value);
  const std::string gap =
      Columns(head) + 2 > kIndent ? "\n" + std::string(kIndent, ' ') : std::string(kIndent - Columns(head), ' ');
  return head + gap + Wrap(text, kIndent, kColumns) + "\n";
}

}  // namespace

std::string HelpText(Verb verb) {
  if (verb == kNoVerb || verb == kHelp) return std::string(kOverview);
  std::string out(Usage(verb));
  out += '\n';
  std::string_view group;
  const CliOptions defaults;
  ForEachField(defaults, [&](const Flag& flag, const auto& field) {
    if ((flag.verbs & verb) == 0) return;
    if (flag.group != group) out += fmt::format("\n{}\n", flag.group);
    group = flag.group;
    Flag shown = flag;
    std::string default_value = FormatField(field);
    for (const VerbText& text : kVerbTexts) {
      if (text.verb != verb || text.flag != FlagName(flag)) continue;
      shown.help = text.help;
      if (!text.default_value.empty()) default_value = text.default_value;
    }
    out += FlagHelp(shown, default_value);
  });
  return out;
}

Status HelpVerb(VerbContext& context) {
  std::vector<std::string>& words = context.invocation.words;
  if (words.empty()) return context.output.Write(HelpText(kNoVerb));
  const Verb verb = FindVerb(words.front());
  if (verb == kNoVerb) return InvalidArgumentError("there is no command '{}'. See: pantry help", words.front());
  words.erase(words.begin());
  if (verb != kEval) PANTRY_RETURN_IF_ERROR(RejectExtraWords(context.invocation));
  return context.output.Write(HelpText(verb));
}

}  // namespace pantry
