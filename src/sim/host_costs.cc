// SPDX-License-Identifier: Apache-2.0
#include "sim/host_costs.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/units.h"
#include "residency/cache/block_cache.h"
#include "residency/stream/block_stream.h"
#include "residency/stream/stream_observer.h"
#include "sys/aligned_buffer.h"

namespace pantry {
namespace {

constexpr int kDepth = 32;
constexpr std::array<int64_t, 5> kBurstBytes = {64 * kKiB, 128 * kKiB, 256 * kKiB, 512 * kKiB, kMiB};
constexpr std::array<int32_t, 6> kBurstReads = {1, 2, 4, 8, 16, kDepth};
// A burst whose first read is back so late, as a share of the time that all of it takes, comes back together.
constexpr double kTogetherShare = 0.9;
// Before each measurement of waking.
constexpr auto kPause = std::chrono::microseconds(500);

constexpr int64_t kBesideBytes = 384 * kKiB;  // a piece of an expert
constexpr int kBesideReads = 16;
constexpr double kComputedAtOnce = 2 * kMiB;  // then the disk is asked, as between groups of experts

constexpr int64_t kPlacedBytes = 192 * kMiB;  // that the cache of the measurement holds, or so many blocks
constexpr int64_t kPlacedBlocks = 4;
constexpr int64_t kPlaceUs = 400'000;
// Of the pieces, the slowest were interrupted.
constexpr double kUndisturbed = 0.97;
constexpr int kLoopRepeats = 200;
constexpr double kRowsAtOnce = 256 * kKiB;
// Of memory that was free; less where that takes too long. What others gave back a moment ago is soon had, so a small piece tells little.
constexpr size_t kFreshBytes = kGiB;
constexpr size_t kFreshAtOnce = 64 * kMiB;
constexpr double kFreshSeconds = 1.5;
constexpr int kWakeRepeats = 60;
constexpr auto kWakeLimit = std::chrono::milliseconds(2);

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Of times that others on the machine can only make longer.
double LowerQuartile(std::vector<double> values) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 4);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Result<std::unique_ptr<DiskQueue>> OpenQueue(std::span<const Reader* const> files) {
  Result<std::unique_ptr<DiskQueue>> queue = OpenUringQueue(files, kDepth);
  return queue.ok() ? std::move(queue) : OpenPreadQueue(files, kDepth);
}

// Touched, for n_bytes that are under way at once from places all over a file, which must have room for such places.
Result<AlignedBuffer> MemoryToRead(uint64_t file_bytes, uint64_t n_bytes) {
  if (file_bytes < 2 * n_bytes) {
    return InvalidArgumentError("a file of {} is too small to measure with, it takes {}",
                                FormatBytes(static_cast<int64_t>(file_bytes)),
                                FormatBytes(static_cast<int64_t>(2 * n_bytes)));
  }
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer memory, AlignedBuffer::Allocate(n_bytes));
  std::fill_n(memory.data(), n_bytes, uint8_t{1});
  return memory;
}

struct Burst {
  double first_us = 0, all_us = 0;  // until it is back
  double kick_us = 0;               // to ask for the first
  double ask_us = 0;                // and for each of the others
};

// Of places all over the file, as experts lie.
Result<Burst> RunBurst(DiskQueue& queue, uint64_t n_places, int64_t n_bytes, int32_t n_reads, uint8_t* memory, Rng& rng,
                       const Clock& clock) {
  std::array<iovec, kDepth> to;
  std::array<TransferEnd, kDepth> ends;
  Burst burst;
  const int64_t begin_us = clock.NowUs();
  for (int32_t i = 0; i < n_reads; ++i) {
    const uint64_t offset = rng.NextU64() % n_places * Reader::kBlockBytes;
    to[static_cast<size_t>(i)] = {memory + i * n_bytes, static_cast<size_t>(n_bytes)};
    queue.Start({static_cast<uint32_t>(i), 0, offset, {&to[static_cast<size_t>(i)], 1}});
    queue.Flush();
    if (i == 0) burst.kick_us = static_cast<double>(clock.NowUs() - begin_us);
  }
  const auto asked_us = static_cast<double>(clock.NowUs() - begin_us);
  burst.ask_us = n_reads > 1 ? (asked_us - burst.kick_us) / (n_reads - 1) : 0;
  Status status;
  for (int32_t n_done = 0; n_done < n_reads;) {  // all of them, also after an error: they write to `memory`
    const size_t n = queue.Wait(ends, DiskQueue::kForever);
    for (const TransferEnd& end : std::span(ends).first(n)) {
      if (end.n_bytes != n_bytes) status = IoError("a read of {} bytes gave {}", n_bytes, end.n_bytes);
    }
    const auto now_us = static_cast<double>(clock.NowUs() - begin_us);
    if (n > 0 && n_done == 0) burst.first_us = now_us;
    n_done += static_cast<int32_t>(n);
    burst.all_us = now_us;
  }
  PANTRY_RETURN_IF_ERROR(status);
  return burst;
}

