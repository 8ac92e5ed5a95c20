// SPDX-License-Identifier: Apache-2.0
// A FaultyQueue is a DiskQueue whose disk fails, stops short and answers out of order, as a seed says.
//
// It wraps a real queue. What a failed or short transfer did not bring is overwritten, so that nobody can get along with stale bytes.
// Only corrupt_share gives wrong bytes with a good result: that is for tests of checksums. Nothing sleeps.
// Threads: as a DiskQueue.
#pragma once

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/rng.h"
#include "io/disk_queue.h"

namespace pantry {

struct DiskFaults {
  double error_share = 0;  // of the transfers: fail with error_number
  int error_number = EIO;  //
  double short_share = 0;  // end after some of their bytes, at least one
  double hold_share = 0;   // of the results, each time one could be told: is kept back, so that later ones overtake it
  double corrupt_share = 0;                           // of the transfers: one bit is wrong
  std::optional<uint64_t> bad_offset = std::nullopt;  // every transfer that covers this byte of file 0 fails
  uint64_t seed = 1;
};

class FaultyQueue final : public DiskQueue {
 public:
  FaultyQueue(std::unique_ptr<DiskQueue> inner, const DiskFaults& faults);

  std::string_view name() const override { return inner_->name(); }
  size_t alignment() const override { return inner_->alignment(); }
  int depth() const override { return inner_->depth(); }
  void Start(const Transfer& transfer) override;
  void Flush() override { inner_->Flush(); }
  size_t Wait(std::span<TransferEnd> out, int64_t timeout_us) override;

  int64_t n_faults() const { return n_faults_; }  // errors, short ends and wrong bits so far

 private:
  bool Happens(double share) { return rng_.NextDouble() < share; }
  TransferEnd Spoil(TransferEnd end);
  void CollectFromInner(int64_t timeout_us);

  const std::unique_ptr<DiskQueue> inner_;
  const DiskFaults faults_;
  Rng rng_;
  std::vector<Transfer> transfers_;  // by id
  std::vector<TransferEnd> ends_;    // from the inner queue
  std::vector<TransferEnd> held_;    // to be told
  int64_t n_inside_ = 0;             // under way in the inner queue
  int64_t n_faults_ = 0;
};

}  // namespace pantry
