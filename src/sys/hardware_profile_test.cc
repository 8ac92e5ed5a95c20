// SPDX-License-Identifier: Apache-2.0
#include "sys/hardware_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "sys/fake_system.h"

namespace pantry {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

HardwareProfile Example() {
  HardwareProfile profile;
  profile.measured_at = "2026-01-31T12:00:00Z";
  profile.pantry_version = "1.2.3";
  profile.cpu_name = "A CPU \"of\" 3 GHz";
  profile.architecture = "x86-64";
  profile.isas = {"scalar", "avx2"};
  profile.n_logical_cpus = 8;
  profile.n_physical_cores = 4;
  profile.n_usable_cpus = 6;
  profile.n_usable_cores = 3;
  profile.cpu_quota = 6.5;
  profile.n_numa_nodes = 2;
  profile.caches = {{"L1d", 32768, 4, 2}, {"L3", 33554432, 1, 8}};
  profile.memory = {int64_t{1} << 40, 123456789, 0, 2147483648, 4096, 2097152, "madvise"};
  profile.pressure = {0.25, 0, -1};
  profile.dram_read_bytes_per_s = {{1, 2.05e10}, {2, 3.4123456789e10}};
  profile.int8_ops_per_s = {{1, 4.7e11}, {2, 9.4e11}};
  profile.f32_flops = {{1, 1.17e11}};
  profile.handoff_ns = 31.5;
  profile.disk = DiskProfile{"/models/a.gguf",
                             4000000000,
                             "ext4",
                             "/dev/vda",
                             true,
                             2.1e9,
                             {{4096, 1, 3.0e7, 136.5}, {4096, 4, 1.2e8, 140}},
                             "2026-01-30T12:00:00Z"};
  return profile;
}

// A change of the example's JSON at a JSON pointer, read back.
Status ReadChanged(const std::string& pointer, const Json& value) {
  Json json = Json::parse(ToJson(Example()));
  json[Json::json_pointer(pointer)] = value;
  return HardwareProfileFromJson(json.dump(), "x.json").status();
}

TEST(HardwareProfile, JsonHoldsEverything) {
  const std::string json = ToJson(Example());
  const Result<HardwareProfile> read = HardwareProfileFromJson(json, "x.json");
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(ToJson(*read), json);
  EXPECT_EQ(read->caches[1].shared_by, 8);
  EXPECT_EQ(read->disk->random[1].queue_depth, 4);
  EXPECT_EQ(read->dram_read_bytes_per_s[1].per_s, 3.4123456789e10);
  EXPECT_EQ(read->memory.cgroup_limit_bytes, 2147483648);
  EXPECT_EQ(read->handoff_ns, 31.5);
}

TEST(HardwareProfile, DiskMayBeMissing) {
  HardwareProfile profile = Example();
  profile.disk.reset();
  const Result<HardwareProfile> read = HardwareProfileFromJson(ToJson(profile), "x.json");
  ASSERT_TRUE(read.ok());
  EXPECT_FALSE(read->disk.has_value());
}

TEST(HardwareProfile, BadJsonSaysWhatWhereAndHowToMendIt) {
  const Status cut = HardwareProfileFromJson(ToJson(Example()).substr(0, 200), "x.json").status();
  EXPECT_EQ(cut.code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(cut.message()), HasSubstr("x.json"));
  EXPECT_THAT(std::string(cut.message()), HasSubstr("pantry doctor"));
  struct Case {
    const char* pointer;
    Json value;
    const char* message;
  };
  const Case cases[] = {
      {"/cpu_name", 7, "'cpu_name': expected a text"},
      {"/caches/1/bytes", "32K", "'caches[1].bytes': expected a whole number"},
      {"/caches/0", 1, "'caches[0]': expected an object"},
      {"/n_usable_cpus", 0, "no usable CPU"},
      {"/n_usable_cpus", -1, "'n_usable_cpus' is out of range"},
      {"/n_usable_cpus", 1e30, "'n_usable_cpus': expected a whole number"},
      {"/memory/total_bytes", 18446744073709551615u, "'memory.total_bytes' is out of range"},
      {"/dram_read_bytes_per_s/0/per_s", -5.0, "'dram_read_bytes_per_s[0].per_s' is out of range"},
      {"/int8_ops_per_s/1/n_threads", 1, "'int8_ops_per_s': thread counts do not ascend"},
      {"/f32_flops", Json::object(), "'f32_flops': expected a list"},
      {"/disk/direct", 1, "'disk.direct': expected true or false"},
      {"/disk/random/1", Json::object(), "'disk.random[1].block_bytes' is missing"},
  };
  for (const Case& c : cases) {
    const Status status = ReadChanged(c.pointer, c.value);
    EXPECT_EQ(status.code(), StatusCode::kCorruption) << c.pointer;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message)) << c.pointer;
  }
}

TEST(HardwareProfile, AnotherSchemaIsNotRead) {
  EXPECT_EQ(ReadChanged("/schema", HardwareProfile::kSchema + 1).code(), StatusCode::kUnsupported);
  EXPECT_EQ(ReadChanged("/schema", "1").code(), StatusCode::kCorruption);
}

