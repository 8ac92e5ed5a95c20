// SPDX-License-Identifier: Apache-2.0
// The queue that threads make which sleep in pread(2), one for each transfer under way: where io_uring is refused, and for the page cache.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "io/disk_queue.h"
#include "io/file_handles.h"

namespace pantry {
namespace {

// A queue of fixed capacity.
template <typename T>
class Ring {
 public:
  explicit Ring(size_t capacity) : items_(capacity) {}
  bool empty() const { return n_ == 0; }
  void Push(const T& item) {
    PANTRY_CHECK(n_ < items_.size());
    items_[(first_ + n_++) % items_.size()] = item;
  }
  T Pop() {
    const T item = items_[first_];
    first_ = (first_ + 1) % items_.size();
    --n_;
    return item;
  }

 private:
  std::vector<T> items_;
  size_t first_ = 0;
  size_t n_ = 0;
};

class PreadQueue final : public DiskQueue {
 public:
  PreadQueue(FileHandles files, FileHandles::Mode mode, int depth)
      : files_(std::move(files)),
        mode_(mode),
        waiting_(static_cast<size_t>(depth)),
        ended_(static_cast<size_t>(depth)) {
    threads_.reserve(static_cast<size_t>(depth));
    try {
      for (int i = 0; i < depth; ++i) threads_.emplace_back([this] { Work(); });
    } catch (const std::system_error&) {  // a limit on threads: those that started make a smaller depth
    }
  }
  // Transfers that no thread has begun are forgotten.
  ~PreadQueue() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  PreadQueue(const PreadQueue&) = delete;
  PreadQueue& operator=(const PreadQueue&) = delete;

  std::string_view name() const override { return mode_ == FileHandles::Mode::kPastCache ? "pread" : "page-cache"; }
  size_t alignment() const override { return mode_ == FileHandles::Mode::kPastCache ? Reader::kBlockBytes : 1; }
  int depth() const override { return static_cast<int>(threads_.size()); }

  void Start(const Transfer& transfer) override {
    {
      const std::lock_guard lock(mutex_);
      waiting_.Push(transfer);
      ++n_under_way_;
    }
    work_.notify_one();
  }
  void Flush() override {}

  size_t Wait(std::span<TransferEnd> out, int64_t timeout_us) override {
    std::unique_lock lock(mutex_);
    const auto can_go = [this] { return !ended_.empty() || n_under_way_ == 0; };
    if (timeout_us < 0) some_ended_.wait(lock, can_go);
    else if (timeout_us > 0) some_ended_.wait_for(lock, std::chrono::microseconds(timeout_us), can_go);
    size_t n = 0;
    while (n < out.size() && !ended_.empty()) out[n++] = ended_.Pop();
    n_under_way_ -= static_cast<int64_t>(n);
    return n;
  }

 private:
  void Work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      work_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
      if (stop_) return;
      const Transfer transfer = waiting_.Pop();
      lock.unlock();
      const ssize_t n = preadv(files_[transfer.file], transfer.to.data(), static_cast<int>(transfer.to.size()),
                               static_cast<off_t>(transfer.offset));
      const int64_t result = n < 0 ? -errno : n;
      lock.lock();
      ended_.Push({transfer.id, result});
      some_ended_.notify_one();
    }
  }

  const FileHandles files_;
  const FileHandles::Mode mode_;
  std::mutex mutex_;  // guards all below but the threads
  std::condition_variable work_;
  std::condition_variable some_ended_;
  Ring<Transfer> waiting_;
  Ring<TransferEnd> ended_;
  int64_t n_under_way_ = 0;  // started and not yet handed out
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

Result<std::unique_ptr<DiskQueue>> Open(std::span<const Reader* const> files, FileHandles::Mode mode, int depth) {
  PANTRY_ASSIGN_OR_RETURN(FileHandles handles, FileHandles::Open(files, mode));
  auto queue = std::make_unique<PreadQueue>(std::move(handles), mode, depth);
  if (queue->depth() == 0) return UnsupportedError("no thread for reading can be started");
  return std::unique_ptr<DiskQueue>(std::move(queue));
}

}  // namespace

Result<std::unique_ptr<DiskQueue>> OpenPreadQueue(std::span<const Reader* const> files, int depth) {
  return Open(files, FileHandles::Mode::kPastCache, depth);
}
Result<std::unique_ptr<DiskQueue>> OpenPageCacheQueue(std::span<const Reader* const> files, int depth) {
  return Open(files, FileHandles::Mode::kThroughCache, depth);
}

}  // namespace pantry
