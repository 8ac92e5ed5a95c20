// SPDX-License-Identifier: Apache-2.0
#include "sim/sim_stream.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "residency/cache/commit_memory.h"
#include "sim/replay.h"

namespace pantry {
namespace {

constexpr size_t kBlocksAtOnce = BlockStream::kBlocksAtOnce;

// The model's files: only asked how large they are.
class UnreadFile final : public Reader {
 public:
  const std::string& path() const override { return path_; }
  uint64_t size() const override { return uint64_t{1} << 62; }
  Status ReadAt(uint64_t, std::span<uint8_t>) const override { return InternalError("{}: was read", path_); }

 private:
  const std::string path_ = "simulated file";
};
constexpr int32_t kMostFiles = 1024;

}  // namespace

void SubtractCounts(const SimReport& before, SimReport& after) {
  const auto subtract = [](const auto& from, auto& of, auto... fields) { ((of.*fields -= from.*fields), ...); };
  subtract(before.cache, after.cache, &CacheStats::n_demanded, &CacheStats::n_hits, &CacheStats::n_late,
           &CacheStats::n_misses, &CacheStats::demanded_bytes, &CacheStats::late_bytes, &CacheStats::missed_bytes,
           &CacheStats::n_admitted, &CacheStats::admitted_bytes, &CacheStats::n_refused, &CacheStats::n_failed,
           &CacheStats::n_evicted, &CacheStats::evicted_age_steps, &CacheStats::n_guesses, &CacheStats::n_guesses_used,
           &CacheStats::n_guesses_wasted);
  subtract(before.stream, after.stream, &BlockStreamStats::n_events, &BlockStreamStats::n_waits,
           &BlockStreamStats::wait_us, &BlockStreamStats::place_us);
  subtract(before.reader, after.reader, &BlockReaderStats::n_reads, &BlockReaderStats::bytes_wanted,
           &BlockReaderStats::n_transfers, &BlockReaderStats::bytes_read, &BlockReaderStats::n_coalesced,
           &BlockReaderStats::n_cancelled, &BlockReaderStats::busy_us);
  after.flash_busy_us -= before.flash_busy_us;
  after.routing = after.routing - before.routing;
}

Result<std::unique_ptr<SimStream>> SimStream::Open(const SimModel& model, const RoutingTrace& trace,
                                                   const DeviceProfile& device, const SimOptions& options,
                                                   StreamObserver* observer, Machine& machine) {
  if (device.flash.empty()) return InvalidArgumentError("device '{}' has no flash to stream from", device.name);
  auto sim = std::unique_ptr<SimStream>(new SimStream(model, device, options, machine));
  int32_t n_files = 1;
  for (const BlockPiece& piece : model.pieces) n_files = std::max(n_files, piece.file + 1);
  if (n_files > kMostFiles) return InvalidArgumentError("model '{}' has {} files", model.name, n_files);
  sim->file_ = std::make_unique<UnreadFile>();
  const std::vector<const Reader*> files(static_cast<size_t>(n_files), sim->file_.get());
  auto queue = std::make_unique<FlashQueue>(device, machine, options.flash_depth);
  sim->queue_ = queue.get();
  machine.Attach(queue.get());
  BlockReaderOptions reads = options.reads;
  reads.max_reads = std::max(reads.max_reads, BlockStream::kStagingSlots);
  sim->reader_ = std::make_unique<BlockReader>(files, std::move(queue), reads, machine);

  BlockCacheOptions cache_options;
  cache_options.budget_bytes = options.cache_bytes;
  cache_options.max_budget_bytes = options.cache_bytes + options.most_idle_bytes;
  cache_options.policy = model.is_rotation() ? PolicyOptions{.kind = PolicyKind::kRotation} : options.policy;
  std::unique_ptr<EvictionPolicy> belady;
  if (options.knows_future && !model.is_rotation()) belady = MakeBelady(trace, model.blocks.size());
  PANTRY_ASSIGN_OR_RETURN(sim->cache_, BlockCache::Create(model.blocks, cache_options, std::move(belady)));
  PANTRY_ASSIGN_OR_RETURN(sim->stream_, BlockStream::Create(*sim->cache_, *sim->reader_, sim->placer_, machine));
  if (observer != nullptr) sim->stream_->Observe(observer);
  sim->n_uses_.resize(model.blocks.size());
  if (model.is_rotation()) sim->ahead_.emplace(*sim->cache_, *sim->stream_);
  const int32_t n_cores = options.n_cores > 0 ? options.n_cores : device.n_cores;
  // 1.8 times as fast with two threads (commit_memory.h). More than 2^60 bytes are as good as all.
  const double bytes_per_s = std::pow(n_cores, 0.85) * device.fresh_bytes_per_s;
  sim->bytes_to_commit_ = static_cast<int64_t>(std::min(1e-6 * kMostCommitUs * bytes_per_s, 0x1p60));
  sim->CommitMemory();
  return sim;
}

void SimStream::SetBudget(int64_t n_bytes) {
  cache_->SetBudget(n_bytes);
  if (ahead_) ahead_->BudgetChanged();
}

void SimStream::BeginRun(int64_t n_positions, int64_t n_tokens) {
  if (options_.idle_bytes) {
    const int64_t budget_bytes =
        options_.cache_bytes + std::min(options_.idle_bytes(n_positions, n_tokens), options_.most_idle_bytes);
    if (cache_->budget_bytes() != budget_bytes) SetBudget(budget_bytes);
    if (cache_->budget_bytes() > budget_bytes) {
      stream_->CancelReads();  // what is read ahead holds its room
      SetBudget(budget_bytes);
    }
    touched_bytes_ = std::min(touched_bytes_, cache_->budget_bytes());  // the rest was given back
    CommitMemory();
  }
  cache_->BeginStep(n_tokens);
}

void SimStream::Expect(std::span<const BlockId> blocks, double likelihood) { stream_->Expect(blocks, likelihood); }

// As many as a token uses. Each that will be wanted is found out with the likelihood of the recall; the others are those that the layer has
// wanted most so far: where a router's guess errs, it names what that router likes. (In measured runs 1 to 14 % of the guesses that were
// read were wasted. Random errors, or what was wanted a token before, were brought in for nothing far more often.)
void SimStream::Guess(std::span<const BlockId> blocks) {
  guesses_.clear();
  if (options_.guess_recall <= 0 || blocks.empty() || model_.n_experts == 0) return;
  for (const BlockId block : blocks) {
    if (rng_.NextDouble() < options_.guess_recall) guesses_.push_back(block);
  }
  const auto n_experts = static_cast<uint32_t>(model_.n_experts);
  const uint32_t first = blocks.front().value() / n_experts * n_experts;
  liked_.clear();
  for (uint32_t i = first; i < first + n_experts; ++i) {
    if (std::find(blocks.begin(), blocks.end(), BlockId(i)) == blocks.end()) liked_.emplace_back(i);
  }
  const size_t n_wrong = std::min(blocks.size() - guesses_.size(), liked_.size());
  std::partial_sort(liked_.begin(), liked_.begin() + static_cast<std::ptrdiff_t>(n_wrong), liked_.end(),
                    [&](BlockId a, BlockId b) {
                      const uint32_t of_a = n_uses_[a.value()], of_b = n_uses_[b.value()];
                      return of_a != of_b ? of_a > of_b : a < b;
                    });
  guesses_.insert(guesses_.end(), liked_.begin(), liked_.begin() + static_cast<std::ptrdiff_t>(n_wrong));
}

void SimStream::CommitMemory() {
  const int64_t n_bytes = std::clamp<int64_t>(cache_->budget_bytes() - touched_bytes_, 0, bytes_to_commit_);
  touched_bytes_ += n_bytes;
  bytes_to_commit_ -= n_bytes;
}

void SimStream::NoteFreshMemory() {
  const int64_t committed = cache_->committed_bytes();
  if (committed > touched_bytes_) placer_.FreshMemory(committed - touched_bytes_);
  touched_bytes_ = std::max(touched_bytes_, committed);
}

Status SimStream::Provide(const SimStep& step, std::span<const BlockId> wanted,
                          FunctionRef<void(double share)> meanwhile, const Compute& compute) {
  if (ahead_) ahead_->Wanted(wanted);
  for (const BlockId block : wanted) ++n_uses_[block.value()];
  stream_->Begin(step.layer, wanted);
  if (ahead_) {
    ahead_->Read();
  } else {
    stream_->Expect(guesses_, options_.guess_likelihood);
    guesses_.clear();
  }
  NoteFreshMemory();
  if (options_.overlap == Overlap::kAll) return HandOut(wanted.size(), meanwhile, compute);
  PANTRY_RETURN_IF_ERROR(HandOutTogether(compute));
  meanwhile(1);
  return OkStatus();
}

// What else is to be done is done first, but in portions, between which the disk gets new work.
Status SimStream::HandOut(size_t n_wanted, FunctionRef<void(double share)> meanwhile, const Compute& compute) {
  std::array<BlockId, kBlocksAtOnce> ready;
  const double portion = 2.0 * kBlocksAtOnce / static_cast<double>(n_wanted);
  for (double left = 1; true;) {
    PANTRY_ASSIGN_OR_RETURN(const size_t n, stream_->Next(pool_, ready));
    const double share = n > 0 ? std::min(left, portion) : left;
    if (share > 0) meanwhile(share);
    left -= share;
    if (n == 0) return OkStatus();
    NoteFreshMemory();
    compute(std::span(ready).first(n));
    stream_->Release(std::span(ready).first(n));
    if (ahead_) ahead_->Read();
  }
}

// All blocks of the event are brought first. The cache must hold them at once.
Status SimStream::HandOutTogether(const Compute& compute) {
  ready_.clear();
  std::array<BlockId, kBlocksAtOnce> some;
  while (true) {
    PANTRY_ASSIGN_OR_RETURN(const size_t n, stream_->Next(pool_, some));
    if (n == 0) break;
    ready_.insert(ready_.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(n));
  }
  compute(ready_);
  stream_->Release(ready_);
  return OkStatus();
}

void SimStream::Count(SimReport& report) const {
  report.cache = cache_->TotalStats();
  report.stream = stream_->stats();
  report.reader = stream_->reader_stats();
  report.flash_busy_us = queue_->busy_us();
}

}  // namespace pantry