TEST(HardwareProfile, FileIsReadAsWritten) {
  testing::FakeSystem system;
  const std::string path = system.root() + "/a/b/hardware.json";
  EXPECT_EQ(LoadHardwareProfile(path).status().code(), StatusCode::kNotFound);
  ASSERT_TRUE(SaveHardwareProfile(Example(), path).ok());
  const Result<HardwareProfile> read = LoadHardwareProfile(path);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(ToJson(*read), ToJson(Example()));
}

TEST(HardwareProfile, FailedSaveLeavesTheOldFileAndNoOther) {
  testing::FakeSystem system;
  const std::string path = system.root() + "/hardware.json";
  ASSERT_TRUE(SaveHardwareProfile(Example(), path).ok());
  // A folder in the place of the file: the last step, the renaming, fails, for root too.
  const std::string blocked = system.root() + "/blocked/hardware.json";
  std::filesystem::create_directories(blocked + "/inside");
  const Status status = SaveHardwareProfile(Example(), blocked);
  EXPECT_EQ(status.code(), StatusCode::kIoError);
  EXPECT_THAT(std::string(status.message()), HasSubstr(blocked));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(system.root() + "/blocked"), {}), 1);
  const Status no_folder = SaveHardwareProfile(Example(), path + "/below/a/file.json");
  EXPECT_EQ(no_folder.code(), StatusCode::kIoError);
  EXPECT_TRUE(LoadHardwareProfile(path).ok());
}

TEST(HardwareProfile, HugeFileIsRefused) {
  testing::FakeSystem system;
  system.Write("/hardware.json", std::string(2 << 20, ' '));
  EXPECT_EQ(LoadHardwareProfile(system.root() + "/hardware.json").status().code(), StatusCode::kCorruption);
}

TEST(HardwareProfile, RatesBetweenThreadCountsAreInterpolated) {
  const std::vector<ThreadRate> rates = {{1, 10}, {2, 18}, {6, 22}};
  EXPECT_EQ(RateFor(rates, 1), 10);
  EXPECT_EQ(RateFor(rates, 2), 18);
  EXPECT_EQ(RateFor(rates, 4), 20);
  EXPECT_EQ(RateFor(rates, 100), 22);
  EXPECT_EQ(RateFor(rates, 0), 0);
  EXPECT_EQ(RateFor({}, 4), 0);
  EXPECT_EQ(BestRate(rates), 22);
  EXPECT_EQ(FewestThreadsFor(rates, 0.8), 2);
  EXPECT_EQ(FewestThreadsFor(rates, 1), 6);
  EXPECT_EQ(FewestThreadsFor({}, 1), 0);
}

TEST(HardwareProfile, IsStaleOnAnotherCpuOrWithOtherCores) {
  const HardwareProfile stored = Example();
  HardwareProfile now = Example();
  now.memory.available_bytes = 1;  // changes all the time
  now.dram_read_bytes_per_s.clear();
  EXPECT_THAT(WhyStale(stored, now), IsEmpty());
  now.n_usable_cpus = 2;
  EXPECT_THAT(WhyStale(stored, now), HasSubstr("6 usable CPUs"));
  now = Example();
  now.cpu_name = "Another";
  EXPECT_THAT(WhyStale(stored, now), HasSubstr("'Another'"));
  now = Example();
  now.isas = {"scalar"};
  EXPECT_THAT(WhyStale(stored, now), HasSubstr("instruction sets"));
}

