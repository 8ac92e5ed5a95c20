// SPDX-License-Identifier: Apache-2.0
#include "sys/isa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace pantry {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Isa, NamesParseBack) {
  for (const Isa isa : kAllIsas) EXPECT_EQ(ParseIsa(IsaName(isa)).value(), isa);
}

TEST(Isa, UnknownNameIsRefusedWithTheListOfNames) {
  for (const char* name : {"", "avx", "AVX2", "avx2 "}) {
    const auto refused = ParseIsa(name);
    ASSERT_FALSE(refused.ok()) << name;
    EXPECT_EQ(refused.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("choose one of: " + IsaNames(", ")));
  }
}

TEST(Isa, LevelComesAfterThoseThatItIncludes) {
  for (const Isa a : kAllIsas) {
    EXPECT_TRUE(IsaIncludes(a, a)) << IsaName(a);
    EXPECT_TRUE(IsaIncludes(a, Isa::kScalar)) << IsaName(a);
    for (const Isa b : kAllIsas) {
      EXPECT_FALSE(a < b && IsaIncludes(a, b)) << IsaName(a) << " " << IsaName(b);
    }
  }
}

TEST(Isa, WhatALevelIncludesIsAChain) {  // so "the best level that a fallback may use" is one, not several
  for (const Isa a : kAllIsas) {
    for (const Isa b : kAllIsas) {
      for (const Isa c : kAllIsas) {
        if (IsaIncludes(a, b) && IsaIncludes(a, c)) {
          EXPECT_TRUE(IsaIncludes(b, c) || IsaIncludes(c, b)) << IsaName(a) << ": " << IsaName(b) << ", " << IsaName(c);
        }
        EXPECT_FALSE(IsaIncludes(a, b) && IsaIncludes(b, c) && !IsaIncludes(a, c));
      }
    }
  }
}

TEST(Isa, VnniOfAvx2AndAvx512AreNoChain) {
  EXPECT_FALSE(IsaIncludes(Isa::kAvx512, Isa::kAvx2Vnni));      // Skylake-X
  EXPECT_FALSE(IsaIncludes(Isa::kAvx512Vnni, Isa::kAvx2Vnni));  // Zen 4
  EXPECT_FALSE(IsaIncludes(Isa::kAvx2Vnni, Isa::kAvx512));      // Alder Lake
  EXPECT_TRUE(IsaIncludes(Isa::kAvx2Vnni, Isa::kAvx2));
  EXPECT_TRUE(IsaIncludes(Isa::kAvx512Bf16, Isa::kAvx512Vnni));
  EXPECT_TRUE(IsaIncludes(Isa::kAmxInt8, Isa::kAvx512Bf16));
  EXPECT_TRUE(IsaIncludes(Isa::kNeonI8mm, Isa::kNeonDotprod));
}

TEST(Isa, LevelsOfTwoArchitecturesShareScalarOnly) {
  for (const Isa x86 :
       {Isa::kX86V2, Isa::kAvx2, Isa::kAvx2Vnni, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16, Isa::kAmxInt8}) {
    for (const Isa arm : {Isa::kNeon, Isa::kNeonDotprod, Isa::kNeonI8mm}) {
      EXPECT_FALSE(IsaIncludes(x86, arm) || IsaIncludes(arm, x86)) << IsaName(x86) << " " << IsaName(arm);
    }
  }
}

TEST(Isa, NothingAboveTheBestLevelIsSupportedAndAllThatItIncludesIs) {
  EXPECT_TRUE(IsaSupported(Isa::kScalar));
  EXPECT_TRUE(IsaSupported(BestIsa()));
  for (const Isa isa : kAllIsas) {
    EXPECT_EQ(RequireIsa(isa).ok(), IsaSupported(isa)) << IsaName(isa);
    EXPECT_FALSE(isa > BestIsa() && IsaSupported(isa)) << IsaName(isa);
    EXPECT_FALSE(IsaIncludes(BestIsa(), isa) && !IsaSupported(isa)) << IsaName(isa);
  }
}

