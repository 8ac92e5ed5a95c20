// SPDX-License-Identifier: Apache-2.0
#include "sim/flash_queue.h"

#include <algorithm>

namespace pantry {
namespace {

// What is back by less than that is back: two clocks never agree to the last bit.
constexpr double kRoundingUs = 1e-3;

}  // namespace

FlashQueue::FlashQueue(const DeviceProfile& device, Machine& machine, int depth)
    : device_(device), machine_(machine), depth_(depth > 0 ? depth : device.flash_depth) {
  PANTRY_CHECK(!device.flash.empty());
  under_way_.reserve(static_cast<size_t>(depth_));
}

double FlashQueue::SecondsOf(double n, int64_t n_bytes) const {
  auto found = rates_.find(n_bytes);
  if (found == rates_.end()) found = rates_.emplace(n_bytes, device_.Rates(1, n_bytes)).first;
  const auto bytes = static_cast<double>(n_bytes);
  const double s = DiskSeconds(found->second, n, bytes) / device_.flash_share;
  return device_.flash_most_bytes_per_s > 0 ? std::max(s, n * bytes / device_.flash_most_bytes_per_s) : s;
}

// It is the last of those that are served now, and all of them end with it.
void FlashQueue::StartTogether(UnderWay& transfer) {
  if (together_us_ <= transfer.start_us + kRoundingUs) {  // nothing was left to do
    n_together_ = 0;
    together_us_ = transfer.start_us;
  }
  const double turn_us =
      1e6 * (SecondsOf(n_together_ + 1, transfer.n_bytes) - SecondsOf(n_together_, transfer.n_bytes));
  ++n_together_;
  together_us_ += turn_us;
  busy_us_ += turn_us;
  together_bytes_per_s_ = turn_us > 0 ? 1e6 * static_cast<double>(transfer.n_bytes) / turn_us : 0;
}

double FlashQueue::ServedUs(const UnderWay& transfer, double free_us) const {
  if (transfer.served_us >= 0) return transfer.served_us;
  if (returns_together()) return together_us_;
  const double turn_us = 1e6 * SecondsOf(transfer.most, transfer.n_bytes) / transfer.most;
  return std::max(std::max(free_us, transfer.start_us) + turn_us, changed_us_);
}

double FlashQueue::BackUs(const UnderWay& transfer) const {
  if (returns_together()) return transfer.served_us;
  return std::max(transfer.served_us, transfer.start_us + 1e6 * SecondsOf(1, transfer.n_bytes));
}

// What has been served by now stays so.
void FlashQueue::Settle() {
  for (UnderWay& transfer : under_way_) {
    if (transfer.served_us >= 0) continue;
    const double served_us = ServedUs(transfer, free_us_);
    if (served_us > now_us() + kRoundingUs) return;
    if (!returns_together()) busy_us_ += served_us - std::max(free_us_, transfer.start_us);
    transfer.served_us = free_us_ = served_us;
  }
}

void FlashQueue::Start(const Transfer& transfer) {
  Settle();
  const bool is_idle = free_us_ <= now_us() + kRoundingUs && (under_way_.empty() || under_way_.back().served_us >= 0);
  machine_.Spend(device_.read_cpu_us + (is_idle ? device_.kick_us : 0), TimeUse::kAsking);
  Settle();
  int64_t n_bytes = 0;
  for (const iovec& to : transfer.to) n_bytes += static_cast<int64_t>(to.iov_len);
  under_way_.push_back({transfer.id, n_bytes, now_us(), 0});
  if (returns_together()) StartTogether(under_way_.back());
  const auto n = static_cast<int>(under_way_.size());
  for (UnderWay& each : under_way_) {
    if (each.served_us < 0) each.most = std::max(each.most, n);
  }
  changed_us_ = now_us();
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
    if (timeout_us > 0) first_us = std::min(first_us, now_us() + static_cast<double>(timeout_us));
    if (first_us > now_us()) machine_.SleepUntil(machine_.now_us() + (first_us - now_us()));  // nobody computes
  }
  Settle();
  size_t n = 0;
  const auto is_back = [&](const UnderWay& transfer) {
    if (n == out.size() || transfer.served_us < 0 || BackUs(transfer) > now_us() + kRoundingUs) return false;
    out[n++] = {transfer.id, transfer.n_bytes};
    return true;
  };
  under_way_.erase(std::remove_if(under_way_.begin(), under_way_.end(), is_back), under_way_.end());
  return n;
}

// When it is `us` here, where the cores go on computing.
double FlashQueue::MachineUs(double us) const {
  return us < Machine::kNever ? machine_.now_us() + (us - now_us()) / device_.flash_busy_share : us;
}

double FlashQueue::bytes_per_s(double) const {
  if (returns_together()) return now_us() < together_us_ ? together_bytes_per_s_ : 0;
  double free_us = free_us_;
  for (const UnderWay& transfer : under_way_) {
    const double begin_us = std::max(free_us, transfer.start_us);
    const double served_us = ServedUs(transfer, free_us);
    if (served_us > now_us()) {
      return served_us > begin_us ? 1e6 * static_cast<double>(transfer.n_bytes) / (served_us - begin_us) : 0;
    }
    free_us = std::max(free_us, served_us);
  }
  return 0;
}

double FlashQueue::until_us(double) const {
  if (returns_together()) return MachineUs(now_us() < together_us_ ? together_us_ : Machine::kNever);
  double free_us = free_us_;
  for (const UnderWay& transfer : under_way_) {
    free_us = std::max(free_us, ServedUs(transfer, free_us));
    if (free_us > now_us()) return MachineUs(free_us);
  }
  return Machine::kNever;
}

}  // namespace pantry