// A machine of 4 cores with two hyperthreads each, of which CPUs 0-2 and 4 may be used.
void WriteMachine(testing::FakeSystem& system) {
  system.Write("/proc/cpuinfo", "processor\t: 0\nmodel name\t: Fake CPU @ 3 GHz\nflags\t: a b\n");
  system.Write("/sys/devices/system/cpu/online", "0-7\n");
  system.Write("/proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-2,4,60-70\nMems_allowed:\t1\n");
  system.Write("/sys/devices/system/node/online", "0-1\n");
  for (int cpu = 0; cpu < 8; ++cpu) {
    const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu);
    const std::string pair = std::to_string(cpu % 4) + "," + std::to_string(cpu % 4 + 4) + "\n";
    system.Write(folder + "/topology/core_cpus_list", pair);
    const std::string half = cpu % 4 < 2 ? "0-1,4-5\n" : "2-3,6-7\n";
    const std::string caches[][4] = {{"1", "Data", "48K", pair},
                                     {"1", "Instruction", "32K", pair},
                                     {"2", "Unified", "2048K", pair},
                                     {"3", "Unified", "32M", half}};
    for (size_t i = 0; i < 4; ++i) {
      const std::string index = folder + "/cache/index" + std::to_string(i);
      system.Write(index + "/level", caches[i][0] + "\n");
      system.Write(index + "/type", caches[i][1] + "\n");
      system.Write(index + "/size", caches[i][2] + "\n");
      system.Write(index + "/shared_cpu_list", caches[i][3]);
    }
  }
  system.Write("/proc/meminfo",
               "MemTotal:       16000000 kB\nMemAvailable:    9000000 kB\nSwapTotal:             0 kB\n");
  system.Write("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
  system.Write("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n");
  system.Write("/proc/pressure/cpu", "some avg10=12.50 avg60=0.00 avg300=0.00 total=1\n");
  system.Write("/proc/self/cgroup", "0::/box\n");
  system.Write("/proc/self/mountinfo", "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  system.Write("/sys/fs/cgroup/box/memory.max", "max\n");
  system.Write("/sys/fs/cgroup/box/memory.high", "2000000000\n");
  system.Write("/sys/fs/cgroup/box/memory.current", "500000000\n");
}

TEST(DescribeMachine, CountsCoresAndCachesOfTheUsableCpus) {
  testing::FakeSystem system;
  WriteMachine(system);
  const HardwareProfile profile = DescribeMachine(system.root());
  EXPECT_EQ(profile.cpu_name, "Fake CPU @ 3 GHz");
  EXPECT_EQ(profile.n_logical_cpus, 8);
  EXPECT_EQ(profile.n_physical_cores, 4);
  EXPECT_EQ(profile.n_usable_cpus, 4);  // 0, 1, 2, 4
  EXPECT_EQ(profile.n_usable_cores, 3);
  EXPECT_EQ(profile.n_numa_nodes, 2);
  ASSERT_EQ(profile.caches.size(), 3u);  // no instruction cache
  EXPECT_EQ(profile.caches[0].name, "L1d");
  EXPECT_EQ(profile.caches[0].bytes, 48 << 10);
  EXPECT_EQ(profile.caches[0].n_instances, 3);
  EXPECT_EQ(profile.caches[0].shared_by, 2);
  EXPECT_EQ(profile.caches[2].name, "L3");
  EXPECT_EQ(profile.caches[2].bytes, 32 << 20);
  EXPECT_EQ(profile.caches[2].n_instances, 2);
  EXPECT_EQ(profile.caches[2].shared_by, 4);
}

TEST(DescribeMachine, ReadsMemoryLimitsAndPressure) {
  testing::FakeSystem system;
  WriteMachine(system);
  const HardwareProfile profile = DescribeMachine(system.root());
  EXPECT_EQ(profile.memory.total_bytes, int64_t{16000000} * 1024);
  EXPECT_EQ(profile.memory.available_bytes, 1500000000);  // the control group's rest
  EXPECT_EQ(profile.memory.cgroup_limit_bytes, 2000000000);
  EXPECT_EQ(profile.memory.swap_bytes, 0);
  EXPECT_EQ(profile.memory.huge_pages, "madvise");
  EXPECT_EQ(profile.memory.huge_page_bytes, 2 << 20);
  EXPECT_EQ(profile.pressure.cpu, 0.125);
  EXPECT_EQ(profile.pressure.io, -1);
}

TEST(DescribeMachine, LimitOfVersion1ThatMeansNoneIsNone) {
  testing::FakeSystem system;
  system.Write("/proc/self/cgroup", "4:memory:/box\n");
  system.Write("/proc/self/mountinfo", "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  system.Write("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "9223372036854771712\n");
  system.Write("/sys/fs/cgroup/memory/box/memory.usage_in_bytes", "4096\n");
  EXPECT_EQ(DescribeMachine(system.root()).memory.cgroup_limit_bytes, -1);
  system.Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "3000000000\n");
  EXPECT_EQ(DescribeMachine(system.root()).memory.cgroup_limit_bytes, 3000000000);
}

TEST(DescribeMachine, ArmBoardIsNamedByTheDeviceTree) {
  testing::FakeSystem system;
  system.Write("/proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n");
  EXPECT_EQ(DescribeMachine(system.root()).cpu_name, "implementer 0x41 part 0xd0b");
  system.Write("/sys/firmware/devicetree/base/model", std::string("Some Board 5\0", 13));
  EXPECT_EQ(DescribeMachine(system.root()).cpu_name, "Some Board 5 (implementer 0x41 part 0xd0b)");
}

TEST(DescribeMachine, WithoutAnyFileStillHasACpu) {
  testing::FakeSystem system;
  const HardwareProfile profile = DescribeMachine(system.root());
  EXPECT_GE(profile.n_usable_cores, 1);
  EXPECT_GE(profile.n_usable_cpus, 1);
  EXPECT_EQ(profile.memory.total_bytes, -1);
  EXPECT_THAT(profile.caches, IsEmpty());
  EXPECT_TRUE(HardwareProfileFromJson(ToJson(profile), "x").ok());
}

TEST(DescribeMachine, ThisMachineCanBeDescribed) {
  const HardwareProfile profile = DescribeMachine();
  EXPECT_FALSE(profile.cpu_name.empty());
  EXPECT_FALSE(profile.isas.empty());
  EXPECT_LE(profile.n_usable_cores, profile.n_usable_cpus);
  EXPECT_LE(profile.n_usable_cpus, profile.n_logical_cpus);
}

}  // namespace
}  // namespace pantry
