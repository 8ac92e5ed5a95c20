// SPDX-License-Identifier: Apache-2.0
// A ScriptedQueue is a DiskQueue for tests, which says what was started and ends each transfer as told.
//
// Threads: as a DiskQueue.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "io/disk_queue.h"

namespace pantry::testing {

class ScriptedQueue final : public DiskQueue {
 public:
  struct Started {
    Transfer transfer;
    std::vector<size_t> lengths;  // of its pieces
    size_t n_bytes;
  };

  ScriptedQueue(int depth, size_t alignment) : depth_(depth), alignment_(alignment) {}

  std::string_view name() const override { return "scripted"; }
  size_t alignment() const override { return alignment_; }
  int depth() const override { return depth_; }
  void Start(const Transfer& transfer) override {
    PANTRY_CHECK(n_under_way() < static_cast<size_t>(depth_) && transfer.id < static_cast<uint32_t>(depth_));
    Started started = {transfer, {}, 0};
    for (const iovec& to : transfer.to) {
      PANTRY_CHECK(to.iov_len > 0 && reinterpret_cast<uintptr_t>(to.iov_base) % alignment_ == 0);
      started.lengths.push_back(to.iov_len);
      started.n_bytes += to.iov_len;
    }
    PANTRY_CHECK(transfer.offset % alignment_ == 0 && started.n_bytes % alignment_ == 0);
    under_way.push_back(std::move(started));
    most_under_way = std::max(most_under_way, n_under_way());
    ++n_started;
  }
  void Flush() override {}
  size_t Wait(std::span<TransferEnd> out, int64_t) override {
    size_t n = 0;
    for (; n < out.size() && !ended_.empty(); ended_.pop_front()) out[n++] = ended_.front();
    return n;
  }

  // Ends the i-th of `under_way`: with all that was asked, or with `n_bytes`. It fills memory with the low byte of each block's number.
  void End(size_t i) { End(i, static_cast<int64_t>(under_way[i].n_bytes)); }
  void End(size_t i, int64_t n_bytes) {
    const Transfer transfer = under_way[i].transfer;
    uint64_t at = transfer.offset;
    for (const iovec& to : transfer.to) {
      for (size_t k = 0; k < to.iov_len && static_cast<int64_t>(at - transfer.offset) < n_bytes; ++k, ++at) {
        static_cast<uint8_t*>(to.iov_base)[k] = ByteAt(at);
      }
    }
    ended_.push_back({transfer.id, n_bytes});
    under_way.erase(under_way.begin() + static_cast<std::ptrdiff_t>(i));
  }
  void EndAll() {
    while (!under_way.empty()) End(0);
  }
  static uint8_t ByteAt(uint64_t offset) { return static_cast<uint8_t>(offset / Reader::kBlockBytes + offset % 251); }

  std::vector<Started> under_way;
  size_t most_under_way = 0;
  int n_started = 0;

 private:
  size_t n_under_way() const { return under_way.size() + ended_.size(); }

  const int depth_;
  const size_t alignment_;
  std::deque<TransferEnd> ended_;
};

// A reader of `size` bytes that must not be read: for those who only ask how large it is.
class SizeOnlyReader final : public Reader {
 public:
  SizeOnlyReader(std::string path, uint64_t size) : path_(std::move(path)), size_(size) {}
  const std::string& path() const override { return path_; }
  uint64_t size() const override { return size_; }
  Status ReadAt(uint64_t, std::span<uint8_t>) const override { return InternalError("{}: was read", path_); }

 private:
  const std::string path_;
  const uint64_t size_;
};

}  // namespace pantry::testing
