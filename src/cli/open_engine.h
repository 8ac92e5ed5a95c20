// SPDX-License-Identifier: Apache-2.0
// From an Invocation to a loaded Engine and a Session, with progress on the console and Ctrl-C respected.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "cli/verbs.h"
#include "engine/engine.h"
#include "engine/run_forecast.h"

namespace pantry {

// Checked options of -t, --isa, --memory, --stream, --io, --cache-policy, where `available_bytes` of memory are free (-1: unknown).
Result<EngineOptions> EngineOptionsOf(const CliOptions& options, const SessionOptions& session,
                                      int64_t available_bytes);

// Checked --expert-policy and what goes with it.
Result<ExpertPolicyOptions> ExpertPolicyOf(const CliOptions& options);

// `session`: what memory is planned for. With --stats, --trace or --routing-trace, every run is written to that file. A
// cache of single neurons is filled by a profile, where there is one, unless --no-warm-start, or it will be emptied again for an evaluation.
Result<std::unique_ptr<Engine>> OpenEngine(VerbContext& context, const std::string& path,
                                           const SessionOptions& session);

// "loading 1.2 GB / 4.1 GB", with rate and time left where all of it takes some seconds. `seconds`: since the start.
std::string LoadingLine(int64_t n_done, int64_t n_total, double seconds, std::string_view what = "loading");

// Checked options of -c, -b, -ub, -ctk, -ctv.
Result<SessionOptions> SessionOptionsOf(const CliOptions& options);

// The line every run prints: how the model runs here, and where it is streamed the speed to expect. `session` and `forecast` may be null.
std::string ModeLine(Engine& engine, const Session* session, const RunForecast* forecast = nullptr);

// " if exact" behind a speed that is foretold, which knows nothing of policies that read less; "" where there is none.
std::string_view ForecastNote(const Engine& engine);

// "RSS 0.2/15.6 GB": what this process holds at most so far, and its budget, or what it could hold without swapping.
std::string MemoryFigure(const MemoryPlan* plan = nullptr);

}  // namespace pantry