// Products, reads or both, for about options.us.
struct Phase {
  double products_per_s = 0, reads_per_s = 0;  // bytes
};

class BesideMeasurement {
 public:
  BesideMeasurement(DiskQueue& queue, uint64_t n_bytes, OneRowReading products, const Clock& clock, uint8_t* memory)
      : queue_(queue),
        n_places_((n_bytes - kBesideReads * kBesideBytes) / Reader::kBlockBytes),
        products_(products),
        clock_(clock),
        memory_(memory) {}

  // Reads are given out again as they end, as a stream does that knows what comes next.
  Result<Phase> Run(bool computes, bool reads, int64_t us) {
    const int64_t begin_us = clock_.NowUs();
    int64_t now_us = begin_us, read_until_us = begin_us;
    double n_computed = 0, n_read = 0;
    int n_under_way = 0;
    for (; reads && n_under_way < kBesideReads; ++n_under_way) Start(static_cast<uint32_t>(n_under_way));
    while (now_us - begin_us < us && status_.ok()) {
      if (reads) {
        queue_.Flush();
        const std::span<const TransferEnd> ended = Wait(computes ? 0 : DiskQueue::kForever);
        if (!ended.empty()) read_until_us = clock_.NowUs();
        n_read += static_cast<double>(ended.size()) * kBesideBytes;
        for (const TransferEnd& end : ended) Start(end.id);
      }
      if (computes) n_computed += products_(kComputedAtOnce);
      now_us = clock_.NowUs();
    }
    while (n_under_way > 0) n_under_way -= static_cast<int>(Wait(DiskQueue::kForever).size());
    PANTRY_RETURN_IF_ERROR(status_);
    const auto per_s = [&](double n, int64_t until_us) {
      return 1e6 * n / static_cast<double>(std::max<int64_t>(until_us - begin_us, 1));
    };
    return Phase{per_s(n_computed, now_us), per_s(n_read, read_until_us)};
  }
  // As many reads at a time as above, again and again, each time until all are back: their bytes a second.
  Result<double> RunBursts(int64_t us) {
    const int64_t begin_us = clock_.NowUs();
    double n_bursts = 0, burst_us = 0;
    do {
      PANTRY_ASSIGN_OR_RETURN(const Burst burst,
                              RunBurst(queue_, n_places_, kBesideBytes, kBesideReads, memory_, rng_, clock_));
      ++n_bursts;
      burst_us += std::max(burst.all_us, 1.0);
    } while (clock_.NowUs() - begin_us < us);
    return 1e6 * n_bursts * kBesideReads * kBesideBytes / burst_us;
  }

 private:
  void Start(uint32_t id) {
    to_[id] = {memory_ + static_cast<int64_t>(id) * kBesideBytes, static_cast<size_t>(kBesideBytes)};
    queue_.Start({id, 0, rng_.NextU64() % n_places_ * Reader::kBlockBytes, {&to_[id], 1}});
  }
  std::span<const TransferEnd> Wait(int64_t timeout_us) {
    const std::span<const TransferEnd> ended = std::span(ends_).first(queue_.Wait(ends_, timeout_us));
    for (const TransferEnd& end : ended) {
      if (end.n_bytes != kBesideBytes) status_ = IoError("a read of {} bytes gave {}", kBesideBytes, end.n_bytes);
    }
    return ended;
  }

  DiskQueue& queue_;
  const uint64_t n_places_;
  const OneRowReading products_;
  const Clock& clock_;
  uint8_t* const memory_;
  Status status_;
  Rng rng_ = Rng(2);
  std::array<iovec, kBesideReads> to_;
  std::array<TransferEnd, kBesideReads> ends_;
};

