// SPDX-License-Identifier: Apache-2.0
// How many CPUs this process may use: affinity mask and cgroup quota respected.
//
// Kernels keep a core's units busy with one thread, so hyperthreads of a core are counted once where work is split, and separately where
// the question is whether threads would queue for a CPU.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pantry {

int UsableCpuCount();     // logical CPUs; at least 1
int PhysicalCoreCount();  // cores; at least 1

// The CPUs that the scheduler may put us on: by the affinity mask of the calling thread; under a `root`, by <root>/proc/self/status and
// what is online there. Quotas are not looked at. Never empty.
std::vector<int> AllowedCpus(const std::string& root = "");

// "0-3,8" -> 0 1 2 3 8, as the kernel writes sets of CPUs and of nodes; empty where it is no such list.
std::vector<int> ParseCpuList(std::string_view text);

// The cores that `cpus` belong to, by <root>/sys/devices/system/cpu/cpuN/topology; a CPU that the system says nothing about counts as one.
int CountCores(const std::vector<int>& cpus, const std::string& root = "");

// min(n_cpus, quota rounded down), at least 1; quota 0 means none.
int CapByQuota(int n_cpus, double quota);

}  // namespace pantry
