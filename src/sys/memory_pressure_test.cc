// SPDX-License-Identifier: Apache-2.0
#include "sys/memory_pressure.h"

#include <gtest/gtest.h>

#include "sys/fake_system.h"
#include "sys/memory_info.h"

namespace pantry {
namespace {

constexpr int64_t kPlenty = MemoryReading::kPlenty;
constexpr char kMountV1[] = "32 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
constexpr char kMountV2[] = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr char kGroup[] = "/sys/fs/cgroup/user/run";

std::string Stalls(const std::string& some, const std::string& full) {
  return "some avg10=" + some + " avg60=1.00 avg300=2.00 total=7\nfull avg10=" + full +
         " avg60=3.00 avg300=4.00 total=5\n";
}

class MemoryPressureTest : public ::testing::Test {
 protected:
  void MakeV2() {
    system_.Write("/proc/self/mountinfo", kMountV2);
    system_.Write("/proc/self/cgroup", "0::/user/run\n");
    Set("memory.max", "1000000");
    Set("memory.high", "max");
    Set("memory.current", "700000");
    Set("memory.stat", "anon 1\nfile 3\ninactive_file 300000\nactive_file 200000\n");
  }
  void Set(const std::string& file, const std::string& text) { system_.Write(kGroup + ("/" + file), text + "\n"); }
  MemoryReading Read() { return MemoryPressure(system_.root()).Read(); }
  testing::FakeSystem system_;
};

TEST_F(MemoryPressureTest, WhatIsNotThereIsPlenty) {
  const MemoryReading reading = Read();
  EXPECT_EQ(reading.total_bytes, 0);
  EXPECT_EQ(reading.available_bytes, kPlenty);
  EXPECT_EQ(reading.group_limit_bytes, kPlenty);
  EXPECT_EQ(reading.group_left_bytes, kPlenty);
  EXPECT_EQ(reading.some_stalled_percent, 0);
}

TEST_F(MemoryPressureTest, MachineTellsTotalAndAvailable) {
  system_.Write("/proc/meminfo", "MemTotal:        8000 kB\nMemFree:          100 kB\nMemAvailable:    5000 kB\n");
  MemoryPressure pressure(system_.root());
  EXPECT_EQ(pressure.Read().total_bytes, 8000 * 1024);
  EXPECT_EQ(pressure.Read().available_bytes, 5000 * 1024);
  system_.Write("/proc/meminfo", "MemTotal:        8000 kB\nMemFree:          100 kB\nMemAvailable:     400 kB\n");
  EXPECT_EQ(pressure.Read().available_bytes, 400 * 1024) << "read anew each time";
}

TEST_F(MemoryPressureTest, LimitThatIsLoweredIsSeenAtOnceAndMayLeaveLessThanNothing) {
  MakeV2();
  MemoryPressure pressure(system_.root());
  EXPECT_EQ(pressure.Read().group_limit_bytes, 1000000);
  EXPECT_EQ(pressure.Read().group_left_bytes, 1000000 - (700000 - 500000));
  Set("memory.max", "150000");
  EXPECT_EQ(pressure.Read().group_limit_bytes, 150000);
  EXPECT_EQ(pressure.Read().group_left_bytes, -50000);
  Set("memory.max", "max");
  EXPECT_EQ(pressure.Read().group_limit_bytes, kPlenty);
  EXPECT_EQ(pressure.Read().group_left_bytes, kPlenty);
  Set("memory.high", "900000");
  EXPECT_EQ(pressure.Read().group_limit_bytes, 900000);
}

TEST_F(MemoryPressureTest, TightestLimitAndLeastRoomMayBeOfDifferentGroups) {
  MakeV2();
  system_.Write("/sys/fs/cgroup/user/memory.max", "5000000\n");
  system_.Write("/sys/fs/cgroup/user/memory.current", "4900000\n");
  EXPECT_EQ(Read().group_limit_bytes, 1000000);
  EXPECT_EQ(Read().group_left_bytes, 100000);
}

TEST_F(MemoryPressureTest, Version1IsReadFromItsOwnHierarchy) {
  system_.Write("/proc/self/mountinfo", kMountV1);
  system_.Write("/proc/self/cgroup", "4:memory:/job\n");
  const std::string group = "/sys/fs/cgroup/memory/job/";
  system_.Write(group + "memory.limit_in_bytes", "800000\n");
  system_.Write(group + "memory.usage_in_bytes", "600000\n");
  system_.Write(group + "memory.stat", "inactive_file 1\ntotal_inactive_file 100000\ntotal_active_file 50000\n");
  system_.Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(Read().group_limit_bytes, 800000);
  EXPECT_EQ(Read().group_left_bytes, 800000 - (600000 - 150000));
}

TEST_F(MemoryPressureTest, StallsAreTheOwnGroupsOrTheNearestParentsOrTheMachines) {
  MakeV2();
  EXPECT_EQ(Read().some_stalled_percent, 0);
  system_.Write("/proc/pressure/memory", Stalls("1.25", "0.50"));
  EXPECT_DOUBLE_EQ(Read().some_stalled_percent, 1.25);
  EXPECT_DOUBLE_EQ(Read().all_stalled_percent, 0.5);
  system_.Write("/sys/fs/cgroup/memory.pressure", Stalls("12.00", "0.00"));
  EXPECT_DOUBLE_EQ(Read().some_stalled_percent, 12);
  Set("memory.pressure", Stalls("99.99", "3.00"));
  EXPECT_DOUBLE_EQ(Read().some_stalled_percent, 99.99);
  EXPECT_DOUBLE_EQ(Read().all_stalled_percent, 3);
}

TEST_F(MemoryPressureTest, MalformedFilesArePlenty) {
  MakeV2();
  system_.Write("/proc/meminfo", "MemTotal\nMemAvailable: much\n");
  for (const char* text : {"", "some", "some avg10=", "avg10=5", "full avg10=x", "some avg60=3"}) {
    system_.Write("/proc/pressure/memory", text);
    EXPECT_EQ(Read().some_stalled_percent, 0) << text;
    EXPECT_EQ(Read().all_stalled_percent, 0) << text;
  }
  Set("memory.max", "99999999999999999999999");
  EXPECT_EQ(Read().available_bytes, kPlenty);
  EXPECT_EQ(Read().group_limit_bytes, kPlenty);
  Set("memory.max", "1000");
  Set("memory.current", "-5");
  EXPECT_EQ(Read().group_limit_bytes, 1000);
  EXPECT_EQ(Read().group_left_bytes, kPlenty);
}

TEST(MemoryPressure, OfThisMachineAgreesWithMemoryInfo) {
  const int64_t available = AvailableMemoryBytes();
  if (available < 0) GTEST_SKIP() << "this system does not say";
  MemoryPressure pressure;
  const MemoryReading reading = pressure.Read();
  const int64_t seen = std::min(reading.available_bytes, reading.group_left_bytes);
  EXPECT_GT(reading.total_bytes, reading.available_bytes);
  EXPECT_NEAR(static_cast<double>(seen), static_cast<double>(available), static_cast<double>(reading.total_bytes) / 4);
}

}  // namespace
}  // namespace pantry
