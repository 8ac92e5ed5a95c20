// SPDX-License-Identifier: Apache-2.0
// MeasureCpu() finds the ceilings of this CPU: how fast it reads memory, and how fast it computes, for 1 to all threads.
//
// Each figure is the best of many short passes within a fraction of a second: what else runs on the machine can only make a pass slower,
// so the best one says what the hardware does. The threads are placed by the system, as those of the engine are.
// Threads: one measurement at a time, or they disturb each other.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "sys/hardware_profile.h"
#include "sys/isa.h"

namespace pantry {

struct ProbeOptions {
  double seconds = 0.3;    // of one figure; there are three per thread count
  double max_seconds = 5;  // of all: with many thread counts each figure gets less
  int64_t buffer_bytes =
      0;  // read per pass or in parts; 0: several times the last cache, a quarter of the free memory at most
  Isa isa = BestIsa();  // whose instructions
};

// Called between passes with what is being measured ("memory, 2 threads"). false: stop.
using ProbeProgress = std::function<bool(std::string_view what)>;

// Fills the three lists of rates and, with two CPUs or more, the hand-over between threads. REQUIRES: `profile` is DescribeMachine()'s. kCancelled when `progress` said so; kOutOfBudget when
// there is no memory to read.
Status MeasureCpu(const ProbeOptions& options, const ProbeProgress& progress, HardwareProfile& profile);

// 1, 2, 4, ... up to n_cores, n_cores itself, then n_cpus where it is more.
std::vector<int32_t> ProbedThreadCounts(int32_t n_cores, int32_t n_cpus);

}  // namespace pantry