#if defined(__x86_64__)
TEST(Isa, BestLevelOfKnownCpus) {
  constexpr uint32_t kV2 = kFeatureX86V2, kV3 = kV2 | kFeatureX86V3, kV4 = kV3 | kFeatureX86V4;
  EXPECT_EQ(BestIsaOf(0), Isa::kScalar);
  EXPECT_EQ(BestIsaOf(kV2), Isa::kX86V2);                                                 // Nehalem
  EXPECT_EQ(BestIsaOf(kV3), Isa::kAvx2);                                                  // Haswell
  EXPECT_EQ(BestIsaOf(kV3 | kFeatureAvxVnni), Isa::kAvx2Vnni);                            // Alder Lake
  EXPECT_EQ(BestIsaOf(kV4), Isa::kAvx512);                                                // Skylake-X
  EXPECT_EQ(BestIsaOf(kV4 | kFeatureAvx512Vnni), Isa::kAvx512Vnni);                       // Cascade Lake
  EXPECT_EQ(BestIsaOf(kV4 | kFeatureAvx512Vnni | kFeatureAvx512Bf16), Isa::kAvx512Bf16);  // Zen 4
  EXPECT_EQ(BestIsaOf(kV4 | kFeatureAvx512Vnni | kFeatureAvx512Bf16 | kFeatureAvxVnni), Isa::kAvx512Bf16);  // Zen 5
  EXPECT_EQ(BestIsaOf(kV4 | kFeatureAvx512Vnni | kFeatureAvx512Bf16 | kFeatureAvxVnni | kFeatureAmxInt8),
            Isa::kAmxInt8);                                     // Sapphire Rapids
  EXPECT_EQ(BestIsaOf(kV2 | kFeatureAvx512Vnni), Isa::kX86V2);  // a virtual machine that hides AVX2
}

TEST(Isa, LevelOfAnotherArchitectureIsRefusedAsSuch) {
  const Status refused = RequireIsa(Isa::kNeonDotprod);
  EXPECT_EQ(refused.code(), StatusCode::kUnsupported);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("'neon-dotprod' is not on this architecture, x86-64"));
  EXPECT_THAT(IsaNames(" "), Not(HasSubstr("neon")));
}

TEST(Isa, DetectionAgreesWithTheCompilersOwn) {
  __builtin_cpu_init();
  EXPECT_TRUE(IsaSupported(Isa::kX86V2));  // this test is compiled for it
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  EXPECT_EQ(IsaSupported(Isa::kAvx2), avx2);
  EXPECT_EQ(IsaSupported(Isa::kAvx2Vnni), avx2 && __builtin_cpu_supports("avxvnni"));
  EXPECT_EQ(IsaSupported(Isa::kAvx512), avx512);
  EXPECT_EQ(IsaSupported(Isa::kAvx512Vnni), vnni);
  EXPECT_EQ(IsaSupported(Isa::kAvx512Bf16), vnni && __builtin_cpu_supports("avx512bf16"));
}
#elif defined(__aarch64__)
TEST(Isa, BestLevelOfKnownCpus) {
  EXPECT_EQ(BestIsaOf(kFeatureNeon), Isa::kNeon);                                       // Cortex-A53, Cortex-A72
  EXPECT_EQ(BestIsaOf(kFeatureNeon | kFeatureDotprod), Isa::kNeonDotprod);              // Cortex-A76, Neoverse N1
  EXPECT_EQ(BestIsaOf(kFeatureNeon | kFeatureDotprod | kFeatureI8mm), Isa::kNeonI8mm);  // Neoverse V1
  EXPECT_EQ(BestIsaOf(kFeatureNeon | kFeatureI8mm), Isa::kNeon);
}

TEST(Isa, DetectionAgreesWithTheIdRegisters) {
  if ((getauxval(AT_HWCAP) & HWCAP_CPUID) == 0) GTEST_SKIP() << "this system does not let programs read them";
  uint64_t isar0, isar1;
  __asm__("mrs %0, ID_AA64ISAR0_EL1" : "=r"(isar0));
  __asm__("mrs %0, ID_AA64ISAR1_EL1" : "=r"(isar1));
  const bool dotprod = (isar0 >> 44 & 15) != 0, i8mm = (isar1 >> 52 & 15) != 0;
  EXPECT_TRUE(IsaSupported(Isa::kNeon));  // this test is compiled for it
  EXPECT_EQ(IsaSupported(Isa::kNeonDotprod), dotprod);
  EXPECT_EQ(IsaSupported(Isa::kNeonI8mm), dotprod && i8mm);
}
#endif

}  // namespace
}  // namespace pantry
