// SPDX-License-Identifier: Apache-2.0
// The queue over any Reader, one transfer after the other in Wait(): for bytes in memory, and what every other queue is compared with.
#include <algorithm>
#include <cerrno>
#include <vector>

#include "io/disk_queue.h"

namespace pantry {

int64_t ReadTransfer(const Reader& file, const Transfer& transfer) {
  uint64_t at = transfer.offset;
  for (const iovec& to : transfer.to) {
    if (at >= file.size()) break;
    const size_t n = static_cast<size_t>(std::min<uint64_t>(to.iov_len, file.size() - at));
    if (!file.ReadAt(at, {static_cast<uint8_t*>(to.iov_base), n}).ok()) return -EIO;
    at += n;
  }
  return static_cast<int64_t>(at - transfer.offset);
}

namespace {

class ReaderQueue final : public DiskQueue {
 public:
  ReaderQueue(std::span<const Reader* const> files, int depth) : files_(files.begin(), files.end()), depth_(depth) {
    waiting_.reserve(static_cast<size_t>(depth));
  }

  std::string_view name() const override { return "reader"; }
  size_t alignment() const override { return 1; }
  int depth() const override { return depth_; }
  void Start(const Transfer& transfer) override { waiting_.push_back(transfer); }
  void Flush() override {}
  size_t Wait(std::span<TransferEnd> out, int64_t) override {
    const size_t n = std::min(out.size(), waiting_.size());
    for (size_t i = 0; i < n; ++i) {
      out[i] = {waiting_[i].id, ReadTransfer(*files_[static_cast<size_t>(waiting_[i].file)], waiting_[i])};
    }
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(n));
    return n;
  }

 private:
  const std::vector<const Reader*> files_;
  const int depth_;
  std::vector<Transfer> waiting_;
};

}  // namespace

Result<std::unique_ptr<DiskQueue>> OpenReaderQueue(std::span<const Reader* const> files, int depth) {
  return std::unique_ptr<DiskQueue>(std::make_unique<ReaderQueue>(files, depth));
}

}  // namespace pantry
