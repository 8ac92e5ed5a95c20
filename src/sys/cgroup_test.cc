// SPDX-License-Identifier: Apache-2.0
#include "sys/cgroup.h"

#include <gtest/gtest.h>

#include "sys/fake_system.h"

namespace pantry {
namespace {

constexpr char kMountV2[] = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr char kMountV1[] =
    "31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 - cgroup cgroup rw,cpu,cpuacct\n"
    "32 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "33 23 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";

void WriteV2Group(testing::FakeSystem* system, const std::string& path, const std::string& max,
                  const std::string& current, const std::string& stat = "") {
  system->Write("/sys/fs/cgroup" + path + "/memory.max", max + "\n");
  system->Write("/sys/fs/cgroup" + path + "/memory.current", current + "\n");
  system->Write("/sys/fs/cgroup" + path + "/memory.stat", stat);
}

TEST(Cgroup, NothingKnownMeansNoLimit) {
  testing::FakeSystem system;
  EXPECT_EQ(CgroupMemoryLeftBytes(system.root()), -1);
  EXPECT_EQ(CgroupCpuQuota(system.root()), 0);
  system.Write("/proc/self/mountinfo", kMountV2);
  system.Write("/proc/self/cgroup", "0::/\n");
  EXPECT_EQ(CgroupMemoryLeftBytes(system.root()), -1);
  EXPECT_EQ(CgroupCpuQuota(system.root()), 0);
}

TEST(Cgroup, Version2LimitOfTheOwnGroupCountsCacheAsFree) {
  testing::FakeSystem system;
  system.Write("/proc/self/mountinfo", kMountV2);
  system.Write("/proc/self/cgroup", "0::/user/run\n");
  WriteV2Group(&system, "/user/run", "1000000", "700000",
               "anon 100000\ninactive_file 300000\nactive_file 200000\nfile 9\n");
  WriteV2Group(&system, "/user", "max", "900000");
  EXPECT_EQ(CgroupMemoryLeftBytes(system.root()), 1000000 - (700000 - 500000));
}

TEST(Cgroup, TightestParentBinds) {
  testing::FakeSystem system;
  system.Write("/proc/self/mountinfo", kMountV2);
  system.Write("/proc/self/cgroup", "0::/user/run\n");
  WriteV2Group(&system, "/user/run", "1000000", "100000");
  WriteV2Group(&system, "/user", "500000", "450000");
  EXPECT_EQ(CgroupMemoryLeftBytes(system.root()), 50000);
}

TEST(Cgroup, Version2HighIsALimitToo) {
  testing::FakeSystem system;
  system.Write("/proc/self/mountinfo", kMountV2);
  system.Write("/proc/self/cgroup", "0::/run\n");
  WriteV2Group(&system, "/run", "max", "100000");
  system.Write("/sys/fs/cgroup/run/memory.high", "300000\n");
  EXPECT_EQ(CgroupMemoryLeftBytes(system.root()), 200000);
}

TEST(Cgroup, UsageAboveTheLimitLeavesNothing) {
  testing::FakeSystem system;
  system.Write("/proc/self/mountinfo", kMountV2);
  system.Write("/proc/self/cgroup", "0::/\n");
  WriteV2Group(&system, "", "1000", "5000");
  EXPECT_EQ(CgroupMemoryLeftBytes(system.root()), 0);
}

TEST(Cgroup, Version1MemoryIsReadFromItsOwnHierarchy) {
  testing::FakeSystem system;
  system.Write("/proc/self/mountinfo", kMountV1);
  system.Write("/proc/self/cgroup", "4:memory:/job/7\n2:cpu,cpuacct:/\n1:cpuset:/other\n");
  const std::string group = "/sys/fs/cgroup/memory/job/7";
  system.Write(group + "/memory.limit_in_bytes", "800000\n");
  system.Write(group + "/memory.usage_in_bytes", "600000\n");
  system.Write(group + "/memory.stat", "inactive_file 1\ntotal_inactive_file 100000\ntotal_active_file 50000\n");
  EXPECT_EQ(CgroupMemoryLeftBytes(system.root()), 800000 - (600000 - 150000));
}

TEST(Cgroup, MountOfASubgroupIsReadBelowItsRoot) {
  testing::FakeSystem system;  // a container sees its own group at the mount point
  system.Write("/proc/self/mountinfo", "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
  system.Write("/proc/self/cgroup", "0::/docker/abc/inner\n");
  WriteV2Group(&system, "", "600000", "0");
  WriteV2Group(&system, "/inner", "500000", "0");
  EXPECT_EQ(CgroupMemoryLeftBytes(system.root()), 500000);
  system.Write("/proc/self/cgroup", "0::/docker/abc\n");
  EXPECT_EQ(CgroupMemoryLeftBytes(system.root()), 600000);
  system.Write("/proc/self/cgroup", "0::/docker/abcdef/inner\n");  // another group whose name only begins alike
  EXPECT_EQ(CgroupMemoryLeftBytes(system.root()), 600000);
}

TEST(Cgroup, PathOutsideOfTheNamespaceFallsBackToTheMountPoint) {
  testing::FakeSystem system;
  system.Write("/proc/self/mountinfo", kMountV2);
  system.Write("/proc/self/cgroup", "0::/../../elsewhere\n");
  WriteV2Group(&system, "", "600000", "1");
  EXPECT_EQ(CgroupMemoryLeftBytes(system.root()), 599999);
}

TEST(Cgroup, CpuQuotaOfBothVersionsIsQuotaOverPeriod) {
  testing::FakeSystem system;
  system.Write("/proc/self/mountinfo",
               std::string(kMountV1) + "34 23 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  system.Write("/proc/self/cgroup", "2:cpu,cpuacct:/job\n0::/job\n");
  system.Write("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "250000\n");
  system.Write("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  EXPECT_DOUBLE_EQ(CgroupCpuQuota(system.root()), 2.5);
  system.Write("/sys/fs/cgroup/unified/job/cpu.max", "150000 100000\n");
  EXPECT_DOUBLE_EQ(CgroupCpuQuota(system.root()), 1.5);
  system.Write("/sys/fs/cgroup/unified/job/cpu.max", "max 100000\n");
  system.Write("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(CgroupCpuQuota(system.root()), 0);
}

TEST(Cgroup, MalformedFilesAreNoLimit) {
  testing::FakeSystem system;
  system.Write("/proc/self/mountinfo", std::string("x\n\n - \n1 2 3 - cgroup2\n") + kMountV2);
  system.Write("/proc/self/cgroup", "no colons\n1:\n0::/a\n");
  WriteV2Group(&system, "/a", "99999999999999999999999", "-5", "inactive_file\n");
  system.Write("/sys/fs/cgroup/a/cpu.max", "-100 0\n");
  EXPECT_EQ(CgroupMemoryLeftBytes(system.root()), -1);
  EXPECT_EQ(CgroupCpuQuota(system.root()), 0);
}

}  // namespace
}  // namespace pantry