// How long a core was at each piece.
class PlacingTimes final : public StreamObserver {
 public:
  void PieceCame(const StreamedPiece& piece) override {
    if (piece.place_thread < 0) return;
    pieces_.push_back(
        {static_cast<double>(piece.n_bytes), static_cast<double>(piece.place_end_us - piece.place_begin_us)});
  }
  void Restart() { pieces_.clear(); }
  double BytesPerSecond() {
    std::sort(pieces_.begin(), pieces_.end(),
              [](const Piece& a, const Piece& b) { return a.us * b.n_bytes < b.us * a.n_bytes; });
    double n_bytes = 0, us = 1;
    for (size_t i = 0;
         i < pieces_.size() && static_cast<double>(i) <= kUndisturbed * static_cast<double>(pieces_.size()); ++i) {
      n_bytes += pieces_[i].n_bytes;
      us += pieces_[i].us;
    }
    return 1e6 * n_bytes / us;
  }

 private:
  struct Piece {
    double n_bytes = 0, us = 0;
  };
  std::vector<Piece> pieces_;
};

// Blocks of the model through a real stream, some after others, with more of them under way: as they are placed in a run. A cache that holds few
// of them never has those that come next. Timed by piece, because a stream that only reads places mostly one at a time.
Status MeasurePlacing(const HostCostsInput& input, ThreadPool& pool, DeviceProfile& device) {
  const SteadyClock clock;
  Result<std::unique_ptr<DiskQueue>> queue = OpenQueue(input.files);
  if (!queue.ok()) return queue.status();
  BlockReaderOptions reads;
  reads.max_reads = std::max(reads.max_reads, BlockStream::kStagingSlots);
  BlockReader reader(input.files, *std::move(queue), reads, clock);
  std::vector<BlockInfo> blocks;
  int64_t all_bytes = 0, largest_bytes = 0;
  for (const int64_t n_bytes : input.block_bytes) {
    blocks.push_back({0, n_bytes});
    all_bytes += BlockCache::SlotBytes(n_bytes);
    largest_bytes = std::max(largest_bytes, BlockCache::SlotBytes(n_bytes));
  }
  BlockCacheOptions options;
  options.budget_bytes = std::min(all_bytes / 2, std::max(kPlacedBytes, kPlacedBlocks * largest_bytes));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<BlockCache> cache, BlockCache::Create(blocks, options));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<BlockStream> stream,
                          BlockStream::Create(*cache, reader, input.placer, clock));
  PlacingTimes times;
  stream->Observe(&times);
  const auto n_blocks = static_cast<uint32_t>(blocks.size());
  uint32_t next = 0;
  const auto take = [&](uint32_t first, std::span<BlockId> ids) {
    for (BlockId& id : ids) id = BlockId(first++ % n_blocks);
    return first % n_blocks;
  };
  std::array<BlockId, BlockStream::kBlocksAtOnce> some;
  const std::span<BlockId> wanted = std::span(some).first(std::min<size_t>(some.size(), n_blocks / 4 + 1));
  bool is_committed = false;  // the cache's memory
  int64_t begin_us = clock.NowUs();
  while (true) {
    if (!is_committed && cache->TotalStats().admitted_bytes > options.budget_bytes) {
      is_committed = true;
      times.Restart();
      begin_us = clock.NowUs();
    }
    if (is_committed && clock.NowUs() - begin_us > kPlaceUs) break;
    cache->BeginStep();
    next = take(next, wanted);
    stream->Begin(0, wanted);
    std::array<BlockId, BlockStream::kBlocksAtOnce> later;
    take(next, std::span(later).first(wanted.size()));
    stream->Expect(std::span(later).first(wanted.size()), 1);
    for (std::array<BlockId, BlockStream::kBlocksAtOnce> ready; true;) {
      PANTRY_ASSIGN_OR_RETURN(const size_t n, stream->Next(pool, ready));
      if (n == 0) break;
      stream->Release(std::span(ready).first(n));
    }
  }
  stream->CancelReads();
  (input.places_blocks ? device.place_bytes_per_s : device.copy_bytes_per_s) = times.BytesPerSecond();
  device.sources[input.places_blocks ? "place_bytes_per_s" : "copy_bytes_per_s"] =
      "measured: pieces of the model's blocks in a stream";
  return OkStatus();
}

Status MeasureFreshMemory(DeviceProfile& device) {
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer fresh, AlignedBuffer::Allocate(kFreshBytes));
  const auto begin = std::chrono::steady_clock::now();
  size_t n_bytes = 0;
  for (; n_bytes < kFreshBytes && SecondsSince(begin) < kFreshSeconds; n_bytes += kFreshAtOnce) {
    AlignedBuffer::Touch(fresh.As<uint8_t>().subspan(n_bytes, kFreshAtOnce));
  }
  device.fresh_bytes_per_s = static_cast<double>(n_bytes) / SecondsSince(begin);
  device.sources["fresh_bytes_per_s"] = "measured: memory that was free";
  return OkStatus();
}

