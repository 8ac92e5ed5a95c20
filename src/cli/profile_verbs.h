// SPDX-License-Identifier: Apache-2.0
// What `pantry profile` and `pantry profile train` share.
#pragma once

#include <string>

#include "base/status.h"
#include "cli/report_file.h"
#include "cli/verbs.h"
#include "eval/observed_text.h"

namespace pantry {

// The invocation's words without "train".
Status ProfileTrainVerb(VerbContext& context);

// What the flags say of the text that is read.
Status ReadTextFlags(const CliOptions& options, ObservedTextOptions& text);

// The file to write; where it is the default one, an error says how to write elsewhere.
Result<ReportFile> OpenProfile(const std::string& path, bool is_default);

}  // namespace pantry
