// SPDX-License-Identifier: Apache-2.0
// The instruction-set levels that Pantry has kernels for, and which of them this CPU can run.
//
// One binary carries all levels of its architecture; a kernel is chosen at run time (`--isa` forces one). A level is a set of CPU
// features, and levels are no chain: a Skylake-X has AVX512 but no AVX-VNNI, a Zen 4 has AVX512-VNNI but no AVX-VNNI, an Alder Lake the
// other way round. Level a *includes* level b when it asks for all that b asks for: then a CPU of level a runs b's kernels, and a may fall
// back to them. The enum lists the levels so that a level comes after those it includes, and a faster one after a slower.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace pantry {

enum class Isa : uint8_t {
  kScalar,      // portable C++: the truth that every other level is compared with
  kX86V2,       // x86-64-v2: SSSE3 and SSE4.1 (2008 on)
  kAvx2,        // x86-64-v3: AVX2, FMA, F16C, BMI2 (Haswell, Zen and later)
  kAvx2Vnni,    // AVX2 plus AVX-VNNI: the dot product on 256 bits (Alder Lake, Zen 5 and later)
  kAvx512,      // x86-64-v4 (Skylake-X)
  kAvx512Vnni,  // x86-64-v4 plus AVX512-VNNI (Cascade Lake, Zen 4 and later)
  kAvx512Bf16,  // AVX512-VNNI plus AVX512-BF16 (Cooper Lake, Zen 4 and later)
  kAmxInt8,  // AVX512-BF16 plus AMX-INT8: matrix registers (Sapphire Rapids and later); its peak is taken to be AVX512-VNNI's
  kNeon,         // aarch64: every CPU
  kNeonDotprod,  // SDOT, UDOT (Neoverse N1, Apple M1 and later)
  kNeonI8mm,     // the 8-bit matrix product, SMMLA (Neoverse V1, Apple M2 and later)
};

// All levels, and those of the architecture that this is compiled for: `--isa` offers these.
inline constexpr Isa kAllIsas[] = {Isa::kScalar, Isa::kX86V2,       Isa::kAvx2,       Isa::kAvx2Vnni,
                                   Isa::kAvx512, Isa::kAvx512Vnni,  Isa::kAvx512Bf16, Isa::kAmxInt8,
                                   Isa::kNeon,   Isa::kNeonDotprod, Isa::kNeonI8mm};
#if defined(__x86_64__)
inline constexpr std::string_view kArchitecture = "x86-64";
inline constexpr Isa kBuildIsas[] = {Isa::kScalar, Isa::kX86V2,      Isa::kAvx2,       Isa::kAvx2Vnni,
                                     Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16, Isa::kAmxInt8};
#elif defined(__aarch64__)
inline constexpr std::string_view kArchitecture = "aarch64";
inline constexpr Isa kBuildIsas[] = {Isa::kScalar, Isa::kNeon, Isa::kNeonDotprod, Isa::kNeonI8mm};
#else
inline constexpr std::string_view kArchitecture = "this architecture";
inline constexpr Isa kBuildIsas[] = {Isa::kScalar};
#endif

// What levels ask of a CPU: a bit per group of features that come together, the operating system's saving of their registers included.
enum CpuFeature : uint32_t {
  kFeatureX86V2 = 1u << 0,       // SSE3, SSSE3, SSE4.1, SSE4.2, POPCNT, CX16
  kFeatureX86V3 = 1u << 1,       // AVX, AVX2, FMA, F16C, BMI2
  kFeatureX86V4 = 1u << 2,       // AVX512 F, BW, CD, DQ, VL
  kFeatureAvxVnni = 1u << 3,     // VEX-encoded
  kFeatureAvx512Vnni = 1u << 4,  // EVEX-encoded
  kFeatureAvx512Bf16 = 1u << 5,
  kFeatureAmxInt8 = 1u << 6,  // AMX-TILE and AMX-INT8; the process has asked for the registers
  kFeatureNeon = 1u << 8,
  kFeatureDotprod = 1u << 9,
  kFeatureI8mm = 1u << 10,
};

std::string_view IsaName(Isa isa);                 // "scalar", "x86-64-v2", "avx512-vnni"
Result<Isa> ParseIsa(std::string_view name);       // the inverse, for all levels; the error lists the build's
std::string IsaNames(std::string_view separator);  // of kBuildIsas

uint32_t IsaFeatures(Isa isa);      // the CpuFeature bits that a level asks for; scalar asks for none
bool HasFusedMultiplyAdd(Isa isa);  // all but x86-64-v2, whose float results may differ in their last bits
bool IsaIncludes(Isa a, Isa b);     // a CPU that runs level a runs level b
Isa BestIsaOf(uint32_t features);   // the last level in kBuildIsas that asks for no more than `features`

uint32_t CpuFeatures();      // of this CPU and operating system
bool IsaSupported(Isa isa);  // by this CPU and operating system
Isa BestIsa();               // BestIsaOf(CpuFeatures())
Status RequireIsa(Isa isa);  // why a level is not supported: another architecture's, or what this CPU runs instead

}  // namespace pantry