// A matrix in a loop of its own takes so much longer than one of several in a loop.
void MeasureSteps(OneRowReading products, DeviceProfile& device) {
  constexpr int kTogether = 8;
  const double matrix_bytes = products(0);
  std::vector<double> us;
  const auto time = [&](double n_bytes) {
    const auto begin = std::chrono::steady_clock::now();
    const double n_read = products(n_bytes);
    return 1e6 * SecondsSince(begin) * matrix_bytes / n_read;
  };
  for (int repeat = 0; repeat < kLoopRepeats; ++repeat) us.push_back(time(0) - time(kTogether * matrix_bytes));
  device.step_us = std::max(Median(us), 0.0) * kTogether / (kTogether - 1);
  device.sources["step_us"] = "measured: a matrix in a loop of its own, and in one with others";
}

void MeasureRows(OneRowReading rows, DeviceProfile& device) {
  std::vector<double> per_s;
  for (int repeat = 0; repeat < kLoopRepeats; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    const double n_bytes = rows(kRowsAtOnce);
    per_s.push_back(n_bytes / std::max(SecondsSince(begin), 1e-9));
  }
  device.row_bytes_per_s = Median(per_s);
  device.sources["row_bytes_per_s"] = "measured: rows normalised and quantised";
}

void MeasureWaking(ThreadPool& pool, DeviceProfile& device) {
  if (pool.n_threads() < 2) return;
  std::vector<double> us;
  for (int repeat = 0; repeat < kWakeRepeats; ++repeat) {
    std::this_thread::sleep_for(kPause);
    std::atomic<bool> is_up = false;
    const auto begin = std::chrono::steady_clock::now();
    // Whoever runs the caller's items waits for another thread to come.
    pool.ParallelFor(2 * pool.n_threads(), [&](int64_t, int thread) {
      if (thread != 0) is_up = true;
      while (!is_up && std::chrono::steady_clock::now() - begin < kWakeLimit) {
      }
    });
    us.push_back(1e6 * SecondsSince(begin));
  }
  device.wake_us = LowerQuartile(us);
  device.sources["wake_us"] = "measured: a thread that slept takes part in a loop";
}

}  // namespace

Status MeasureBursts(DiskQueue& queue, uint64_t n_bytes, const BurstOptions& options, const Clock& clock,
                     DeviceProfile& device) {
  constexpr uint64_t kLargest = static_cast<uint64_t>(kBurstBytes.back()) * kDepth;
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer memory, MemoryToRead(n_bytes, kLargest));
  const uint64_t n_places = (n_bytes - kLargest) / Reader::kBlockBytes;
  Rng rng(1);
  // All kinds in turns, so that a disk that is faster for a second is so for all of them.
  std::array<std::array<std::vector<double>, kBurstReads.size()>, kBurstBytes.size()> us;
  std::vector<double> first_share, kick_us, ask_us;
  for (int repeat = 0; repeat < options.n_repeats; ++repeat) {
    for (size_t size = 0; size < kBurstBytes.size(); ++size) {
      for (size_t count = 0; count < kBurstReads.size(); ++count) {
        std::this_thread::sleep_for(std::chrono::microseconds(options.pause_us));
        PANTRY_ASSIGN_OR_RETURN(const Burst burst, RunBurst(queue, n_places, kBurstBytes[size], kBurstReads[count],
                                                            memory.data(), rng, clock));
        us[size][count].push_back(std::max(burst.all_us, 1.0));
        kick_us.push_back(burst.kick_us);
        if (kBurstReads[count] > 1) ask_us.push_back(burst.ask_us);
        if (kBurstReads[count] >= 8) first_share.push_back(burst.first_us / us[size][count].back());
      }
    }
  }
  std::vector<DiskRate> flash;
  for (size_t size = 0; size < kBurstBytes.size(); ++size) {
    for (size_t count = 0; count < kBurstReads.size(); ++count) {
      const auto n_read = static_cast<double>(kBurstReads[count] * kBurstBytes[size]);
      flash.push_back({kBurstBytes[size], kBurstReads[count], 1e6 * n_read / Median(us[size][count]), 0});
    }
  }
  device.flash = std::move(flash);
  device.flash_share = 1;
  device.flash_depth = kDepth;
  device.flash_returns_together = Median(first_share) > kTogetherShare ? 1 : 0;
  device.read_cpu_us = Median(ask_us);
  device.kick_us = std::max(Median(kick_us) - device.read_cpu_us, 0.0);
  for (const char* field : {"flash", "flash_returns_together", "read_cpu_us", "kick_us"}) {
    device.sources[field] = "measured: bursts of reads, each read given out for itself";
  }
  device.sources["flash_share"] = "1: a burst was measured as a run makes it";
  return OkStatus();
}

