// SPDX-License-Identifier: Apache-2.0
#include "io/simulated_queue.h"

#include <algorithm>
#include <cmath>

namespace pantry {
SimulatedQueue::SimulatedQueue(std::span<const Reader* const> files, const SimulatedDisk& disk, SimulatedClock& clock)
    : files_(files.begin(), files.end()), disk_(disk), clock_(clock) {
  served_.reserve(static_cast<size_t>(disk.depth));
}

void SimulatedQueue::Start(const Transfer& transfer) {
  int64_t n_bytes = 0;
  for (const iovec& to : transfer.to) n_bytes += static_cast<int64_t>(to.iov_len);
  const double service_us =
      std::max(static_cast<double>(disk_.us_per_transfer), 1e6 * static_cast<double>(n_bytes) / disk_.bytes_per_s);
  free_at_us_ = std::max(free_at_us_, static_cast<double>(clock_.NowUs())) + service_us;
  served_.push_back({transfer, n_bytes, free_at_us_ + static_cast<double>(disk_.latency_us)});
}

size_t SimulatedQueue::Wait(std::span<TransferEnd> out, int64_t timeout_us) {
  if (served_.empty()) return 0;
  const auto first_us = static_cast<int64_t>(std::ceil(served_.front().end_us));
  if (timeout_us != 0) {
    clock_.AdvanceTo(timeout_us < 0 ? first_us : std::min(first_us, clock_.NowUs() + timeout_us));
  }
  size_t n = 0;
  while (n < out.size() && n < served_.size() && served_[n].end_us <= static_cast<double>(clock_.NowUs())) {
    const Served& served = served_[n];
    const Transfer& transfer = served.transfer;
    const int64_t n_bytes =
        files_.empty() ? served.n_bytes : ReadTransfer(*files_[static_cast<size_t>(transfer.file)], transfer);
    out[n++] = {transfer.id, n_bytes};
  }
  served_.erase(served_.begin(), served_.begin() + static_cast<std::ptrdiff_t>(n));
  return n;
}

}  // namespace pantry
