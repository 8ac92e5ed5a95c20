// SPDX-License-Identifier: Apache-2.0
// The program `pantry`: finds the verb, parses its flags, runs it, and turns its Status into message and exit code.
#include <clocale>
#include <filesystem>
#include <new>
#include <string>
#include <vector>

#include "cli/foreign_flags.h"
#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "cli/verbs.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): not declared by every libc

namespace pantry {
namespace {

Environment ReadEnvironment() {
  Environment environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string_view::npos) environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return environment;
}

// Takes the verb off `args`. A flag or a model in its place means `run`.
Result<Verb> TakeVerb(std::vector<std::string>& args, const Environment& environment) {
  const std::string first = args.empty() ? "help" : args.front();
  if (first == "-h" || first == "--help") return kHelp;
  if (first == "--version") {
    args.clear();
    return kVersion;
  }
  if (first.starts_with("-")) return kRun;
  if (const Verb verb = FindVerb(first); verb != kNoVerb) {
    if (!args.empty()) args.erase(args.begin());
    return verb;
  }
  if (std::filesystem::exists(first) || FindModel(first, environment).ok() || IsModelName(first)) return kRun;
  for (const std::string_view later : LaterVerbs()) {
    if (first == later)
      return InvalidArgumentError("'pantry {}' is not available in this version. See: pantry help", first);
  }
  std::vector<std::string_view> names = {"run",        "show",  "tokenize", "template", "eval", "version", "help",
                                         "completion", "bench", "doctor",   "plan",     "pack", "sim",     "profile"};
  const std::string_view near = Nearest(first, names);
  return InvalidArgumentError("'{}' is neither a command nor a model file.{} See: pantry help", first,
                              near.empty() ? "" : fmt::format(" Did you mean '{}'?", near));
}

Status Dispatch(VerbContext& context) {
  if (context.options().help && context.invocation.verb != kHelp) {
    return context.output.Write(HelpText(context.invocation.verb));
  }
  switch (context.invocation.verb) {
    case kRun: return RunVerb(context);
    case kShow: return ShowVerb(context);
    case kTokenize: return TokenizeVerb(context);
    case kTemplate: return TemplateVerb(context);
    case kEval: return EvalVerb(context);
    case kBench: return BenchVerb(context);
    case kDoctor: return DoctorVerb(context);
    case kPlan: return PlanVerb(context);
    case kPack: return PackVerb(context);
    case kSim: return SimVerb(context);
    case kProfile: return ProfileVerb(context);
    case kVersion: return VersionVerb(context);
    case kCompletion: return CompletionVerb(context);
    default: return HelpVerb(context);
  }
}

Status ConfigureConsole(Console& console, const CliOptions& options) {
  if (options.verbosity < 0 || options.verbosity > 3) {
    return InvalidArgumentError("--verbosity: expected 0 to 3, found {}", options.verbosity);
  }
  console.Configure({.verbosity = options.verbose ? 3 : options.verbosity, .color = !options.no_color});
  if (options.log_file.empty()) return OkStatus();
  const Status opened = console.OpenLogFile(options.log_file);
  return opened.ok() ? opened : IoError("{}", opened.message());
}

Status Main(std::vector<std::string> args, Console& console, Output& output) {
  const Environment environment = ReadEnvironment();
  PANTRY_ASSIGN_OR_RETURN(const Verb verb, TakeVerb(args, environment));
  PANTRY_ASSIGN_OR_RETURN(Invocation invocation, ParseArgs(verb, args, environment));
  PANTRY_RETURN_IF_ERROR(ConfigureConsole(console, invocation.options));
  for (const std::string& warning : invocation.warnings) console.Write(LogLevel::kWarning, warning);
  VerbContext context{invocation, console, output};
  return Dispatch(context);
}

int Guarded(const std::vector<std::string>& args) {
  Console console;
  Output output;
  Status status;
  try {
    status = Main(args, console, output);
  } catch (const std::bad_alloc&) {
    status = OutOfBudgetError("out of memory. Use a smaller --ctx-size or a smaller model");
  } catch (const std::exception& error) {
    status = InternalError("{}. This is a bug in pantry", error.what());
  }
  console.EndProgress();
  if (output.reader_gone()) return kExitOk;
  if (!status.ok() && !status.message().empty() && status.code() != StatusCode::kCancelled)
    console.Error(status.message());
  return ExitCodeOf(status);
}

}  // namespace

ExitCode ExitCodeOf(const Status& status) {
  switch (status.code()) {
    case StatusCode::kOk: return kExitOk;
    case StatusCode::kInvalidArgument: return kExitUsage;
    case StatusCode::kNotFound:
    case StatusCode::kCorruption:
    case StatusCode::kUnsupported: return kExitModel;
    case StatusCode::kOutOfBudget: return kExitDoesNotFit;
    case StatusCode::kIoError: return kExitIo;
    case StatusCode::kCancelled: return kExitInterrupted;
    case StatusCode::kInternal: return kExitRuntime;
  }
  return kExitRuntime;
}

Status RejectExtraWords(const Invocation& invocation) {
  if (invocation.words.empty()) return OkStatus();
  return InvalidArgumentError("unexpected argument '{}'{}. See: pantry help {}", invocation.words.front(),
                              invocation.verb == kRun ? "; a prompt goes after -p, in quotes" : "",
                              VerbName(invocation.verb));
}

}  // namespace pantry

int main(int argc, char** argv) {
  std::setlocale(LC_CTYPE, "");  // libedit wants to know how the terminal encodes characters
  pantry::InstallSignalHandlers();
  return pantry::Guarded({argv + 1, argv + (argc > 0 ? argc : 1)});
}
