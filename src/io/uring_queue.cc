// SPDX-License-Identifier: Apache-2.0
// The queue that io_uring makes: one system call hands over any number of transfers, and none is needed to see that some have ended.
//
// Without registered buffers and files, polling by the kernel or deferred task work. Registered buffers pin the cache, so that it could
// not shrink, and brought nothing that huge pages do not bring (README.md has the table); SINGLE_ISSUER would tie the queue to one thread,
// and with COOP_TASKRUN a thread that computes lets the one that waits wait.
#include <cerrno>
#include <ctime>
#include <utility>

#include "io/disk_queue.h"
#include "io/file_handles.h"
#include "sys/aligned_buffer.h"
#include "sys/posix_error.h"

#if defined(PANTRY_HAS_LIBURING)
#include <liburing.h>
#endif

namespace pantry {

#if defined(PANTRY_HAS_LIBURING)
namespace {

constexpr int64_t kRefusedPauseUs = 1000;  // until the kernel is asked again to take what it could not (no memory)

class UringQueue final : public DiskQueue {
 public:
  UringQueue(FileHandles files, int depth) : files_(std::move(files)), depth_(depth) {}
  ~UringQueue() override {
    // What the kernel has not taken it will not see; what it has taken is waited for.
    while (n_in_kernel_ > 0) {
      TransferEnd end;
      if (Take({&end, 1}) == 0) WaitInKernel(kForever);
    }
    if (is_made_) io_uring_queue_exit(&ring_);
  }
  UringQueue(const UringQueue&) = delete;
  UringQueue& operator=(const UringQueue&) = delete;

  // REQUIRES: first of all.
  Status MakeRing() {
    const int result = io_uring_queue_init(static_cast<unsigned>(depth_), &ring_, 0);
    if (result == -ENOSYS) return UnsupportedError("this kernel does not have it");
    if (result == -EPERM || result == -EACCES) {
      return UnsupportedError("it is forbidden here (by a container or kernel.io_uring_disabled)");
    }
    if (result < 0) return PosixError("io_uring_setup", -result);
    is_made_ = true;
    if ((ring_.features & IORING_FEAT_EXT_ARG) == 0) return UnsupportedError("it needs Linux 5.11 or later");
    return OkStatus();
  }

  std::string_view name() const override { return "io_uring"; }
  size_t alignment() const override { return Reader::kBlockBytes; }
  int depth() const override { return depth_; }

  void Start(const Transfer& transfer) override {
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
    PANTRY_CHECK(entry != nullptr);
    const int file = files_[transfer.file];
    if (transfer.to.size() == 1) {
      io_uring_prep_read(entry, file, transfer.to[0].iov_base, static_cast<unsigned>(transfer.to[0].iov_len),
                         transfer.offset);
    } else {
      io_uring_prep_readv(entry, file, transfer.to.data(), static_cast<unsigned>(transfer.to.size()), transfer.offset);
    }
    io_uring_sqe_set_data64(entry, transfer.id);
  }

  void Flush() override {
    while (io_uring_sq_ready(&ring_) > 0) {
      const int n = io_uring_submit(&ring_);
      if (n == -EINTR) continue;
      PANTRY_CHECK(n >= 0 || n == -EAGAIN || n == -EBUSY || n == -ENOMEM);
      if (n <= 0) return;  // the kernel is short of something: they stay in the ring, and the next call tries again
      n_in_kernel_ += n;
    }
  }

  size_t Wait(std::span<TransferEnd> out, int64_t timeout_us) override {
    Flush();
    const size_t n = Take(out);
    if (n > 0 || timeout_us == 0) return n;
    if (n_in_kernel_ > 0) WaitInKernel(timeout_us);
    else if (io_uring_sq_ready(&ring_) > 0) Pause();
    return Take(out);
  }

 private:
  size_t Take(std::span<TransferEnd> out) {
    size_t n = 0;
    io_uring_cqe* entry = nullptr;
    while (n < out.size() && io_uring_peek_cqe(&ring_, &entry) == 0) {
      out[n++] = {static_cast<uint32_t>(io_uring_cqe_get_data64(entry)), entry->res};
      io_uring_cqe_seen(&ring_, entry);
      --n_in_kernel_;
    }
    return n;
  }

  void WaitInKernel(int64_t timeout_us) {
    io_uring_cqe* entry = nullptr;
    __kernel_timespec time = {timeout_us / 1'000'000, timeout_us % 1'000'000 * 1000};
    const int result = io_uring_wait_cqe_timeout(&ring_, &entry, timeout_us < 0 ? nullptr : &time);
    PANTRY_CHECK(result == 0 || result == -ETIME || result == -EINTR || result == -EAGAIN || result == -EBUSY);
  }

  static void Pause() {
    const timespec time = {0, kRefusedPauseUs * 1000};
    (void)nanosleep(&time, nullptr);
  }

  const FileHandles files_;
  const int depth_;
  io_uring ring_ = {};
  bool is_made_ = false;
  int64_t n_in_kernel_ = 0;
};

// A sandbox may let a ring be made and yet refuse to read with it.
Status TryReading(UringQueue& queue, const Reader& file) {
  if (file.size() == 0) return OkStatus();
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer block, AlignedBuffer::Allocate(Reader::kBlockBytes));
  const iovec to = {block.data(), block.size()};
  queue.Start({0, 0, 0, {&to, 1}});
  TransferEnd end = {0, 0};
  while (queue.Wait({&end, 1}, DiskQueue::kForever) == 0) {
  }
  if (end.n_bytes >= 0) return OkStatus();
  return PosixError(fmt::format("{}: cannot be read with it", file.path()), static_cast<int>(-end.n_bytes));
}

}  // namespace

Result<std::unique_ptr<DiskQueue>> OpenUringQueue(std::span<const Reader* const> files, int depth) {
  PANTRY_ASSIGN_OR_RETURN(FileHandles handles, FileHandles::Open(files, FileHandles::Mode::kPastCache));
  auto queue = std::make_unique<UringQueue>(std::move(handles), depth);
  PANTRY_RETURN_IF_ERROR(queue->MakeRing());
  if (!files.empty()) PANTRY_RETURN_IF_ERROR(TryReading(*queue, *files[0]));
  return std::unique_ptr<DiskQueue>(std::move(queue));
}

#else

Result<std::unique_ptr<DiskQueue>> OpenUringQueue(std::span<const Reader* const>, int) {
  return UnsupportedError("this build does not have it (it was made without liburing)");
}

#endif

}  // namespace pantry
