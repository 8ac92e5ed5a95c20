// SPDX-License-Identifier: Apache-2.0
#include "sim/machine.h"

#include <algorithm>

namespace pantry {
namespace {

// Of the memory's rate, that is left to cores and second executor however much the flash moves.
constexpr double kLeastShare = 0.05;
// What is placed is read from where it arrived, and written to its slot, which reads the line first.
constexpr double kPlacingTraffic = 3;

// As long as a thread that has nothing to do stays awake (sys/thread_pool.cc).
constexpr double kSpinUs = 50;

double Us(double amount, double per_s) { return per_s > 0 ? 1e6 * amount / per_s : 0; }

}  // namespace

Work& Work::operator+=(const Work& other) {
  bytes += other.bytes;
  int8_macs += other.int8_macs;
  float_macs += other.float_macs;
  n_steps += other.n_steps;
  slow_bytes += other.slow_bytes;
  row_bytes += other.row_bytes;
  return *this;
}

std::string_view TimeUseName(TimeUse use) {
  switch (use) {
    case TimeUse::kBetween: return "computing what every token needs";
    case TimeUse::kBlocks: return "computing blocks";
    case TimeUse::kPlacing: return "placing";
    case TimeUse::kAsking: return "asking for reads";
    case TimeUse::kWaiting: return "waiting for the disk";
    case TimeUse::kJoining: return "waiting for the second executor";
  }
  return "";
}

Machine::Machine(const DeviceProfile& device, int32_t n_cores)
    : device_(device),
      rates_(device.Rates(n_cores, 0)),
      rates_of_one_(device.Rates(1, 0)),
      core_free_us_(static_cast<size_t>(std::max(n_cores, 1))) {}

// Rates of a table are of the cores alone; with others beside them, all that want memory share what there is.
Machine::Rates Machine::Divide(bool cores_compute) const {
  Rates rates;
  if (cores_compute) rates.cores = core_rates().memory_bytes_per_s;
  if (second_left_ > 0) rates.second = device_.second->dram_bytes_per_s;
  if (device_.dram_bytes_per_s <= 0) return rates;
  const double flash = flash_ != nullptr ? flash_->bytes_per_s(now_us_) : 0;
  const double left = std::max(device_.dram_bytes_per_s - flash, kLeastShare * device_.dram_bytes_per_s);
  const double wanted = rates.cores + rates.second;
  if (wanted <= left) return rates;
  rates.cores *= left / wanted;
  rates.second *= left / wanted;
  return rates;
}

double Machine::UsFor(const Work& work, double memory_bytes_per_s) const {
  const double memory_us = Us(work.bytes + work.slow_bytes, memory_bytes_per_s * device_.memory_share);
  const double arithmetic_us =
      (Us(2 * work.int8_macs, core_rates().int8_ops_per_s) + Us(2 * work.float_macs, core_rates().f32_flops)) /
      device_.arithmetic_share;
  return std::max(memory_us, arithmetic_us) + work.n_steps * device_.step_us +
         Us(work.row_bytes, device_.row_bytes_per_s);
}

double Machine::SecondUs(double memory_bytes_per_s) const {
  return std::max(Us(second_work_.bytes, memory_bytes_per_s * device_.memory_share),
                  Us(2 * (second_work_.int8_macs + second_work_.float_macs),
                     device_.second->int8_ops_per_s * device_.arithmetic_share));
}

// Goes on until `until_us`, or where there is `work` until that is done. Rates hold from one change to the next.
void Machine::Run(double until_us, const Work* work, TimeUse use) {
  double left = work != nullptr ? 1 : 0;
  while (work != nullptr ? left > 0 : now_us_ < until_us) {
    const Rates rates = Divide(work != nullptr);
    double next_us = work != nullptr ? kNever : until_us;
    if (flash_ != nullptr && device_.dram_bytes_per_s > 0) next_us = std::min(next_us, flash_->until_us(now_us_));
    if (work != nullptr && now_us_ < all_awake_us_) next_us = std::min(next_us, all_awake_us_);
    const double work_us = work != nullptr ? UsFor(*work, rates.cores) : 0;
    if (work != nullptr) next_us = std::min(next_us, now_us_ + left * work_us);
    double second_us = 0;
    if (second_left_ > 0) {
      second_us = SecondUs(rates.second);
      next_us = std::min(next_us, now_us_ + second_left_ * second_us);
    }
    const double passed_us = std::max(next_us - now_us_, 0.0);
    // What ends is at its end, whatever was rounded.
    if (work != nullptr) left = now_us_ + left * work_us <= next_us ? 0 : left - passed_us / work_us;
    if (second_left_ > 0) {
      second_left_ = now_us_ + second_left_ * second_us <= next_us ? 0 : second_left_ - passed_us / second_us;
    }
    now_us_ = std::max(now_us_, next_us);
    time_us_[static_cast<size_t>(use)] += passed_us;
  }
}

double Machine::computing_us() const {
  return time_us_[static_cast<size_t>(TimeUse::kBetween)] + time_us_[static_cast<size_t>(TimeUse::kBlocks)] +
         time_us_[static_cast<size_t>(TimeUse::kPlacing)];
}

void Machine::Compute(const Work& work, TimeUse use) {
  memory_bytes_ += work.bytes;
  Run(kNever, &work, use);
}

void Machine::Spend(double us, TimeUse use) { Run(now_us_ + us, nullptr, use); }

void Machine::WaitUntil(double us, TimeUse use) { Run(us, nullptr, use); }

void Machine::SleepUntil(double us) {
  const bool is_long = us - now_us_ > kSpinUs;
  WaitUntil(us, TimeUse::kWaiting);
  if (is_long) all_awake_us_ = now_us_ + device_.wake_us;
}

void Machine::Place(double n_bytes, double bytes_per_s, double n_fresh_bytes) {
  if (is_new_batch_) {
    std::fill(core_free_us_.begin(), core_free_us_.end(), std::max(now_us_, all_awake_us_));
    core_free_us_.front() = now_us_;
    memory_free_us_ = fresh_free_us_ = now_us_;
  }
  is_new_batch_ = false;
  const auto core = std::min_element(core_free_us_.begin(), core_free_us_.end());
  const double us = Us(n_bytes, bytes_per_s);
  if (us > 0) memory_free_us_ += Us(kPlacingTraffic * n_bytes, device_.dram_bytes_per_s);
  *core = std::max(*core + us, us > 0 ? memory_free_us_ : 0);
  if (n_fresh_bytes > 0 && device_.fresh_bytes_per_s > 0) {
    *core = fresh_free_us_ = std::max(fresh_free_us_, *core) + Us(n_fresh_bytes, device_.fresh_bytes_per_s);
  }
  end_of_batch_us_ = std::max(end_of_batch_us_, *core);
  WaitUntil(end_of_batch_us_, TimeUse::kPlacing);  // the threads meet when all is placed
}

void Machine::BeginSecond(const Work& work) {
  PANTRY_CHECK(has_second() && second_left_ <= 0);
  memory_bytes_ += work.bytes;
  second_work_ = work;
  second_left_ = 1;
}

void Machine::JoinSecond() {
  while (second_left_ > 0) {
    const double end_us = now_us_ + second_left_ * SecondUs(Divide(false).second);
    if (end_us <= now_us_) second_left_ = 0;
    Run(end_us, nullptr, TimeUse::kJoining);
  }
}

double Machine::SecondShare() const {
  if (!has_second()) return 0;
  const double cores = rates_.memory_bytes_per_s, second = device_.second->dram_bytes_per_s;
  return cores + second > 0 ? second / (cores + second) : 0;
}

}  // namespace pantry
