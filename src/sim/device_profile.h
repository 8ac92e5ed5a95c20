// SPDX-License-Identifier: Apache-2.0
// A DeviceProfile is a machine as the simulator sees it: what its cores, its memory and its flash can do; `sources` says of each number
// whether it was measured, published, derived, fitted elsewhere or assumed.
//
// This host's (DeviceOf) has rates that `pantry doctor` measured, and costs that were fitted to runs on another machine; others are JSON files, some of which lie in devices/:
//
//   {"pantry_device": 1, "name": "...", "n_cores": 6,
//    "dram_read_bytes_per_s": [{"n_cores": 1, "per_s": 1.2e10}, ...], "int8_ops_per_s": [...], "f32_flops": [...],   by cores, ascending
//    "dram_bytes_per_s": 5.96e10,                     of all who use memory at once; 0: each has its own limit only
//    "flash": [{"block_bytes": 4096, "queue_depth": 1, "bytes_per_s": 4.5e8}, ...], "flash_depth": 32,
//    "flash_most_bytes_per_s": 0, "flash_returns_together": 0, "flash_busy_share": 1, "kick_us": 0, "read_cpu_us": 0, "wake_us": 0,
//    "place_bytes_per_s": 8e9, "copy_bytes_per_s": 16e9, "step_us": 2, "row_bytes_per_s": 0, "fresh_bytes_per_s": 0,
//    "memory_share": 0.9, "arithmetic_share": 0.55, "flash_share": 1,
//    "second": {"name": "NPU", "dram_bytes_per_s": 5.6e10, "int8_ops_per_s": 1e13},                                  may be missing
//    "sources": {"flash": "where these numbers come from", ...}}                                                     likewise
//
// Threads: a value.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "policy/planner/speed_estimate.h"
#include "sys/hardware_profile.h"

namespace pantry {

// Another unit that computes beside the cores: always-dense parts of a layer.
struct SecondExecutor {
  std::string name;
  double dram_bytes_per_s = 0;  // alone
  double int8_ops_per_s = 0;
};

struct DeviceProfile {
  static constexpr int64_t kSchema = 1;

  std::string name;
  int32_t n_cores = 1;  // that compute
  // ThreadRate::n_threads is a number of cores. Without rates of arithmetic, that costs nothing; a file must have them.
  std::vector<ThreadRate> dram_read_bytes_per_s;
  std::vector<ThreadRate> int8_ops_per_s;
  std::vector<ThreadRate> f32_flops;
  double dram_bytes_per_s = 0;  // of cores, second executor and flash together; 0: no limit besides each one's own

  std::vector<DiskRate> flash;  // reads of one size, so many under way; latencies are not used
  int32_t flash_depth = 32;     // transfers under way at most
  // Of reads without a break, whatever `flash` says of their size and number: a cloud gives more for a moment, but no more than it sold. 0: no limit.
  double flash_most_bytes_per_s = 0;
  // 1: it serves until nothing is left to serve, also of what is asked for meanwhile, and only then says what has ended. A hypervisor's disk
  // may be such a one: it raises one interrupt when its queue has run dry.
  int32_t flash_returns_together = 0;
  // Of these rates, while the cores compute: where what is read passes through memory that they want, too, as in a hypervisor that copies it.
  double flash_busy_share = 1;
  double kick_us = 0;      // of the thread that asks, where the flash had nothing to do: it must be woken
  double read_cpu_us = 0;  // of a computing core for each transfer; 0: another core does that
  double wake_us = 0;      // after a wait one core goes on at once, the others join it so much later
  // Of one core, from where a piece was read into its block: where it is rearranged for the kernels, and where it lies as they want it (of a
  // pack) and is checked and copied. 0: nothing to do.
  double place_bytes_per_s = 0;
  double copy_bytes_per_s = 0;
  double step_us = 0;            // what beginning and ending a parallel step costs
  double row_bytes_per_s = 0;    // of one core, through activations between two such steps; 0: costs nothing
  double fresh_bytes_per_s = 0;  // memory that was never touched, into which something is placed; 0: costs nothing

  // Shares of these rates that runs reach.
  double memory_share = 0.90;
  double arithmetic_share = 0.55;
  double flash_share = 0.90;

  std::optional<SecondExecutor> second;
  std::map<std::string, std::string> sources;  // by the fields above: where the number comes from

  Status Validate() const;
  // For policy/planner: RatesFor() of the rates above, without the shares.
  MachineRates Rates(int32_t n, int64_t piece_bytes) const;
};

// What was measured, and for what `pantry doctor` does not measure constants that are not this host's; `sources` tells them apart.
DeviceProfile DeviceOf(const HardwareProfile& machine);

std::string ToJson(const DeviceProfile& device);  // indented, ends with a newline
// kCorruption names `origin`, the field and what was expected, also of a field that nobody knows; kUnsupported: another schema.
Result<DeviceProfile> DeviceProfileFromJson(std::string_view json, std::string_view origin);

}  // namespace pantry
