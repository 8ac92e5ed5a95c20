// SPDX-License-Identifier: Apache-2.0
#include "io/faulty_queue.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace pantry {
namespace {

constexpr int kGarbage = 0xEE;

size_t LengthOf(const Transfer& transfer) {
  size_t n_bytes = 0;
  for (const iovec& to : transfer.to) n_bytes += to.iov_len;
  return n_bytes;
}

// All from byte `begin` of the transfer on.
void Overwrite(const Transfer& transfer, size_t begin) {
  for (const iovec& to : transfer.to) {
    const size_t skipped = std::min(begin, to.iov_len);
    std::memset(static_cast<uint8_t*>(to.iov_base) + skipped, kGarbage, to.iov_len - skipped);
    begin -= skipped;
  }
}

void FlipBit(const Transfer& transfer, size_t bit) {
  for (const iovec& to : transfer.to) {
    if (bit / 8 < to.iov_len) {
      static_cast<uint8_t*>(to.iov_base)[bit / 8] ^= static_cast<uint8_t>(1U << bit % 8);
      return;
    }
    bit -= to.iov_len * 8;
  }
}

}  // namespace

FaultyQueue::FaultyQueue(std::unique_ptr<DiskQueue> inner, const DiskFaults& faults)
    : inner_(std::move(inner)),
      faults_(faults),
      rng_(faults.seed),
      transfers_(static_cast<size_t>(inner_->depth())),
      ends_(transfers_.size()) {
  held_.reserve(transfers_.size());
}

void FaultyQueue::Start(const Transfer& transfer) {
  transfers_[transfer.id] = transfer;
  ++n_inside_;
  inner_->Start(transfer);
}

TransferEnd FaultyQueue::Spoil(TransferEnd end) {
  const Transfer& transfer = transfers_[end.id];
  const bool fails = Happens(faults_.error_share);
  const bool is_short = Happens(faults_.short_share);
  const bool is_wrong = Happens(faults_.corrupt_share);
  const uint64_t draw = rng_.NextU64();
  if (end.n_bytes <= 0) return end;
  const auto n_bytes = static_cast<uint64_t>(end.n_bytes);
  const bool is_bad = faults_.bad_offset && transfer.file == 0 && *faults_.bad_offset >= transfer.offset &&
                      *faults_.bad_offset - transfer.offset < LengthOf(transfer);
  if (fails || is_bad) {
    end.n_bytes = -faults_.error_number;
    Overwrite(transfer, 0);
  } else if (is_short && n_bytes > 1) {
    end.n_bytes = static_cast<int64_t>(1 + draw % (n_bytes - 1));
    Overwrite(transfer, static_cast<size_t>(end.n_bytes));
  } else if (is_wrong) {
    FlipBit(transfer, static_cast<size_t>(draw % (n_bytes * 8)));
  } else {
    return end;
  }
  ++n_faults_;
  return end;
}

void FaultyQueue::CollectFromInner(int64_t timeout_us) {
  const size_t n = inner_->Wait(ends_, timeout_us);
  n_inside_ -= static_cast<int64_t>(n);
  for (const TransferEnd& end : std::span(ends_).first(n)) held_.push_back(Spoil(end));
}

size_t FaultyQueue::Wait(std::span<TransferEnd> out, int64_t timeout_us) {
  CollectFromInner(held_.empty() ? timeout_us : 0);
  size_t n = 0;
  for (size_t i = 0; i < held_.size() && n < out.size();) {
    // What is kept back must not make everybody wait for nothing: when nothing else is under way, it goes.
    if (n_inside_ + static_cast<int64_t>(n) > 0 && Happens(faults_.hold_share)) {
      ++i;
      continue;
    }
    out[n++] = held_[i];
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return n;
}

}  // namespace pantry
