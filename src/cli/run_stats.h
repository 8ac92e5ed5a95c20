// SPDX-License-Identifier: Apache-2.0
// RunStats is the file of --stats: what each token, or part of a prompt, cost, as a line of JSON.
//
//   {"position":512,"n_tokens":1,"us":98211,"hits":341,"late":0,"misses":43,"bytes_read":...,"disk_busy_us":...,"wait_us":...,"place_us":...,"evictions":43,
//    "first_layer":0,"layer_hits":[8,7,...],"layer_late":[0,0,...],"layer_misses":[0,1,...]}
//
// With an --expert-policy, `"policy":"cache-prior:0.2","strength":0.2,"picks":384,"agreed":362,"choices":48,"weight_kept":47.1,
// "excess_kl":0.93` of the run comes before "first_layer" (RoutingCounts; the last two are sums over the choices), else `"policy":"exact"`
// where there are experts. A resident run has the first three. "hits" were in memory when they were wanted, "late" ones on their way,
// "misses" neither: experts, blocks of matrices, or neurons of dense layers. Where experts' neurons are read alone, these are gates, and
// "neuron_hits", "neuron_misses" and "neuron_evictions" follow "evictions". The disk is busy while a read is under way, until that is seen to have ended.
// With --sparsity `"sparsity":0.5,"neurons":46080,"resting":22811` of the run follow "us".
// With a --neuron-policy `"neuron_policy":"cache-prior:0.1","firing":77012,"left_out":3310,"gate_sum_kept":0.993` of the run come before
// "first_layer": neurons that fired, how many of them did not run, and the share of the others in the sum of gates. Then "misses" are of those
// that ran. The last three are missing where nothing was chosen, as in a run of several tokens.
// Threads: one at a time. A line is written when its run is over, in some microseconds, and in the file at once.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/logger.h"
#include "base/status.h"
#include "engine/engine.h"

namespace pantry {

class RunStats {
 public:
  // Begins the file anew. `log` must outlive the stats: it is told once if a line cannot be written. kIoError.
  static Result<std::unique_ptr<RunStats>> Open(const std::string& path, Logger& log);
  // What was counted until now is of no run: a warm start's reads.
  void Begin(Engine& engine);
  void Write(const RunReport& run, Engine& engine);

 private:
  struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  RunStats(std::string path, std::FILE* file, Logger& log) : path_(std::move(path)), log_(log), file_(file) {}
  void CountFrom(const WeightStreamStats& now, std::span<const CacheStats> layers);
  void AppendStream(const WeightStream& stream, Engine& engine);
  void AppendPolicy(const CacheAwareRouter& chooser);
  void AppendResting(const RestingNeurons& resting);
  void AppendPrior(const NeuronPrior& prior);

  std::string path_;
  Logger& log_;
  std::unique_ptr<std::FILE, CloseFile> file_;  // null after an error
  fmt::memory_buffer line_;
  WeightStreamStats before_;
  RoutingCounts counts_before_;
  NeuronPriorCounts prior_before_;
  std::vector<CacheStats> layers_before_;
  int64_t n_neurons_before_ = 0;
  int64_t n_resting_before_ = 0;
};

}  // namespace pantry
