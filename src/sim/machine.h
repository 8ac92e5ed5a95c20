// SPDX-License-Identifier: Apache-2.0
// A Machine is a virtual clock with cores, memory and perhaps a second executor: what is done on it takes the time that a DeviceProfile says.
//
// One thread of work, as in the engine: it computes on all cores, places what was read on all cores, asks for reads, or waits. Beside it the
// flash (flash_queue.h) transfers and the second executor computes. All of them share the memory's rate: flash takes what it moves, the
// others divide the rest in proportion to what each could use alone. Every microsecond belongs to one TimeUse, so the uses add up to the
// clock.
// Threads: one.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "sim/device_profile.h"

namespace pantry {

// What some work costs. Bytes are read from memory once.
struct Work {
  double bytes = 0;
  double int8_macs = 0;
  double float_macs = 0;
  double n_steps = 0;     // parallel loops
  double slow_bytes = 0;  // not read, but what is takes as long as if they were: single rows come slower than a stream
  double row_bytes = 0;   // of activations that one core goes through between the parallel loops: norms, quantising

  Work& operator+=(const Work& other);
  friend Work operator*(double times, const Work& work) {
    return {times * work.bytes,   times * work.int8_macs,  times * work.float_macs,
            times * work.n_steps, times * work.slow_bytes, times * work.row_bytes};
  }
};

enum class TimeUse : uint8_t {
  kBetween,  // what every token computes
  kBlocks,   // blocks are computed
  kPlacing,  // bytes that were read become blocks
  kAsking,   // reads are given to the disk, and taken back
  kWaiting,  // for the disk
  kJoining,  // for the second executor
};
inline constexpr size_t kTimeUses = 6;
std::string_view TimeUseName(TimeUse use);  // "computing what every token needs", ...

// What moves bytes into memory beside the cores.
class MemoryUser {
 public:
  virtual ~MemoryUser() = default;
  virtual double bytes_per_s(double now_us) const = 0;
  virtual double until_us(double now_us) const = 0;  // that rate holds; later than now
};

class Machine final : public Clock {
 public:
  static constexpr double kNever = std::numeric_limits<double>::infinity();

  // Computes on n_cores. `device` must outlive the machine.
  Machine(const DeviceProfile& device, int32_t n_cores);
  void Attach(const MemoryUser* flash) { flash_ = flash; }

  int64_t NowUs() const override { return static_cast<int64_t>(std::min(now_us_, kMostUs)); }
  double now_us() const { return now_us_; }
  double n_cores() const { return static_cast<double>(core_free_us_.size()); }
  const std::array<double, kTimeUses>& time_us() const { return time_us_; }
  double memory_bytes() const { return memory_bytes_; }  // that cores and second executor have read so far

  double computing_us() const;  // so far, placing included

  void Compute(const Work& work, TimeUse use);  // on all cores
  void Spend(double us, TimeUse use);           // nothing is computed, or one core does something
  void WaitUntil(double us, TimeUse use);       // not before now
  // The same for the flash: where that takes longer than threads spin, all but one of the cores come DeviceProfile::wake_us later.
  void SleepUntil(double us);
  // A piece is placed by the core that is free first. Pieces since BeginBatch() are placed at the same time by several,
  // which share the memory's rate, and touch fresh memory one after another.
  void BeginBatch() { is_new_batch_ = true; }
  void Place(double n_bytes, double bytes_per_s, double n_fresh_bytes);

  // Work beside the cores', one at a time, and the wait for its end. REQUIRES: has_second(); the one before was joined.
  bool has_second() const { return device_.second.has_value(); }
  void BeginSecond(const Work& work);
  void JoinSecond();
  // The share of work that both can do which the second executor gets, so that both end together.
  double SecondShare() const;

 private:
  static constexpr double kMostUs = 4e18;  // that fit in a clock of whole microseconds
  struct Rates {                           // of memory, now
    double cores = 0;
    double second = 0;
  };
  const MachineRates& core_rates() const { return now_us_ < all_awake_us_ ? rates_of_one_ : rates_; }
  Rates Divide(bool cores_compute) const;
  double UsFor(const Work& work, double memory_bytes_per_s) const;
  double SecondUs(double memory_bytes_per_s) const;
  void Run(double until_us, const Work* work, TimeUse use);

  const DeviceProfile& device_;
  const MachineRates rates_;  // of the cores
  const MachineRates rates_of_one_;
  double all_awake_us_ = 0;  // one core computes until then
  const MemoryUser* flash_ = nullptr;
  double now_us_ = 0;
  double memory_bytes_ = 0;
  Work second_work_;
  double second_left_ = 0;            // share of it
  std::vector<double> core_free_us_;  // of the batch at hand
  double memory_free_us_ = 0;         // when memory has moved what was placed of it
  double fresh_free_us_ = 0;    // when one core has touched what was fresh of it: huge pages, for which the others wait
  double end_of_batch_us_ = 0;  // when all that was placed of it is
  bool is_new_batch_ = true;
  std::array<double, kTimeUses> time_us_ = {};
};

}  // namespace pantry
