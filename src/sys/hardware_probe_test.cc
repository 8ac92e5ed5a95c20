// SPDX-License-Identifier: Apache-2.0
#include "sys/hardware_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/units.h"

namespace pantry {
namespace {

using ::testing::ElementsAre;

// Too short to be exact.
ProbeOptions Short() {
  ProbeOptions options;
  options.seconds = 0.002;
  options.buffer_bytes = 8 * kMiB;
  return options;
}

TEST(HardwareProbe, ThreadCountsDoubleUpToTheCoresAndEndWithAllCpus) {
  EXPECT_THAT(ProbedThreadCounts(1, 1), ElementsAre(1));
  EXPECT_THAT(ProbedThreadCounts(2, 2), ElementsAre(1, 2));
  EXPECT_THAT(ProbedThreadCounts(6, 12), ElementsAre(1, 2, 4, 6, 12));
  EXPECT_THAT(ProbedThreadCounts(8, 16), ElementsAre(1, 2, 4, 8, 16));
}

// Instructions of a level do what their rates are named for: nothing is optimised away, so nothing is faster than a CPU can be.
TEST(HardwareProbe, RatesOfEveryLevelAreThoseOfACpu) {
  for (const Isa isa : kBuildIsas) {
    if (!IsaSupported(isa)) continue;
    SCOPED_TRACE(IsaName(isa));
    HardwareProfile profile = DescribeMachine();
    profile.n_usable_cores = profile.n_usable_cpus = 1;
    ProbeOptions options = Short();
    options.isa = isa;
    ASSERT_TRUE(MeasureCpu(options, nullptr, profile).ok());
    ASSERT_EQ(profile.dram_read_bytes_per_s.size(), 1u);
    EXPECT_GT(profile.dram_read_bytes_per_s[0].per_s, 1e7);
    EXPECT_LT(profile.dram_read_bytes_per_s[0].per_s, 2e12);
    EXPECT_GT(profile.int8_ops_per_s[0].per_s, 1e6);
    EXPECT_LT(profile.int8_ops_per_s[0].per_s, 1e13);
    EXPECT_GT(profile.f32_flops[0].per_s, 1e6);
    EXPECT_LT(profile.f32_flops[0].per_s, 1e12);
  }
}

TEST(HardwareProbe, EveryThreadCountIsMeasured) {
  HardwareProfile profile = DescribeMachine();
  profile.n_usable_cores = 2;
  profile.n_usable_cpus = 3;
  std::vector<std::string> seen;
  const auto progress = [&](std::string_view what) {
    if (seen.empty() || seen.back() != what) seen.emplace_back(what);
    return true;
  };
  ASSERT_TRUE(MeasureCpu(Short(), progress, profile).ok());
  for (const auto* rates : {&profile.dram_read_bytes_per_s, &profile.int8_ops_per_s, &profile.f32_flops}) {
    ASSERT_EQ(rates->size(), 3u);
    EXPECT_EQ((*rates)[0].n_threads, 1);
    EXPECT_EQ((*rates)[1].n_threads, 2);
    EXPECT_EQ((*rates)[2].n_threads, 3);
  }
  EXPECT_EQ(seen.size(), 10u);             // the filling, then three figures for each thread count
  EXPECT_EQ(seen[3], "memory, 1 thread");  // behind the arithmetic, which wakes the cores up
}

TEST(HardwareProbe, HandingOverTakesTwoCpusAndSomeTime) {
  HardwareProfile profile = DescribeMachine();
  profile.n_usable_cores = profile.n_usable_cpus = 1;
  ASSERT_TRUE(MeasureCpu(Short(), nullptr, profile).ok());
  EXPECT_EQ(profile.handoff_ns, 0);
  if (DescribeMachine().n_usable_cpus < 2) GTEST_SKIP() << "one CPU";
  profile.n_usable_cpus = 2;
  for (int i = 0; i < 20 && profile.handoff_ns == 0; ++i) {  // 0: others had the CPUs
    ASSERT_TRUE(MeasureCpu(Short(), nullptr, profile).ok());
  }
  EXPECT_GT(profile.handoff_ns, 1);
  EXPECT_LT(profile.handoff_ns, 2e7);
}

TEST(HardwareProbe, StopsWhenAsked) {
  HardwareProfile profile = DescribeMachine();
  int n_calls = 0;
  const Status status = MeasureCpu(Short(), [&](std::string_view) { return ++n_calls < 3; }, profile);
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_EQ(n_calls, 3);
}

}  // namespace
}  // namespace pantry
