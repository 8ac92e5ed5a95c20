// SPDX-License-Identifier: Apache-2.0
// The verbs of the program, one file each, and the exit codes that scripts rely on.
//
// A verb returns a Status; main() prints its message and turns its code into the exit code.
#pragma once

#include "cli/args.h"
#include "cli/console.h"
#include "cli/output.h"

namespace pantry {

enum ExitCode : int {
  kExitOk = 0,
  kExitRuntime = 1,
  kExitUsage = 2,       // flags, environment, arguments
  kExitModel = 3,       // a model or another input file is missing, damaged or not supported
  kExitDoesNotFit = 4,  // memory or context too small; the message has the numbers
  kExitIo = 5,
  kExitInterrupted = 130,
};
ExitCode ExitCodeOf(const Status& status);

// What every verb works with. Borrowed for the time of the call.
struct VerbContext {
  Invocation& invocation;
  Console& console;
  Output& output;
  const CliOptions& options() const { return invocation.options; }
};

Status RunVerb(VerbContext& context);
Status ShowVerb(VerbContext& context);
Status TokenizeVerb(VerbContext& context);
Status TemplateVerb(VerbContext& context);
Status EvalVerb(VerbContext& context);
Status BenchVerb(VerbContext& context);
Status DoctorVerb(VerbContext& context);
Status PlanVerb(VerbContext& context);
Status PackVerb(VerbContext& context);
Status SimVerb(VerbContext& context);
Status ProfileVerb(VerbContext& context);
Status VersionVerb(VerbContext& context);
Status HelpVerb(VerbContext& context);
Status CompletionVerb(VerbContext& context);

// Text of `pantry help VERB`; of `pantry help` for kNoVerb.
std::string HelpText(Verb verb);

// kInvalidArgument when words are left that nothing took.
Status RejectExtraWords(const Invocation& invocation);

}  // namespace pantry
