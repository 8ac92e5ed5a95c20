// SPDX-License-Identifier: Apache-2.0
// What `pantry eval` can measure, a file each (eval_*_verb.cc), and what several of them read from the command line.
//
// EvalVerb() in eval_verb.cc chooses by the first word, which it takes away.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "cli/verbs.h"
#include "engine/engine.h"
#include "eval/text_windows.h"

namespace pantry {

Status EvalPerplexityVerb(VerbContext& context);
Status EvalTasksVerb(VerbContext& context);
Status EvalKlVerb(VerbContext& context);
Status EvalRoutingVerb(VerbContext& context);

// Checked options of -c, --chunks, -b, -ub, -ctk, -ctv for measurements of the model `path` that cut a text into windows.
Result<WindowOptions> WindowOptionsOf(VerbContext& context, const std::string& path);
// Checked options of -c, -b, -ub, -ctk, -ctv; tokens one by one where a policy wants that of the model `path`, of which the table of contents is read then.
Result<SessionOptions> EvalSessionOf(VerbContext& context, const std::string& path);

// What a policy of choosing experts changed, beside what it cost. REQUIRES: engine.router() is not null.
std::string PolicyLine(Engine& engine);

// kInvalidArgument when the command line holds a flag that only other measurements read: of those in the groups "Evaluation" and "Prompt",
// `eval what` reads `known`.
Status RejectOtherFlags(const Invocation& invocation, std::string_view what,
                        std::initializer_list<std::string_view> known);

}  // namespace pantry
