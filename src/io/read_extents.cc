// SPDX-License-Identifier: Apache-2.0
#include "io/read_extents.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "sys/aligned_buffer.h"

namespace pantry {
namespace {

constexpr auto kProgressEvery = std::chrono::milliseconds(50);  // and so soon a wish to cancel is heard

// Whether extents are read past the page cache, by the best rate that the disk has shown: bytes per time with a read in flight. The best
// of some windows, because on a crowded machine a read that is done waits for a core.
class DiskJudge {
  static constexpr int kWindows = 4;

 public:
  DiskJudge(PageCacheUse use, const Clock& clock) : use_(use), clock_(clock) {}

  bool ReadsPastCache() const { return !is_slow_.load(std::memory_order_relaxed); }

  void BeginRead() {
    const std::lock_guard lock(mutex_);
    if (n_in_flight_++ == 0) busy_since_us_ = clock_.NowUs();
  }

  void EndRead(uint64_t n_bytes) {
    const std::lock_guard lock(mutex_);
    const int64_t now_us = clock_.NowUs();
    busy_us_ += now_us - busy_since_us_;
    busy_since_us_ = now_us;
    --n_in_flight_;
    window_bytes_ += n_bytes;
    if (judged_ || window_bytes_ < kJudgedBytes / kWindows) return;
    is_fast_ |= 1e6 * static_cast<double>(window_bytes_) >=
                static_cast<double>(kSlowDiskBytesPerS) * static_cast<double>(busy_us_);
    judged_ = is_fast_ || ++n_windows_ == kWindows;
    is_slow_ = judged_ && !is_fast_ && use_ == PageCacheUse::kForSlowDisks;
    window_bytes_ = 0;
    busy_us_ = 0;
  }

 private:
  const PageCacheUse use_;
  const Clock& clock_;
  std::atomic<bool> is_slow_ = false;
  std::mutex mutex_;  // guards all below
  int n_in_flight_ = 0;
  int64_t busy_since_us_ = 0;
  int64_t busy_us_ = 0;  // of this window
  uint64_t window_bytes_ = 0;
  int n_windows_ = 0;
  bool is_fast_ = false;
  bool judged_ = false;
};

class Lanes {
 public:
  Lanes(std::span<const Extent> extents, PageCacheUse page_cache, const Clock& clock, const ConsumeExtent& consume)
      : extents_(extents), page_cache_(page_cache), consume_(consume), disk_(page_cache, clock) {}

  // Runs until every extent is consumed, one failed, or progress() was false; whether it was not.
  bool Run(size_t n_lanes, AlignedBuffer& slots, const ReadProgress& progress) {
    const size_t slot_bytes = slots.size() / n_lanes;
    std::vector<std::thread> threads;
    threads.reserve(n_lanes);
    n_running_ = n_lanes;
    for (size_t lane = 0; lane < n_lanes; ++lane) {
      const std::span<uint8_t> slot(slots.data() + lane * slot_bytes, slot_bytes);
      try {
        threads.emplace_back([this, slot] { RunLane(slot); });
      } catch (const std::system_error&) {  // a limit on processes: those that started do the work, or this one
        const std::lock_guard lock(mutex_);
        n_running_ -= n_lanes - lane;
        break;
      }
    }
    if (threads.empty()) {
      n_running_ = 1;
      RunLane({slots.data(), slot_bytes});
    }
    const bool goes_on = Watch(progress);
    for (std::thread& thread : threads) thread.join();
    return goes_on;
  }

  const std::optional<size_t>& failed() const { return failed_; }
  const Status& status() const { return status_; }

 private:
  void RunLane(std::span<uint8_t> slot) {
    // A claimed extent is always read, so that the first error does not depend on who was faster.
    while (!stop_.load(std::memory_order_relaxed)) {
      const size_t index = next_.fetch_add(1, std::memory_order_relaxed);
      if (index >= extents_.size()) break;
      Status status = ReadOne(index, slot);
      if (status.ok()) n_bytes_.fetch_add(extents_[index].n_bytes, std::memory_order_relaxed);
      else Fail(index, std::move(status));
    }
    const std::lock_guard lock(mutex_);
    if (--n_running_ == 0) finished_.notify_one();
  }

  Status ReadOne(size_t index, std::span<uint8_t> slot) {
    const Extent& extent = extents_[index];
    const Reader& reader = *extent.reader;
    const bool cached = reader.InPageCache(extent.offset, extent.n_bytes);
    if (!cached && disk_.ReadsPastCache()) {
      disk_.BeginRead();
      const Result<const uint8_t*> bytes = reader.ReadPastCache(extent.offset, extent.n_bytes, slot);
      disk_.EndRead(extent.n_bytes);
      PANTRY_RETURN_IF_ERROR(bytes.status());
      PANTRY_RETURN_IF_ERROR(consume_(index, *bytes));
    } else {
      if (!cached) reader.WillRead(extent.offset, extent.n_bytes);
      PANTRY_RETURN_IF_ERROR(reader.ReadAt(extent.offset, slot.first(extent.n_bytes)));
      PANTRY_RETURN_IF_ERROR(consume_(index, slot.data()));
    }
    if (page_cache_ == PageCacheUse::kNever) reader.DoneWith(extent.offset, extent.n_bytes);
    return OkStatus();
  }

  void Fail(size_t index, Status status) {
    stop_.store(true, std::memory_order_relaxed);
    const std::lock_guard lock(mutex_);
    if (failed_.has_value() && *failed_ < index) return;
    failed_ = index;
    status_ = std::move(status);
  }

  bool Watch(const ReadProgress& progress) {
    const auto report = [&] { return !progress || progress(n_bytes_.load(std::memory_order_relaxed)); };
    std::unique_lock lock(mutex_);
    while (!finished_.wait_for(lock, kProgressEvery, [this] { return n_running_ == 0; })) {
      lock.unlock();
      if (!report()) {
        stop_.store(true, std::memory_order_relaxed);
        return false;
      }
      lock.lock();
    }
    return failed_.has_value() || report();
  }

  const std::span<const Extent> extents_;
  const PageCacheUse page_cache_;
  const ConsumeExtent& consume_;
  DiskJudge disk_;
  std::atomic<size_t> next_ = 0;
  std::atomic<uint64_t> n_bytes_ = 0;
  std::atomic<bool> stop_ = false;
  std::mutex mutex_;  // guards all below; after Run() nobody else is there
  std::condition_variable finished_;
  size_t n_running_ = 0;
  std::optional<size_t> failed_;
  Status status_;
};

}  // namespace

Status ReadExtents(std::span<const Extent> extents, const ReadExtentsOptions& options, const ConsumeExtent& consume,
                   const ReadProgress& progress, size_t* failed) {
  PANTRY_CHECK(options.n_lanes >= 1);
  size_t slot_bytes = Reader::kBlockBytes;
  for (const Extent& extent : extents) slot_bytes = std::max(slot_bytes, Reader::SlotBytes(extent.n_bytes));
  const size_t n_lanes = std::clamp(extents.size(), size_t{1}, static_cast<size_t>(options.n_lanes));
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer slots, AlignedBuffer::Allocate(n_lanes * slot_bytes));

  const SteadyClock steady_clock;
  Lanes lanes(extents, options.page_cache, options.clock != nullptr ? *options.clock : steady_clock, consume);
  const bool goes_on = lanes.Run(n_lanes, slots, progress);
  if (lanes.failed().has_value()) {
    *failed = *lanes.failed();
    return lanes.status();
  }
  return goes_on ? OkStatus() : CancelledError("reading was cancelled");
}

}  // namespace pantry
