// SPDX-License-Identifier: Apache-2.0
#include "policy/planner/speed_estimate.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "policy/planner/chances.h"

namespace pantry {
namespace {

// Shares of a measured rate that runs have reached (docs/performance.md): one row of a matrix at a time reads 75 to 100 % of what memory
// gives (Granite Rapids 80 to 86 %: sim/host_costs.h's memory_share, and perf of bamboo-7b; Sapphire Rapids about 97 %), many rows compute at 40 to
// 65 % of the peak (prompts of llama-7b at 46 to 58 on AMX, whose own peak nobody measures), and a queue of mixed reads gets 75 to 100 % of a disk.
struct Shares {
  double memory, arithmetic, disk;
};
constexpr Shares kWorst = {0.75, 0.40, 0.75};
constexpr Shares kLikely = {0.86, 0.50, 0.90};
constexpr Shares kBest = {1.00, 0.65, 1.00};

// Of cores, on two of Granite Rapids, a virtual machine. A loop: sim/host_costs.h's MeasureHostCosts(), step_us of three models 4.8 to 5.0; one thread
// begins none on another. Reads: perf of bamboo-7b's pack, by token in the system 13.3 ms for 2050 reads in 256 bursts and 21.7 ms for 9460, and 1.5 us
// of checking, admitting and looking up a bundle; kick_us, the asking's part of a burst, is 15 to 18.
constexpr double kLoopSeconds = 5e-6, kReadSeconds = 2.6e-6, kBurstSeconds = 40e-6;
// Of a layer's blocks, how many are missing counts as a matter of chance up to so many blocks, of more as what it is on average.
constexpr double kFewBlocks = 64;
// Bringing a tile of weights into the order that many rows want takes as long as multiplying it by so many rows. AMX, Q4_0: 16 rows at 573 GOPS, 128 at 660;
// Q4_K: 462 and 538 (docs/performance.md).
constexpr double kRowsPerDecode = 3;
// Neighbours that one read brings at most: io/block_reader.h's kMostPieces.
constexpr double kMostNeighbours = 16;

// How much of the disk's time hides behind work.
enum class Overlap : uint8_t { kNothing, kOfLayer, kAll };

struct HitPoint {
  double share, low, high;
};
// LRU on Qwen3.6-35B-A3B (256 experts, 8 used), as published with the engines that stream it; the ends are certain.
constexpr HitPoint kHits[] = {{0, 0, 0},          {0.06, 0.45, 0.58}, {0.12, 0.61, 0.73}, {0.25, 0.76, 0.87},
                              {0.38, 0.88, 0.94}, {0.50, 0.94, 0.96}, {0.75, 0.98, 0.99}, {1, 1, 1}};

struct Chance {
  double chance = 1, disk_s = 0;
};

// What one run costs each resource.
struct Cost {
  double dense_s = 0;       // memory: weights and KV of every token
  double overlapped_s = 0;  // of that: while the layer's experts are read
  double experts_s = 0;     // memory: experts
  double arithmetic_s = 0;
  bool one_after_other = false;  // memory and arithmetic
  double disk_s = 0;
  double loops_s = 0;
  double asking_s = 0;               // while blocks are read
  std::vector<Chance> layer = {{}};  // what its reads may take
  double n_layers = 0;
  double memory_s() const { return dense_s + experts_s; }
};

double Per(double amount, double rate) { return rate > 0 ? amount / rate : 0; }

// Of `n` blocks, each absent with this probability, that come in so many reads each.
std::vector<Chance> DiskOfLayer(const MachineRates& rates, const ModelWork& work, double n, double missing) {
  if (n <= 0) return {{1, 0}};
  const double piece_bytes = work.expert_file_bytes / work.expert_pieces;
  const auto disk_s = [&](double n_missing) {
    if (work.neighbour_bytes <= 0) return DiskSeconds(rates, n_missing * work.expert_pieces, piece_bytes);
    // The mean run of neighbours, if those that are missing lie anywhere.
    const double rest = 1 - n_missing / static_cast<double>(work.n_experts);
    const double together = rest * kMostNeighbours > 1 ? 1 / rest : kMostNeighbours;
    const double n_reads = n_missing / together;
    return DiskSeconds(rates, n_reads, piece_bytes) +
           Per((n_missing - n_reads) * work.neighbour_bytes, rates.disk_bytes_per_s);
  };
  if (work.reads_ahead || n > kFewBlocks || missing <= 0 || missing >= 1) return {{1, disk_s(n * missing)}};
  const int n_blocks = static_cast<int>(std::ceil(n));
  const double absent = n * missing / n_blocks;
  const std::vector<double> chances = ChancesOf(n_blocks, static_cast<int>(std::lround(absent * n_blocks)), [&](int k) {
    return (n_blocks - k) * absent / ((k + 1) * (1 - absent));
  });
  std::vector<Chance> layer;
  for (int k = 0; k <= n_blocks; ++k) layer.push_back({chances[static_cast<size_t>(k)], disk_s(k)});
  return layer;
}

double Mean(const std::vector<Chance>& layer) {
  double sum = 0;
  for (const Chance& one : layer) sum += one.chance * one.disk_s;
  return sum;
}

// The same layers' reads of two kinds, which do not depend on each other.
Cost operator+(const Cost& a, const Cost& b) {
  Cost sum = a;
  sum.dense_s += b.dense_s;
  sum.overlapped_s += b.overlapped_s;
  sum.experts_s += b.experts_s;
  sum.arithmetic_s += b.arithmetic_s;
  sum.disk_s += b.disk_s;
  sum.loops_s += b.loops_s;
  sum.asking_s += b.asking_s;
  sum.n_layers = std::max(a.n_layers, b.n_layers);
  sum.layer.clear();
  for (const Chance& one : a.layer) {
    for (const Chance& other : b.layer) sum.layer.push_back({one.chance * other.chance, one.disk_s + other.disk_s});
  }
  return sum;
}

// n_tokens computed together after `position` others, of which each layer uses `n_distinct` experts and misses a share.
Cost CostOf(const MachineRates& rates, const ModelWork& work, int64_t n_tokens, int64_t position, double n_distinct,
            double missing) {
  const auto n = static_cast<double>(n_tokens), layers = static_cast<double>(work.n_expert_layers);
  const double n_positions = static_cast<double>(position) + (n + 1) / 2;  // that a token sees, on average
  const double n_missing = n_distinct * missing;                           // of a layer
  Cost cost;
  const double kv_bytes = (static_cast<double>(position) + n) * static_cast<double>(work.kv_bytes_per_position);
  cost.dense_s = Per(static_cast<double>(work.dense_bytes) + kv_bytes, rates.memory_bytes_per_s);
  cost.overlapped_s = Per(static_cast<double>(work.overlapped_bytes), rates.memory_bytes_per_s);
  // The rows of an expert, in the mean.
  const double n_uses = n * static_cast<double>(work.n_experts_used);
  const SparseCost expert = work.expert_cost.Of(n_distinct > 0 ? n_uses / n_distinct : n);
  // What is missing is written to its place, and read from where it arrived.
  cost.experts_s =
      Per(layers * work.expert_bytes * (expert.traffic * n_distinct + 2 * n_missing), rates.memory_bytes_per_s);
  const auto float_macs =
      n * (static_cast<double>(work.float_macs) + n_positions * static_cast<double>(work.attention_macs_per_position)) +
      static_cast<double>(work.output_float_macs);
  // Neurons that some row wants go up for all of them; down, all neurons of many rows do.
  const bool many = n > SparseCost::kMostRows;
  const double goes_down = many ? static_cast<double>(work.n_experts) : n_distinct;
  const double n_computed = std::max(n_uses, n * work.rows_share * (n_distinct + goes_down) / 2);
  const double of_experts = layers * work.expert_int8_macs;
  const double dense_macs = static_cast<double>(work.int8_macs) - of_experts * static_cast<double>(work.n_experts_used);
  cost.one_after_other = many;
  const double decodes = many ? kRowsPerDecode : 0;
  const double int8_macs = (n + decodes) * dense_macs + of_experts * (expert.macs * n_computed + decodes * n_distinct) +
                           static_cast<double>(work.output_int8_macs);
  cost.arithmetic_s = Per(2 * int8_macs, rates.int8_ops_per_s) + Per(2 * float_macs, rates.f32_flops);
  cost.loops_s = work.n_loops * rates.loop_s;
  if (work.expert_pieces > 0) {
    const double n_reads = n_missing * work.expert_pieces;  // of a layer
    // Of a prompt the thread that takes what comes is waited for.
    const double read_s = many ? rates.n_threads * rates.read_s : rates.read_s;
    cost.layer = DiskOfLayer(rates, work, n_distinct, missing);
    cost.n_layers = layers;
    cost.disk_s = layers * Mean(cost.layer);
    cost.asking_s = layers * (n_reads * read_s + std::min(n_reads, work.n_bursts) * rates.burst_s);
  }
  return cost;
}

double Seconds(const Cost& cost, const Shares& shares, Overlap overlap) {
  const double memory_s = cost.memory_s() / shares.memory, arithmetic_s = cost.arithmetic_s / shares.arithmetic;
  const double work_s = cost.one_after_other ? memory_s + arithmetic_s : std::max(memory_s, arithmetic_s);
  const double disk_s = cost.disk_s / shares.disk;
  if (overlap == Overlap::kNothing) return work_s + cost.loops_s + cost.asking_s + disk_s;
  if (overlap == Overlap::kAll) return std::max(work_s + cost.loops_s + cost.asking_s, disk_s);
  const double of_experts = cost.memory_s() > 0 ? (cost.experts_s + cost.overlapped_s) / cost.memory_s() : 0;
  const double hides_s = work_s * of_experts + cost.asking_s;
  double waits_s = 0;  // of a layer
  for (const Chance& one : cost.layer) {
    waits_s += one.chance * std::max(one.disk_s / shares.disk - hides_s / std::max(cost.n_layers, 1.0), 0.0);
  }
  return work_s + cost.loops_s + cost.asking_s + cost.n_layers * waits_s;
}

void Add(SpeedEstimate& sum, const ModelWork& work, const Cost& best, const Cost& likely, const Cost& worst) {
  sum.low_s += Seconds(best, kBest, Overlap::kAll);
  sum.likely_s += Seconds(likely, kLikely, work.reads_ahead ? Overlap::kAll : Overlap::kOfLayer);
  sum.high_s += Seconds(worst, kWorst, Overlap::kNothing);
  sum.memory_s += likely.memory_s() / kLikely.memory;
  sum.arithmetic_s += likely.arithmetic_s / kLikely.arithmetic;
  sum.disk_s += likely.disk_s / kLikely.disk;
}

// Of all experts of a layer, those that some of n tokens use.
double UsedBy(const ModelWork& work, int64_t n) {
  if (work.n_experts <= 0) return 0;
  if (work.used_by_run.empty()) {  // if tokens chose their experts independently of each other; real ones share some
    const double unused = 1 - static_cast<double>(work.n_experts_used) / static_cast<double>(work.n_experts);
    return 1 - std::pow(unused, static_cast<double>(n));
  }
  const double at = std::min(std::log2(static_cast<double>(n)), static_cast<double>(work.used_by_run.size() - 1));
  const auto before = static_cast<size_t>(at);
  const size_t after = std::min(before + 1, work.used_by_run.size() - 1);
  return work.used_by_run[before] +
         (at - static_cast<double>(before)) * (work.used_by_run[after] - work.used_by_run[before]);
}

// Of what is held when a run of all layers begins, the rest when a layer's turn comes: what the layers before read takes the place of others'. If the
// run reads as much as is held, or more, that is half of it in the mean. bamboo-7b's pack: 66, 65 and 51 of 121 thousand neurons were still there for
// 37, 148 and 352 tokens.
double StillHeld(double held, double used) { return held - std::min(used - held, held) / 2; }

// Of a disk's table, the rates of one depth as (block, rate); between two blocks on a logarithmic scale.
double RateOfBlock(const std::vector<std::pair<double, double>>& points, double block) {
  if (block <= points.front().first) return points.front().second * block / points.front().first;  // latency counts
  for (size_t i = 1; i < points.size(); ++i) {
    const auto [b0, r0] = points[i - 1];
    const auto [b1, r1] = points[i];
    if (block <= b1) return r0 + (r1 - r0) * std::log(block / b0) / std::log(b1 / b0);
  }
  return points.back().second;
}

}  // namespace

Resource BindingOf(const SpeedEstimate& estimate) {
  if (estimate.disk_s > std::max(estimate.memory_s, estimate.arithmetic_s)) return Resource::kDisk;
  return estimate.arithmetic_s > estimate.memory_s ? Resource::kArithmetic : Resource::kMemory;
}

MachineRates RatesFor(const HardwareProfile& profile, int32_t n_threads, int64_t piece_bytes) {
  MachineRates rates;
  rates.n_threads = n_threads;
  rates.memory_bytes_per_s = RateFor(profile.dram_read_bytes_per_s, n_threads);
  rates.int8_ops_per_s = RateFor(profile.int8_ops_per_s, n_threads);
  rates.f32_flops = RateFor(profile.f32_flops, n_threads);
  if (n_threads > 1) rates.loop_s = kLoopSeconds;
  rates.read_s = kReadSeconds / n_threads;
  rates.burst_s = kBurstSeconds / n_threads;
  if (!profile.disk || piece_bytes <= 0) return rates;
  rates.disk_bytes_per_s = profile.disk->sequential_bytes_per_s;
  std::vector<int32_t> depths;
  for (const DiskRate& cell : profile.disk->random) depths.push_back(cell.queue_depth);
  std::sort(depths.begin(), depths.end());
  depths.erase(std::unique(depths.begin(), depths.end()), depths.end());
  for (const int32_t depth : depths) {
    std::vector<std::pair<double, double>> points;
    for (const DiskRate& cell : profile.disk->random) {
      if (cell.queue_depth != depth || cell.block_bytes <= 0 || cell.bytes_per_s <= 0) continue;
      points.emplace_back(static_cast<double>(cell.block_bytes), cell.bytes_per_s);
    }
    std::sort(points.begin(), points.end());
    if (depth > 0 && !points.empty()) {
      rates.disk.push_back({depth, RateOfBlock(points, static_cast<double>(piece_bytes))});
    }
  }
  return rates;
}

double DiskSeconds(const MachineRates& rates, double n, double piece_bytes) {
  if (rates.disk.empty() || n <= 0) return 0;
  // Of q reads together; between two depths linear in the number of reads. So many seconds are the least for more reads, too.
  double before_n = 0, before_s = 0;
  for (const DepthRate& rate : rates.disk) {
    const auto depth = static_cast<double>(rate.queue_depth);
    const double seconds = std::max(before_s, Per(depth * piece_bytes, rate.bytes_per_s));
    if (n <= depth) return before_s + (seconds - before_s) * (n - before_n) / (depth - before_n);
    before_n = depth;
    before_s = seconds;
  }
  return before_s * n / before_n;
}

HitRange ExpectedHits(double cache_share) {
  const double share = std::clamp(cache_share, 0.0, 1.0);
  const HitPoint* after = kHits + 1;
  while (after->share < share) ++after;
  const HitPoint& before = after[-1];
  const double at = (share - before.share) / (after->share - before.share);
  HitRange hits;
  hits.low = before.low + at * (after->low - before.low);
  hits.high = before.high + at * (after->high - before.high);
  hits.likely = (hits.low + hits.high) / 2;
  return hits;
}

std::string_view ResourceName(Resource resource) {
  switch (resource) {
    case Resource::kMemory: return "memory bandwidth";
    case Resource::kArithmetic: return "arithmetic";
    case Resource::kDisk: return "disk";
  }
  return "";
}

SpeedEstimate EstimateToken(const MachineRates& rates, const ModelWork& work, int64_t position, const HitRange& hits) {
  return EstimateBatch(rates, work, 1, position, static_cast<double>(work.n_experts_used), hits);
}

SpeedEstimate EstimateBatch(const MachineRates& rates, const ModelWork& work, int64_t n_tokens, int64_t position,
                            double n_distinct, const HitRange& hits) {
  const auto cost = [&](double hit) { return CostOf(rates, work, n_tokens, position, n_distinct, 1 - hit); };
  SpeedEstimate estimate;
  Add(estimate, work, cost(hits.high), cost(hits.likely), cost(hits.low));
  estimate.binds = BindingOf(estimate);
  return estimate;
}

SpeedEstimate EstimateToken(const WorkPart& blocks, const WorkPart& neurons, int64_t position) {
  const auto cost = [&](double HitRange::* hit) {
    const auto of = [&](const WorkPart& part) {
      return CostOf(part.rates, part.work, 1, position, static_cast<double>(part.work.n_experts_used),
                    1 - part.hits.*hit);
    };
    return of(blocks) + of(neurons);
  };
  SpeedEstimate estimate;
  Add(estimate, blocks.work, cost(&HitRange::high), cost(&HitRange::likely), cost(&HitRange::low));
  estimate.binds = BindingOf(estimate);
  return estimate;
}

SpeedEstimate EstimatePrompt(const MachineRates& rates, const ModelWork& work, int64_t n_tokens, int64_t n_batch,
                             bool is_streamed, double cache_share, double warm_hits) {
  SpeedEstimate estimate;
  const double held = std::clamp(cache_share, 0.0, 1.0);
  for (int64_t done = 0; done < n_tokens; done += n_batch) {
    const int64_t n = std::min(n_batch, n_tokens - done);
    const double used = UsedBy(work, n);
    double missing = !is_streamed ? 0 : done > 0 ? 1 - held : 1;
    if (is_streamed && done == 0 && warm_hits > 0) {
      missing = 1 - std::min(used > held ? StillHeld(held, used) / used : 1, warm_hits);
    }
    const Cost cost = CostOf(rates, work, n, done, static_cast<double>(work.n_experts) * used, missing);
    Add(estimate, work, cost, cost, cost);
  }
  estimate.binds = BindingOf(estimate);
  return estimate;
}

}  // namespace pantry
