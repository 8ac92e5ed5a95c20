// SPDX-License-Identifier: Apache-2.0
// RunRecords are the files that a run writes about itself: --stats, --trace, --routing-trace.
//
// They are created before the model is loaded, so that a path that cannot be is told at once, and attached to the engine afterwards.
// Threads: one at a time.
#pragma once

#include <memory>

#include "base/logger.h"
#include "base/status.h"
#include "cli/options.h"
#include "cli/run_stats.h"
#include "cli/run_trace.h"
#include "engine/engine.h"
#include "sim/routing_file.h"

namespace pantry {

class RunRecords {
 public:
  // Null where no file was asked for. `log` must outlive the records. kIoError.
  static Result<std::unique_ptr<RunRecords>> Open(const CliOptions& options, Logger& log);

  // `engine` owns `records` from now on; what cannot be recorded of it is said to its log.
  static void Attach(std::unique_ptr<RunRecords> records, Engine& engine);

 private:
  RunRecords() = default;
  void AttachTrace(Engine& engine);
  void AttachRouting(Engine& engine);

  std::unique_ptr<RunStats> stats_;
  std::unique_ptr<TraceFile> trace_file_;  // until it is attached
  std::unique_ptr<RunTrace> trace_;
  std::unique_ptr<RoutingFileWriter> routing_;
};

}  // namespace pantry
