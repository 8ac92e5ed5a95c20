// SPDX-License-Identifier: Apache-2.0
// A SpeedEstimate says how long a run of tokens should take and which resource it waits for, from measured rates and counted bytes.
//
// Pure: numbers in, numbers out. A run costs each resource some seconds:
//
//   memory      (dense weights + experts that are used + keys and values + blocks brought in, written and read once more) / memory rate
//   arithmetic  multiply-adds of matrices and attention / arithmetic rate; of a prompt also decoding each weight once
//   disk        a layer's missing pieces, read together, at the rate of so many reads under way
//   cores       parallel loops, which begin and end; asking for reads and taking what comes
//
// Work is the longer of the first two, of a prompt their sum, since its kernels bring and decode a tile of weights before rows pass it; and the cores'
// own. What of the disk hides behind work is not known before: nothing (the sum), all of it (the longer of
// the two), or, as the pipeline does it, as much as a layer's experts take; of few blocks a layer misses none or several, and one without
// misses hides nothing of another's. The three give the range, together with the shares of a rate
// that runs have reached and the spread of hit rates. It is a forecast for planning, no measurement.
// Threads: free functions and values.
// Source: formulas 1 to 5 and 9 of the analytic limits in flash streaming: T_m = bytes / B_m, T_c = P / C, T_f = misses / B_f(b, q).
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "sys/hardware_profile.h"

namespace pantry {

struct DepthRate {
  int32_t queue_depth = 0;  // reads under way
  double bytes_per_s = 0;
};

// 0, or an empty list: not measured, and what depends on it counts as free.
struct MachineRates {
  int32_t n_threads = 1;
  double memory_bytes_per_s = 0;
  double int8_ops_per_s = 0;  // a multiply and an add are 2
  double f32_flops = 0;
  std::vector<DepthRate> disk;  // of reads of the model's piece size, ascending
  double disk_bytes_per_s = 0;  // of what makes a read longer
  // Of all cores together, while nothing else is done: a parallel loop begins and ends, a read is asked for and taken, a first read wakes the disk.
  double loop_s = 0, read_s = 0, burst_s = 0;
};

// Rates of a machine for n_threads, and for reads of `piece_bytes` (between the block sizes that were measured).
MachineRates RatesFor(const HardwareProfile& profile, int32_t n_threads, int64_t piece_bytes);

// Until `n` reads that are given out together are done. Never falls with n, whatever the noise of a measurement; less than one read of a
// layer on average takes its share of a single read's time.
double DiskSeconds(const MachineRates& rates, double n, double piece_bytes);

// What one row costs of an expert, as shares of streaming and computing all of it: less where only the neurons that fire are computed.
struct SparseCost {
  static constexpr double kMostRows = 4;  // more compute everything: compute/expert_matmul.h's kSparseRows

  double bytes = 1;    // read from memory
  double traffic = 1;  // as many would be streamed in the time that these take
  double macs = 1;
  double once = 1;  // of bytes and traffic, what all rows share: the gates

  // Of so many rows, each: macs of one, bytes and traffic of all together. What fires for several counts for each of them, up to
  // everything.
  SparseCost Of(double n_rows) const {
    if (n_rows > kMostRows) return {};
    const double more = std::max(n_rows - 1, 0.0);
    const auto all = [&](double one) { return std::min(one + more * (one - once), std::max(one, 1.0)); };
    return {all(bytes), all(traffic), macs, once};
  }
};

// What a model costs; all layers together unless said otherwise.
struct ModelWork {
  int64_t dense_bytes = 0;  // weights that every run reads
  int64_t int8_macs = 0;    // of a token, with the experts that it uses
  int64_t float_macs = 0;
  int64_t output_int8_macs = 0;  // of a token whose logits are wanted
  int64_t output_float_macs = 0;
  int64_t overlapped_bytes = 0;  // of the dense ones: computed while blocks of their own layer are read, as experts are
  int64_t kv_bytes_per_position = 0;
  int64_t attention_macs_per_position = 0;  // of a token, for each position it looks at
  int32_t n_expert_layers = 0;              // 0: no experts
  int32_t n_experts = 0;                    // of a layer
  int32_t n_experts_used = 0;
  // Of n_experts, those that some of 1, 2, 4 ... tokens use, in the mean; beyond, as the last. Empty: as if tokens chose independently.
  std::vector<double> used_by_run;
  double n_loops = 0;           // parallel loops of a run that are worth counting
  double n_bursts = 1;          // in which a layer asks for what it misses
  bool reads_ahead = false;     // the "experts" are whole layers, in an order known beforehand
  double expert_bytes = 0;      // one, in memory
  double expert_int8_macs = 0;  // one, by a token; of int8_macs
  // Of a run's rows, those that each expert used is computed for, if that is more than use it: neurons run for all of their network's.
  double rows_share = 0;
  SparseCost expert_cost;
  double expert_file_bytes = 0;  // one, in the file
  double expert_pieces = 0;      // reads that bring one in
  double neighbour_bytes = 0;    // what one read more of a neighbour adds to a read; 0: neighbours are read apart
};

struct HitRange {
  double low = 1, likely = 1, high = 1;
};
// Hit rate of one token's experts when `cache_share` of all blocks lie in memory. Rises with it from 0 to 1.
// Measured for LRU on a trained model of 256 experts with 8 used; linear between the measured shares. Coarser experts hit less.
HitRange ExpectedHits(double cache_share);

enum class Resource : uint8_t { kMemory, kArithmetic, kDisk };
std::string_view ResourceName(Resource resource);  // "memory bandwidth", "arithmetic", "disk"

struct SpeedEstimate {
  double memory_s = 0, arithmetic_s = 0, disk_s = 0;  // each, if there were nothing else; at likely hits
  double low_s = 0, likely_s = 0, high_s = 0;         // of the run: at best, likely, at worst
  Resource binds = Resource::kMemory;                 // the longest of the first three
};

// What binds it, by the first three.
Resource BindingOf(const SpeedEstimate& estimate);

// One token after `position` others, with blocks hit as `hits` says.
SpeedEstimate EstimateToken(const MachineRates& rates, const ModelWork& work, int64_t position, const HitRange& hits);

// A token's work in parts whose pieces differ: experts' gates with all that every token needs, and the neurons of these experts, those of a layer's
// experts together.
struct WorkPart {
  MachineRates rates;
  ModelWork work;
  HitRange hits;
};
SpeedEstimate EstimateToken(const WorkPart& blocks, const WorkPart& neurons, int64_t position);

// `n_tokens` together after `position` others, for which a layer uses `n_distinct` experts. Logits are wanted of one.
SpeedEstimate EstimateBatch(const MachineRates& rates, const ModelWork& work, int64_t n_tokens, int64_t position,
                            double n_distinct, const HitRange& hits);

// A prompt of n_tokens, n_batch together, from an empty cache: the first batch reads every expert that it uses, later ones those that
// `cache_share` does not hold. A warm cache, of which a token hits `warm_hits`, holds what is used most already when the first one begins, and half of
// it until it is wanted; more tokens hit no larger share than one.
SpeedEstimate EstimatePrompt(const MachineRates& rates, const ModelWork& work, int64_t n_tokens, int64_t n_batch,
                             bool is_streamed, double cache_share, double warm_hits = 0);

}  // namespace pantry
