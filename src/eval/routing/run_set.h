// SPDX-License-Identifier: Apache-2.0
// A RunSet is all the runs that a sweep compares, exact first, and what they have come to.
//
// A variant that does not look at the cache has one run, which keeps caches of all sizes; others have a run for each size.
// Threads: thread-compatible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "eval/routing/routing_rows.h"
#include "eval/routing/routing_run.h"
#include "eval/routing/routing_sweep.h"

namespace pantry {

class RunSet {
 public:
  // kInvalidArgument: a variant does not suit the model.
  static Result<RunSet> Create(const RoutingSweepOptions& options, const ExpertLayers& layers);

  size_t n_runs() const { return runs_.size(); }
  RoutingRun& run(size_t i) { return *runs_[i]; }
  // All runs have been through the window.
  Status CommitWindow();
  std::vector<RoutingRow> Rows() const;
  int64_t n_tokens() const { return runs_.front()->losses().n_tokens(); }  // scored

 private:
  explicit RunSet(const ExpertLayers& layers) : layers_(layers) {}
  RoutingRow RowOf(const RoutingRun& run, size_t cache) const;

  ExpertLayers layers_;
  std::vector<int32_t> capacities_;  // ascending
  std::vector<std::unique_ptr<RoutingRun>> runs_;
  std::vector<int64_t> belady_misses_;  // by capacity
};

}  // namespace pantry
