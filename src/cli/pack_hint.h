// SPDX-License-Identifier: Apache-2.0
// SuggestPacking() says, once for each model, what packing it would bring to a streamed run, and how that is done.
//
// The models it spoke of are kept in a file beside the machine's profile, a path a line. Where that cannot be written, nothing is said,
// rather than the same again at every run.
#pragma once

#include <string>

#include "cli/verbs.h"
#include "engine/engine.h"

namespace pantry {

// Nothing is said of a resident run, of a model that is packed, and where notes are not shown.
void SuggestPacking(VerbContext& context, Engine& engine, const std::string& path);

}  // namespace pantry
