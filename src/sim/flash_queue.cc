// SPDX-License-Identifier: Apache-2.0
#include "sim/flash_queue.h"

#include <algorithm>

namespace pantry {

FlashQueue::FlashQueue(const DeviceProfile& device, Machine& machine, int depth)
    : device_(device), machine_(machine), depth_(depth > 0 ? depth : device.flash_depth) {
  PANTRY_CHECK(!device.flash.empty());
  under_way_.reserve(static_cast<size_t>(depth_));
}

double FlashQueue::SecondsOf(double n, int64_t n_bytes) const {
  auto found = rates_.find(n_bytes);
  if (found == rates_.end()) found = rates_.emplace(n_bytes, device_.Rates(1, n_bytes)).first;
  return DiskSeconds(found->second, n, static_cast<double>(n_bytes)) / device_.flash_share;
}

double FlashQueue::ServedUs(const UnderWay& transfer, double free_us) const {
  if (transfer.served_us >= 0) return transfer.served_us;
  const double turn_us = 1e6 * SecondsOf(transfer.most, transfer.n_bytes) / transfer.most;
  return std::max(std::max(free_us, transfer.start_us) + turn_us, changed_us_);
}

double FlashQueue::BackUs(const UnderWay& transfer) const {
  return std::max(transfer.served_us, transfer.start_us + 1e6 * SecondsOf(1, transfer.n_bytes));
}

// What has been served by now stays so.
void FlashQueue::Settle() {
  for (UnderWay& transfer : under_way_) {
    if (transfer.served_us >= 0) continue;
    const double served_us = ServedUs(transfer, free_us_);
    if (served_us > machine_.now_us()) return;
    busy_us_ += served_us - std::max(free_us_, transfer.start_us);
    transfer.served_us = free_us_ = served_us;
  }
}

void FlashQueue::Start(const Transfer& transfer) {
  machine_.Spend(device_.read_cpu_us, TimeUse::kAsking);
  Settle();
  int64_t n_bytes = 0;
  for (const iovec& to : transfer.to) n_bytes += static_cast<int64_t>(to.iov_len);
  under_way_.push_back({transfer.id, n_bytes, machine_.now_us(), 0});
  const auto n = static_cast<int>(under_way_.size());
  for (UnderWay& each : under_way_) {
    if (each.served_us < 0) each.most = std::max(each.most, n);
  }
  changed_us_ = machine_.now_us();
}

size_t FlashQueue::Wait(std::span<TransferEnd> out, int64_t timeout_us) {
  machine_.BeginBatch();
  if (under_way_.empty()) return 0;
  if (timeout_us != 0) {  // until the first is back
    double first_us = Machine::kNever, free_us = free_us_;
    for (UnderWay transfer : under_way_) {
      transfer.served_us = ServedUs(transfer, free_us);
      free_us = std::max(free_us, transfer.served_us);
      first_us = std::min(first_us, BackUs(transfer));
    }
    if (timeout_us > 0) first_us = std::min(first_us, machine_.now_us() + static_cast<double>(timeout_us));
    if (first_us > machine_.now_us()) machine_.WaitUntil(first_us + device_.wake_us, TimeUse::kWaiting);
  }
  Settle();
  size_t n = 0;
  const auto is_back = [&](const UnderWay& transfer) {
    if (n == out.size() || transfer.served_us < 0 || BackUs(transfer) > machine_.now_us()) return false;
    out[n++] = {transfer.id, transfer.n_bytes};
    return true;
  };
  under_way_.erase(std::remove_if(under_way_.begin(), under_way_.end(), is_back), under_way_.end());
  return n;
}

double FlashQueue::bytes_per_s(double now_us) const {
  double free_us = free_us_;
  for (const UnderWay& transfer : under_way_) {
    const double begin_us = std::max(free_us, transfer.start_us);
    const double served_us = ServedUs(transfer, free_us);
    if (served_us > now_us) {
      return served_us > begin_us ? 1e6 * static_cast<double>(transfer.n_bytes) / (served_us - begin_us) : 0;
    }
    free_us = std::max(free_us, served_us);
  }
  return 0;
}

double FlashQueue::until_us(double now_us) const {
  double free_us = free_us_;
  for (const UnderWay& transfer : under_way_) {
    free_us = std::max(free_us, ServedUs(transfer, free_us));
    if (free_us > now_us) return free_us;
  }
  return Machine::kNever;
}

}  // namespace pantry
