// SPDX-License-Identifier: Apache-2.0
#include "sys/isa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace pantry {
namespace {

TEST(Isa, NamesParseBack) {
  for (const Isa isa : kAllIsas) EXPECT_EQ(ParseIsa(IsaName(isa)).value(), isa);
}

TEST(Isa, UnknownNameIsRefusedWithTheListOfNames) {
  for (const char* name : {"", "avx", "AVX2", "avx2 "}) {
    const auto refused = ParseIsa(name);
    ASSERT_FALSE(refused.ok()) << name;
    EXPECT_EQ(refused.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.status().message()), ::testing::HasSubstr("scalar, avx2, avx512-vnni"));
  }
}

TEST(Isa, EveryLevelUpToTheBestIsSupportedAndNoneAbove) {
  EXPECT_TRUE(IsaSupported(Isa::kScalar));
  for (const Isa isa : kAllIsas) EXPECT_EQ(IsaSupported(isa), isa <= BestIsa());
}

#if defined(__x86_64__)
TEST(Isa, DetectionAgreesWithTheCompilersOwn) {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512vnni");
  EXPECT_EQ(IsaSupported(Isa::kAvx2), avx2);
  EXPECT_EQ(IsaSupported(Isa::kAvx512Vnni), avx2 && avx512);
}
#endif

}  // namespace
}  // namespace pantry
