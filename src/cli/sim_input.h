// SPDX-License-Identifier: Apache-2.0
// What `pantry sim` simulates: a model, by its file or its shape's name; a device; a trace. As plain numbers, which sim/ works on.
//
// Threads: free functions and values.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "cli/run_trace.h"
#include "engine/memory_budget.h"
#include "sim/device_profile.h"
#include "sim/routing_trace.h"
#include "sim/sim_model.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {

struct SimInput {
  SimModel model;
  MemoryPlan memory;
  std::vector<StreamedLayer> layers;                                         // of a chart
  int64_t coalesce_bytes = 0;                                                // of the reader; 0: its default
  std::function<int64_t(int64_t n_positions, int64_t n_tokens)> idle_bytes;  // SimOptions'; a shape has none
  bool is_of_file = false;  // else of a shape, whose sizes are those of Q4_0
};

// A file's: from its table, as `pantry plan` knows it; no weights are read.
Result<SimInput> SimInputOf(const GgufFile& file, const EngineOptions& engine, const FreeMemory& memory);
// What streaming costs here, measured with the model's own file (sim/host_costs.h), goes to `device`.
Status MeasureHost(const GgufFile& file, const EngineOptions& engine, DeviceProfile& device);
// A shape's. budget_bytes 0: all in memory.
Result<SimInput> SimInputOf(const SimShape& shape, int64_t budget_bytes, int64_t n_ctx);

// "zipf:tokens=400,seed=2,topics=48,stays=0.2,popularity=1.2,affinity=1.2,own=0.7", each of which may be missing: MakeTrace(). Another text
// is a file of --routing-trace. Of a model in rotation "zipf:tokens=N" or "tokens=N" alone,
// and the trace stays empty. kInvalidArgument, also for a recording of another model, and the errors of reading.
struct SimTrace {
  RoutingTrace trace;
  int64_t n_tokens = 0;  // of a model in rotation
};
// `keeps_logits`: of a trace that is made up, too; a file's are kept where it has them.
Result<SimTrace> SimTraceOf(const std::string& text, const SimInput& input, bool keeps_logits = false);

}  // namespace pantry
