// SPDX-License-Identifier: Apache-2.0
// A FlashQueue is a DiskQueue on a table of rates by block size and queue depth, and a Machine whose clock it moves.
//
// SimulatedQueue (io/simulated_queue.h) is a disk of three numbers; this one gives, at every point of the table, the rate that was measured
// there (times DeviceProfile::flash_share), or DeviceProfile::flash_most_bytes_per_s where that is less. Transfers are served one after the
// other; with n under way, each takes what 1/n of n reads together takes (policy/planner's DiskSeconds(), which interpolates), but none is back sooner than a single one would be:
//
//   served until   max(end of the one before, its start) + DiskSeconds(n) / n      n: the most that were under way in its time
//   back           max(that, its start + DiskSeconds(1))
//
// Where DeviceProfile::flash_returns_together, the k-th transfer since the flash had nothing to do takes DiskSeconds(k) - DiskSeconds(k - 1),
// and all of them are back when the last is served that was asked for until then: who asks for more, waits longer for what he has asked for.
//
// All this by a clock that goes slower while the cores compute (DeviceProfile::flash_busy_share).
// A transfer costs DeviceProfile::read_cpu_us of the thread that asks, and kick_us the first one. Nothing is read; memory stays untouched.
// Threads: as a DiskQueue. Waiting moves the clock; nothing sleeps.
#pragma once

#include <map>
#include <vector>

#include "io/disk_queue.h"
#include "sim/machine.h"

namespace pantry {

class FlashQueue final : public DiskQueue, public MemoryUser {
 public:
  // Both must outlive the queue. REQUIRES: device.flash is not empty. depth: at most so many under way; 0: the device's own.
  FlashQueue(const DeviceProfile& device, Machine& machine, int depth = 0);

  std::string_view name() const override { return "simulated flash"; }
  size_t alignment() const override { return Reader::kBlockBytes; }
  int depth() const override { return depth_; }
  void Start(const Transfer& transfer) override;
  void Flush() override {}
  size_t Wait(std::span<TransferEnd> out, int64_t timeout_us) override;

  double bytes_per_s(double now_us) const override;
  double until_us(double now_us) const override;

  double busy_us() const { return busy_us_; }  // with a transfer being served, of those that have come back
  // Of n reads of n_bytes each that are given out together.
  double SecondsOf(double n, int64_t n_bytes) const;

 private:
  struct UnderWay {
    uint32_t id;
    int64_t n_bytes;
    double start_us;
    int most;               // under way in its time
    double served_us = -1;  // until then; -1: its turn has not ended yet
  };
  double now_us() const { return machine_.now_us() - (1 - device_.flash_busy_share) * machine_.computing_us(); }
  double MachineUs(double us) const;
  bool returns_together() const { return device_.flash_returns_together != 0; }
  void StartTogether(UnderWay& transfer);
  double ServedUs(const UnderWay& transfer, double free_us) const;
  double BackUs(const UnderWay& transfer) const;
  void Settle();

  const DeviceProfile& device_;
  Machine& machine_;
  const int depth_;
  mutable std::map<int64_t, MachineRates> rates_;  // by bytes of a transfer, as they occur
  std::vector<UnderWay> under_way_;                // in the order of Start()
  double free_us_ = 0;                             // the last one whose turn has ended was served until then
  double changed_us_ = 0;                          // when `most` rose last
  double busy_us_ = 0;
  int n_together_ = 0;      // served since the flash had nothing to do
  double together_us_ = 0;  // until then it has something
  double together_bytes_per_s_ = 0;
};

}  // namespace pantry
