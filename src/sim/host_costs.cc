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

constexpr size_t kPiecesAtOnce = 48;        // as many as a stream has slots for
constexpr int64_t kBusyBytes = 384 * kKiB;  // a piece of an expert
constexpr int32_t kBusyReads = 8;
constexpr int kBusyRepeats = 15;

constexpr int kPlaceRepeats = 20;
constexpr size_t kFlushedBytes = 64 * kMiB;  // more than caches hold
constexpr size_t kFreshBytes = 256 * kMiB;
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
  for (int32_t n_done = 0; n_done < n_reads;) {
    const size_t n = queue.Wait(ends, DiskQueue::kForever);
    for (const TransferEnd& end : std::span(ends).first(n)) {
      if (end.n_bytes != n_bytes) return IoError("a read of {} bytes gave {}", n_bytes, end.n_bytes);
    }
    const auto now_us = static_cast<double>(clock.NowUs() - begin_us);
    if (n > 0 && n_done == 0) burst.first_us = now_us;
    n_done += static_cast<int32_t>(n);
    burst.all_us = now_us;
  }
  return burst;
}

// Reads memory on its own threads as long as it lives.
class MemoryReaders {
 public:
  MemoryReaders(int n_threads, std::span<const uint64_t> memory) {
    for (int i = 0; i < n_threads; ++i) threads_.emplace_back([this, memory] { Read(memory); });
  }
  ~MemoryReaders() {
    is_over_ = true;
    for (std::thread& thread : threads_) thread.join();
  }
  MemoryReaders(const MemoryReaders&) = delete;
  MemoryReaders& operator=(const MemoryReaders&) = delete;

 private:
  static constexpr size_t kAtOnce = 1 << 19;
  void Read(std::span<const uint64_t> memory) {
    for (size_t at = 0; !is_over_; at = (at + kAtOnce) % memory.size()) {
      const auto part = memory.subspan(at, std::min(kAtOnce, memory.size() - at));
      sum_ += std::accumulate(part.begin(), part.end(), uint64_t{0});
    }
  }

  std::atomic<bool> is_over_ = false;
  std::atomic<uint64_t> sum_ = 0;  // that somebody wants it
  std::vector<std::thread> threads_;
};

// As a layer of experts: the same bursts alone and beside readers, in turns.
Status MeasureBusyShare(DiskQueue& queue, uint64_t n_bytes, int n_readers, DeviceProfile& device) {
  const uint64_t burst_bytes = static_cast<uint64_t>(kBusyBytes) * kBusyReads;
  if (n_readers < 1) return OkStatus();
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer memory, AlignedBuffer::Allocate(burst_bytes));
  std::fill_n(memory.data(), burst_bytes, uint8_t{1});
  const std::vector<uint64_t> others(kFlushedBytes / sizeof(uint64_t), 1);
  const SteadyClock clock;
  const uint64_t n_places = (n_bytes - burst_bytes) / Reader::kBlockBytes;
  Rng rng(2);
  std::vector<double> alone_us, busy_us;
  for (int repeat = 0; repeat < kBusyRepeats; ++repeat) {
    for (const bool is_busy : {false, true}) {
      const MemoryReaders readers(is_busy ? n_readers : 0, others);
      std::this_thread::sleep_for(kPause);
      PANTRY_ASSIGN_OR_RETURN(const Burst burst,
                              RunBurst(queue, n_places, kBusyBytes, kBusyReads, memory.data(), rng, clock));
      (is_busy ? busy_us : alone_us).push_back(burst.all_us);
    }
  }
  device.flash_busy_share = std::clamp(Median(alone_us) / Median(busy_us), 0.05, 1.0);
  device.sources["flash_busy_share"] = "measured: a burst beside threads that read memory";
  return OkStatus();
}

// Pieces of blocks of the model, one after the other, as they lie in its files.
struct PieceOf {
  BlockId block;
  int piece = 0;
  const uint8_t* bytes = nullptr;
  uint8_t* memory = nullptr;  // the block's
  size_t n_bytes = 0;
};

