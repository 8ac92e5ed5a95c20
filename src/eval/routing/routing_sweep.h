// SPDX-License-Identifier: Apache-2.0
// A routing sweep measures what each way to choose experts saves a cache and costs in perplexity, over one text.
//
// The text is cut and scored as eval/text_windows.h says: windows of n_ctx tokens, predictions of the second half; so the exact rows have
// the perplexity of eval/perplexity.h to the last digit. Misses, agreement and gate mass are of all tokens of the windows. Teacher-forced
// and as if decoded token by token; caches are virtual, one LRU of `capacity` experts a layer, and begin each window empty; routers keep
// their mean range of logits from window to window. Weights may come from anywhere: what the engine's own cache holds does not matter.
// All variants are run on a window before the next window begins; one that is broken off counts for none.
// Source: arXiv 2412.00099, section 4.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"
#include "eval/routing/routing_rows.h"
#include "eval/routing/virtual_cache.h"
#include "eval/text_windows.h"
#include "sim/routing_file.h"

namespace pantry {

struct RoutingSweepOptions {
  WindowOptions windows = {};                            // n_ctx is cut to the model's context
  std::vector<double> cache_shares = {0.25, 0.5, 0.75};  // of each layer's experts
  std::string variants = "all";  // ParseRoutingVariants(); exact and Belady's bound always come along
  int32_t top_j = 0;             // as ExpertPolicySpec
  int32_t n_spared_layers = 0;
  Status Validate() const;
};

struct SweepProgress {
  int64_t n_done = 0;  // tokens, of all windows and runs
  int64_t n_total = 0;
  int64_t window = 0;
  int64_t n_windows = 0;
};

// The layers of `shape` that have experts; kInvalidArgument when none has.
Result<ExpertLayers> ExpertLayersOf(const ModelShape& shape);

// kInvalidArgument: options, the text is shorter than two windows, the model has no experts. Where `keep_going` returns false, what was
// measured by then comes back; kCancelled before the first window is through. Until it returns, all runs of the engine are routed by it.
Result<RoutingSweep> MeasureRouting(Engine& engine, std::string_view text, const RoutingSweepOptions& options,
                                    const std::function<bool(const SweepProgress& progress)>& keep_going = {});

// The same of routers' logits that were recorded: without a model, so without perplexity, in one window. Tokens of prompts, of which no logits
// are recorded, are left out. kInvalidArgument: options, or there are no logits.
Result<RoutingSweep> ReplayRouting(const RecordedRouting& recording, const RoutingSweepOptions& options);

}  // namespace pantry
