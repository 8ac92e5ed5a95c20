// SPDX-License-Identifier: Apache-2.0
// How many CPUs this process may use: affinity mask and cgroup quota respected.
//
// Kernels keep a core's units busy with one thread, so hyperthreads of a core are counted once where work is split, and separately where
// the question is whether threads would queue for a CPU.
#pragma once

#include <string>
#include <vector>

namespace pantry {

int UsableCpuCount();     // logical CPUs; at least 1
int PhysicalCoreCount();  // cores; at least 1

// The cores that `cpus` belong to, by <root>/sys/devices/system/cpu/cpuN/topology; a CPU that the system says nothing about counts as one.
int CountCores(const std::vector<int>& cpus, const std::string& root = "");

// min(n_cpus, quota rounded down), at least 1; quota 0 means none.
int CapByQuota(int n_cpus, double quota);

}  // namespace pantry