Status MeasurePlacing(const HostCostsInput& input, ThreadPool& pool, DeviceProfile& device) {
  const size_t slot_bytes = Reader::SlotBytes(input.placer.max_piece_bytes());
  const auto rounded = [](int64_t n) { return static_cast<size_t>(BlockCache::SlotBytes(n)); };
  std::vector<PieceOf> pieces;
  size_t memory_bytes = 0;
  for (uint32_t b = 0; b < input.block_bytes.size() && pieces.size() < kPiecesAtOnce; ++b) {
    const BlockId block(b);
    for (int p = 0; p < input.placer.n_pieces(block); ++p) {
      pieces.push_back({block, p, nullptr, nullptr, input.placer.Piece(block, p).n_bytes});
    }
    memory_bytes += rounded(input.block_bytes[b]);
  }
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer staging, AlignedBuffer::Allocate(pieces.size() * slot_bytes));
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer blocks, AlignedBuffer::Allocate(memory_bytes));
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer others, AlignedBuffer::Allocate(kFlushedBytes));
  size_t at = 0;
  double n_bytes = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    PieceOf& piece = pieces[i];
    if (i > 0 && piece.block != pieces[i - 1].block) at += rounded(input.block_bytes[pieces[i - 1].block.value()]);
    piece.memory = blocks.data() + at;
    piece.bytes = staging.data() + i * slot_bytes;
    const BlockPiece where = input.placer.Piece(piece.block, piece.piece);
    PANTRY_RETURN_IF_ERROR(input.files[static_cast<size_t>(where.file)]->ReadAt(
        where.offset, {staging.data() + i * slot_bytes, where.n_bytes}));
    n_bytes += static_cast<double>(where.n_bytes);
  }
  std::vector<double> seconds;
  std::vector<Status> results(pieces.size());
  for (int repeat = 0; repeat <= kPlaceRepeats; ++repeat) {
    std::fill_n(others.data(), kFlushedBytes, static_cast<uint8_t>(repeat));
    const auto begin = std::chrono::steady_clock::now();
    pool.ParallelFor(static_cast<int64_t>(pieces.size()), [&](int64_t i, int) {
      const PieceOf& piece = pieces[static_cast<size_t>(i)];
      results[static_cast<size_t>(i)] = input.placer.Place(piece.block, piece.piece, piece.bytes, piece.memory);
    });
    if (repeat > 0) seconds.push_back(SecondsSince(begin));  // the first one touches the memory
    for (const Status& status : results) PANTRY_RETURN_IF_ERROR(status);
  }
  const double rate = n_bytes / LowerQuartile(seconds) / pool.n_threads();
  (input.places_blocks ? device.place_bytes_per_s : device.copy_bytes_per_s) = rate;
  device.sources[input.places_blocks ? "place_bytes_per_s" : "copy_bytes_per_s"] = "measured: blocks of the model";
  return OkStatus();
}

Status MeasureFreshMemory(DeviceProfile& device) {
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer fresh, AlignedBuffer::Allocate(kFreshBytes));
  const auto begin = std::chrono::steady_clock::now();
  AlignedBuffer::Touch(fresh.As<uint8_t>());
  device.fresh_bytes_per_s = static_cast<double>(kFreshBytes) / SecondsSince(begin);
  device.sources["fresh_bytes_per_s"] = "measured: memory that was free";
  return OkStatus();
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
  const uint64_t largest = static_cast<uint64_t>(kBurstBytes.back()) * kDepth;
  if (n_bytes < 2 * largest) {
    return InvalidArgumentError("a file of {} is too small to measure with, it takes {}",
                                FormatBytes(static_cast<int64_t>(n_bytes)),
                                FormatBytes(static_cast<int64_t>(2 * largest)));
  }
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer memory, AlignedBuffer::Allocate(largest));
  std::fill_n(memory.data(), largest, uint8_t{1});  // touched
  const uint64_t n_places = (n_bytes - largest) / Reader::kBlockBytes;
  Rng rng(1);
  std::vector<DiskRate> flash;
  std::vector<double> first_share, kick_us, ask_us;
  for (const int64_t block_bytes : kBurstBytes) {
    for (const int32_t n_reads : kBurstReads) {
      std::vector<double> us;
      for (int repeat = 0; repeat < options.n_repeats; ++repeat) {
        std::this_thread::sleep_for(std::chrono::microseconds(options.pause_us));
        PANTRY_ASSIGN_OR_RETURN(const Burst burst,
                                RunBurst(queue, n_places, block_bytes, n_reads, memory.data(), rng, clock));
        us.push_back(std::max(burst.all_us, 1.0));
        kick_us.push_back(burst.kick_us);
        if (n_reads > 1) ask_us.push_back(burst.ask_us);
        if (n_reads >= 8) first_share.push_back(burst.first_us / us.back());
      }
      flash.push_back({block_bytes, n_reads, 1e6 * static_cast<double>(n_reads * block_bytes) / Median(us), 0});
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

Status MeasureHostCosts(const HostCostsInput& input, ThreadPool& pool, DeviceProfile& device) {
  if (input.block_bytes.empty()) return InvalidArgumentError("the model has no blocks to measure with");
  const Reader* largest = input.files.front();
  for (const Reader* file : input.files) largest = file->size() > largest->size() ? file : largest;
  const std::array<const Reader*, 1> files = {largest};
  Result<std::unique_ptr<DiskQueue>> queue = OpenUringQueue(files, kDepth);
  if (!queue.ok()) queue = OpenPreadQueue(files, kDepth);
  if (!queue.ok()) return queue.status();
  PANTRY_RETURN_IF_ERROR(MeasureFreshMemory(device));
  PANTRY_RETURN_IF_ERROR(MeasureBursts(**queue, largest->size(), {}, SteadyClock(), device));
  PANTRY_RETURN_IF_ERROR(MeasureBusyShare(**queue, largest->size(), pool.n_threads() - 1, device));
  PANTRY_RETURN_IF_ERROR(MeasurePlacing(input, pool, device));
  MeasureWaking(pool, device);
  return device.Validate();
}

}  // namespace pantry
