// SPDX-License-Identifier: Apache-2.0
// A FaultyReader is a Reader whose disk fails where and when a test says so.
//
// It wraps a real reader and injects EIO by call number, by byte, or at random from a seed. Delays are counted, never
// slept, so that a test can say how long a run would have waited. It never changes data and never lets a failed call
// write to the caller's buffer.
// Threads: any; with several threads the numbering of calls is the order in which they arrive.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/rng.h"
#include "io/reader.h"

namespace pantry {

struct FaultPlan {
  std::optional<int64_t> fail_call = std::nullopt;     // the n-th read fails, counted from 0
  std::optional<uint64_t> fail_offset = std::nullopt;  // every read that covers this byte fails
  double fail_share = 0;                               // each read fails with this probability
  uint64_t seed = 1;                                   // of fail_share
  int64_t delay_us = 0;                                // that each read would take
};

class FaultyReader final : public Reader {
 public:
  FaultyReader(std::unique_ptr<Reader> inner, const FaultPlan& plan);

  const std::string& path() const override { return inner_->path(); }
  uint64_t size() const override { return inner_->size(); }
  Status ReadAt(uint64_t offset, std::span<uint8_t> out) const override;  // kIoError "PATH: injected fault ..."
  Result<const uint8_t*> ReadPastCache(uint64_t offset, size_t n_bytes, std::span<uint8_t> slot) const override;
  bool InPageCache(uint64_t offset, uint64_t n_bytes) const override { return inner_->InPageCache(offset, n_bytes); }
  void WillRead(uint64_t offset, uint64_t n_bytes) const override { inner_->WillRead(offset, n_bytes); }
  void DoneWith(uint64_t offset, uint64_t n_bytes) const override { inner_->DoneWith(offset, n_bytes); }

  int64_t n_calls() const;
  int64_t n_faults() const;
  int64_t n_bytes() const;   // handed out
  int64_t delay_us() const;  // that would have been slept

 private:
  Status Admit(uint64_t offset, uint64_t n_bytes) const;   // counts a call, and fails it where the plan says so
  bool FailsNow(uint64_t offset, uint64_t n_bytes) const;  // REQUIRES: mutex_ held

  const std::unique_ptr<Reader> inner_;
  const FaultPlan plan_;
  mutable std::mutex mutex_;
  mutable Rng rng_;
  mutable int64_t n_calls_ = 0;
  mutable int64_t n_faults_ = 0;
  mutable int64_t n_bytes_ = 0;
};

}  // namespace pantry
