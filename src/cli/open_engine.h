// SPDX-License-Identifier: Apache-2.0
// From an Invocation to a loaded Engine and a Session, with progress on the console and Ctrl-C respected.
#pragma once

#include <memory>
#include <string>

#include "cli/verbs.h"
#include "engine/engine.h"

namespace pantry {

Result<std::unique_ptr<Engine>> OpenEngine(VerbContext& context, const std::string& path);

// "loading 1.2 GB / 4.1 GB", with rate and time left where all of it takes some seconds. `seconds`: since the start.
std::string LoadingLine(int64_t n_done, int64_t n_total, double seconds);

// Checked options of -c, -b, -ub, -ctk, -ctv.
Result<SessionOptions> SessionOptionsOf(const CliOptions& options);

// The line every run prints: how the model runs here. `session` may be null.
std::string ModeLine(Engine& engine, const Session* session);

// "RSS 0.2/15.6 GB": what this process holds at most so far, and what it could hold without swapping.
std::string MemoryFigure();

}  // namespace pantry
