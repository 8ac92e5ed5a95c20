// SPDX-License-Identifier: Apache-2.0
// A disk from which nothing can be read while `is_broken`.
#pragma once

#include <cerrno>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "io/disk_queue.h"

namespace pantry::testing {

class BreakableQueue final : public DiskQueue {
 public:
  BreakableQueue(std::unique_ptr<DiskQueue> inner, const bool& is_broken)
      : inner_(std::move(inner)), is_broken_(is_broken) {}
  std::string_view name() const override { return inner_->name(); }
  size_t alignment() const override { return inner_->alignment(); }
  int depth() const override { return inner_->depth(); }
  void Start(const Transfer& transfer) override { inner_->Start(transfer); }
  void Flush() override { inner_->Flush(); }
  size_t Wait(std::span<TransferEnd> out, int64_t timeout_us) override {
    const size_t n = inner_->Wait(out, timeout_us);
    for (size_t i = 0; i < n && is_broken_; ++i) out[i].n_bytes = -EIO;
    return n;
  }

 private:
  const std::unique_ptr<DiskQueue> inner_;
  const bool& is_broken_;
};

}  // namespace pantry::testing