Status MeasureBeside(DiskQueue& queue, uint64_t n_bytes, OneRowReading products, const BesideOptions& options,
                     const Clock& clock, DeviceProfile& device) {
  constexpr auto kReadBytes = static_cast<size_t>(kBesideBytes * kBesideReads);
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer memory, MemoryToRead(n_bytes, kReadBytes));
  BesideMeasurement measurement(queue, n_bytes, products, clock, memory.data());
  std::vector<double> computed, read, sustained, computed_beside, read_beside;
  for (int repeat = 0; repeat < options.n_repeats; ++repeat) {
    PANTRY_ASSIGN_OR_RETURN(const Phase of_products, measurement.Run(true, false, options.us));
    PANTRY_ASSIGN_OR_RETURN(const Phase of_reads, measurement.Run(false, true, options.us));
    PANTRY_ASSIGN_OR_RETURN(const double of_bursts, measurement.RunBursts(options.us));
    PANTRY_ASSIGN_OR_RETURN(const Phase both, measurement.Run(true, true, options.us));
    computed.push_back(of_products.products_per_s);
    read.push_back(of_reads.reads_per_s);
    sustained.push_back(of_reads.reads_per_s / of_bursts);
    computed_beside.push_back(both.products_per_s);
    read_beside.push_back(both.reads_per_s);
  }
  const double products_per_s = Median(computed);
  // Where products are faster than plain reading was, that was measured while others were at work.
  const double cores_per_s = std::max(device.Rates(device.n_cores, 0).memory_bytes_per_s, products_per_s);
  std::erase_if(device.dram_read_bytes_per_s, [&](const ThreadRate& rate) { return rate.n_threads >= device.n_cores; });
  device.dram_read_bytes_per_s.push_back({device.n_cores, cores_per_s});
  if (cores_per_s == products_per_s) device.sources["dram_read_bytes_per_s"] = "measured: products with one row";
  const auto share = [](double part, double of) { return of > 0 ? std::clamp(part / of, 0.05, 1.0) : 1; };
  device.memory_share = share(products_per_s, cores_per_s);
  // Of what bursts of as many brought in the same moments: the disk may have changed since `flash` was measured.
  const double burst_s = DiskSeconds(device.Rates(1, kBesideBytes), kBesideReads, kBesideBytes);
  device.flash_most_bytes_per_s = share(Median(sustained), 1) * kBesideReads * kBesideBytes / burst_s;
  device.flash_busy_share = share(Median(read_beside), Median(read));
  device.dram_bytes_per_s = std::max(Median(computed_beside) / device.memory_share + Median(read_beside), cores_per_s);
  device.sources["memory_share"] = "measured: products with one row";
  device.sources["flash_most_bytes_per_s"] = "measured: reads given out again as they end, beside bursts";
  device.sources["flash_busy_share"] = "measured: reads beside such products";
  device.sources["dram_bytes_per_s"] = "measured: such products beside reads";
  return OkStatus();
}

Status MeasureHostCosts(const HostCostsInput& input, ThreadPool& pool, DeviceProfile& device) {
  if (input.block_bytes.empty()) return InvalidArgumentError("the model has no blocks to measure with");
  const Reader* largest = input.files.front();
  for (const Reader* file : input.files) largest = file->size() > largest->size() ? file : largest;
  const std::array<const Reader*, 1> files = {largest};
  Result<std::unique_ptr<DiskQueue>> queue = OpenQueue(files);
  if (!queue.ok()) return queue.status();
  PANTRY_RETURN_IF_ERROR(MeasureFreshMemory(device));
  PANTRY_RETURN_IF_ERROR(MeasureBursts(**queue, largest->size(), {}, SteadyClock(), device));
  PANTRY_RETURN_IF_ERROR(MeasureBeside(**queue, largest->size(), input.products, {}, SteadyClock(), device));
  PANTRY_RETURN_IF_ERROR(MeasurePlacing(input, pool, device));
  MeasureSteps(input.products, device);
  MeasureRows(input.rows, device);
  MeasureWaking(pool, device);
  return device.Validate();
}

}  // namespace pantry
