// SPDX-License-Identifier: Apache-2.0
#include "sys/cpu_count.h"

#include <gtest/gtest.h>

#include <string>

#include "sys/fake_system.h"

namespace pantry {
namespace {

TEST(CpuCount, HyperthreadsOfACoreCountOnce) {
  testing::FakeSystem system;
  const std::string cpu = "/sys/devices/system/cpu/cpu";
  for (const int n : {0, 4}) system.Write(cpu + std::to_string(n) + "/topology/core_cpus_list", "0,4\n");
  for (const int n : {1, 5})
    system.Write(cpu + std::to_string(n) + "/topology/thread_siblings_list", "1,5\n");  // an older kernel
  EXPECT_EQ(CountCores({0, 1, 4, 5}, system.root()), 2);
  EXPECT_EQ(CountCores({0, 4}, system.root()), 1);
  EXPECT_EQ(CountCores({4, 1}, system.root()), 2);
}

TEST(CpuCount, CpuWithoutTopologyIsACore) {
  testing::FakeSystem system;
  EXPECT_EQ(CountCores({0, 1, 7}, system.root()), 3);
}

TEST(CpuCount, QuotaCapsRoundedDownButNeverBelowOne) {
  EXPECT_EQ(CapByQuota(8, 0), 8);
  EXPECT_EQ(CapByQuota(8, 2.5), 2);
  EXPECT_EQ(CapByQuota(8, 0.3), 1);
  EXPECT_EQ(CapByQuota(2, 16), 2);
}

TEST(CpuCount, ListsOfTheKernelAreRead) {
  EXPECT_EQ(ParseCpuList("0-2,5\n"), (std::vector<int>{0, 1, 2, 5}));
  EXPECT_EQ(ParseCpuList("7"), std::vector<int>{7});
  for (const char* bad : {"", "\n", "a", "3-1", "1-", "-1", "1;2", "0-99999999", "99999999999999999999"}) {
    EXPECT_EQ(ParseCpuList(bad), std::vector<int>()) << bad;
  }
}

TEST(CpuCount, CpusThatAreNotThereAreNotAllowed) {
  testing::FakeSystem system;
  system.Write("/sys/devices/system/cpu/online", "0-3\n");
  EXPECT_EQ(AllowedCpus(system.root()), (std::vector<int>{0, 1, 2, 3}));
  system.Write("/proc/self/status", "Cpus_allowed_list:\t2-127\n");
  EXPECT_EQ(AllowedCpus(system.root()), (std::vector<int>{2, 3}));
}

TEST(CpuCount, CoresAreAtMostCpus) {
  EXPECT_GE(PhysicalCoreCount(), 1);
  EXPECT_LE(PhysicalCoreCount(), UsableCpuCount());
}

}  // namespace
}  // namespace pantry
