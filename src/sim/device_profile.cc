// SPDX-License-Identifier: Apache-2.0
#include "sim/device_profile.h"

#include <cmath>
#include <utility>

namespace pantry {
namespace {

constexpr int32_t kMostCores = 4096;
constexpr int32_t kMostDepth = 1024;

// What doctor does not measure, as it was on two cores of a Zen 4 (docs/performance.md). Fitted to runs of three models: products with one row
// reach this share of the memory's rate; a parallel step begins and ends in some microseconds. Measured there (sim/host_costs.h): one core
// brings Q4_0 into the kernels' layout, and checks and copies what a pack has; threads that slept join again; a read, and the first one of
// several, takes so much of a core's time.
constexpr double kMemoryShare = 0.82;
constexpr double kStepUs = 5.0;
constexpr double kPlaceBytesPerS = 3.8e9;
constexpr double kCopyBytesPerS = 5.5e9;
constexpr double kWakeUs = 50;
constexpr double kKickUs = 30;
constexpr double kReadCpuUs = 9.0;

// Less is no machine, and times would no longer be finite.
constexpr double kLeastRate = 1;
constexpr double kLeastShare = 1e-6;

bool IsRate(double value) { return std::isfinite(value) && value >= kLeastRate && value < 1e18; }

Status CheckRates(const char* name, const std::vector<ThreadRate>& rates) {
  int32_t before = 0;
  for (const ThreadRate& rate : rates) {
    if (rate.n_threads <= before || rate.n_threads > kMostCores) {
      return InvalidArgumentError("'{}': numbers of cores must ascend from 1", name);
    }
    if (!IsRate(rate.per_s)) return InvalidArgumentError("'{}': a rate must be at least {} a second", name, kLeastRate);
    before = rate.n_threads;
  }
  return OkStatus();
}

Status CheckShare(const char* name, double share) {
  if (share >= kLeastShare && share <= 1) return OkStatus();
  return InvalidArgumentError("'{}' is {}, but must lie in {} to 1", name, share, kLeastShare);
}

}  // namespace

Status DeviceProfile::Validate() const {
  if (n_cores < 1 || n_cores > kMostCores) {
    return InvalidArgumentError("'n_cores' is {}, but must lie in 1 to {}", n_cores, kMostCores);
  }
  if (dram_read_bytes_per_s.empty()) return InvalidArgumentError("'dram_read_bytes_per_s' is empty");
  PANTRY_RETURN_IF_ERROR(CheckRates("dram_read_bytes_per_s", dram_read_bytes_per_s));
  PANTRY_RETURN_IF_ERROR(CheckRates("int8_ops_per_s", int8_ops_per_s));
  PANTRY_RETURN_IF_ERROR(CheckRates("f32_flops", f32_flops));
  for (const DiskRate& cell : flash) {
    if (cell.block_bytes < 512 || cell.block_bytes > int64_t{1} << 30 || cell.queue_depth < 1 ||
        cell.queue_depth > kMostDepth || !IsRate(cell.bytes_per_s)) {
      return InvalidArgumentError("'flash': blocks of 512 bytes to 1 GiB, depths of 1 to {} and a rate of at least {}",
                                  kMostDepth, kLeastRate);
    }
  }
  if (flash_depth < 1 || flash_depth > kMostDepth) {
    return InvalidArgumentError("'flash_depth' is {}, but must lie in 1 to {}", flash_depth, kMostDepth);
  }
  for (const auto& [field, value] : {std::pair("dram_bytes_per_s", dram_bytes_per_s),
                                     {"place_bytes_per_s", place_bytes_per_s},
                                     {"copy_bytes_per_s", copy_bytes_per_s},
                                     {"row_bytes_per_s", row_bytes_per_s},
                                     {"fresh_bytes_per_s", fresh_bytes_per_s},
                                     {"flash_most_bytes_per_s", flash_most_bytes_per_s}}) {
    if (value != 0 && !IsRate(value)) return InvalidArgumentError("'{}' must be 0, or at least {}", field, kLeastRate);
  }
  for (const auto& [field, value] :
       {std::pair("kick_us", kick_us), {"read_cpu_us", read_cpu_us}, {"wake_us", wake_us}, {"step_us", step_us}}) {
    if (!(value >= 0 && value <= 1e6)) return InvalidArgumentError("'{}' must lie in 0 to 1000000", field);
  }
  if (flash_returns_together < 0 || flash_returns_together > 1) {
    return InvalidArgumentError("'flash_returns_together' is {}, but must be 0 or 1", flash_returns_together);
  }
  PANTRY_RETURN_IF_ERROR(CheckShare("memory_share", memory_share));
  PANTRY_RETURN_IF_ERROR(CheckShare("arithmetic_share", arithmetic_share));
  PANTRY_RETURN_IF_ERROR(CheckShare("flash_share", flash_share));
  PANTRY_RETURN_IF_ERROR(CheckShare("flash_busy_share", flash_busy_share));
  if (second && (!IsRate(second->dram_bytes_per_s) || !IsRate(second->int8_ops_per_s))) {
    return InvalidArgumentError("'second': its rates must be at least {}", kLeastRate);
  }
  return OkStatus();
}

MachineRates DeviceProfile::Rates(int32_t n, int64_t piece_bytes) const {
  HardwareProfile machine;
  machine.dram_read_bytes_per_s = dram_read_bytes_per_s;
  machine.int8_ops_per_s = int8_ops_per_s;
  machine.f32_flops = f32_flops;
  machine.disk.emplace().random = flash;
  return RatesFor(machine, n, piece_bytes);
}

DeviceProfile DeviceOf(const HardwareProfile& machine) {
  DeviceProfile device;
  device.name = machine.cpu_name;
  device.n_cores = machine.n_usable_cores;
  device.dram_read_bytes_per_s = machine.dram_read_bytes_per_s;
  device.int8_ops_per_s = machine.int8_ops_per_s;
  device.f32_flops = machine.f32_flops;
  if (machine.disk) device.flash = machine.disk->random;
  device.memory_share = kMemoryShare;
  device.step_us = kStepUs;
  device.place_bytes_per_s = kPlaceBytesPerS;
  device.copy_bytes_per_s = kCopyBytesPerS;
  device.kick_us = kKickUs;
  device.read_cpu_us = kReadCpuUs;
  device.wake_us = kWakeUs;
  for (const char* field : {"n_cores", "dram_read_bytes_per_s", "int8_ops_per_s", "f32_flops", "flash"}) {
    device.sources[field] = "pantry doctor";
  }
  for (const char* field :
       {"memory_share", "step_us", "place_bytes_per_s", "copy_bytes_per_s", "kick_us", "read_cpu_us", "wake_us"}) {
    device.sources[field] = "as it was on one Zen 4 virtual machine, not measured on this host";
  }
  for (const char* field :
       {"dram_bytes_per_s", "flash_depth", "flash_most_bytes_per_s", "flash_busy_share", "flash_returns_together",
        "row_bytes_per_s", "fresh_bytes_per_s", "arithmetic_share", "flash_share"}) {
    device.sources[field] = "assumed: the default";
  }
  return device;
}

}  // namespace pantry
