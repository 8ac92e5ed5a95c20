// SPDX-License-Identifier: Apache-2.0
// A SimulatedQueue is a DiskQueue on a disk that is three numbers and a clock that it moves itself.
//
// The disk serves one transfer after the other, each for max(us_per_transfer, bytes / bytes_per_s); the answer comes latency_us later, while
// the next is served. That gives a depth of 1 its low rate and a deep queue its limits of requests and of bytes. No cache below, no noise.
//   reads of n bytes alone:       latency_us + service        many at once:       service each
// Threads: as a DiskQueue. Waiting moves the clock; nothing sleeps.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"
#include "io/disk_queue.h"

namespace pantry {

class SimulatedClock final : public Clock {
 public:
  int64_t NowUs() const override { return now_us_; }
  void AdvanceTo(int64_t us) { now_us_ = us > now_us_ ? us : now_us_; }

 private:
  int64_t now_us_ = 0;
};

struct SimulatedDisk {
  int64_t latency_us = 60;
  int64_t us_per_transfer = 5;  // 200 000 requests/s
  double bytes_per_s = 2.5e9;
  int depth = 16;
};

class SimulatedQueue final : public DiskQueue {
 public:
  // With files their bytes are read when a transfer ends; they must outlive the queue, as must `clock`. Without, every transfer ends with
  // all that was asked, and memory stays as it is: slots in memory that was never touched cost nothing.
  SimulatedQueue(std::span<const Reader* const> files, const SimulatedDisk& disk, SimulatedClock& clock);

  std::string_view name() const override { return "simulated"; }
  size_t alignment() const override { return Reader::kBlockBytes; }
  int depth() const override { return disk_.depth; }
  void Start(const Transfer& transfer) override;
  void Flush() override {}
  size_t Wait(std::span<TransferEnd> out, int64_t timeout_us) override;

 private:
  struct Served {
    Transfer transfer;
    int64_t n_bytes;
    double end_us;
  };
  const std::vector<const Reader*> files_;
  const SimulatedDisk disk_;
  SimulatedClock& clock_;
  double free_at_us_ = 0;       // when the disk could serve another
  std::vector<Served> served_;  // in the order of Start(), which is that of their ends
};

}  // namespace pantry
