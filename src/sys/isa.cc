// SPDX-License-Identifier: Apache-2.0
#include "sys/isa.h"

#include <algorithm>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace pantry {
namespace {

struct Level {
  std::string_view name;
  uint32_t features;
};

constexpr uint32_t kV3 = kFeatureX86V2 | kFeatureX86V3;
constexpr uint32_t kV4 = kV3 | kFeatureX86V4;

Level LevelOf(Isa isa) {
  switch (isa) {
    case Isa::kScalar: return {"scalar", 0};
    case Isa::kX86V2: return {"x86-64-v2", kFeatureX86V2};
    case Isa::kAvx2: return {"avx2", kV3};
    case Isa::kAvx2Vnni: return {"avx2-vnni", kV3 | kFeatureAvxVnni};
    case Isa::kAvx512: return {"avx512", kV4};
    case Isa::kAvx512Vnni: return {"avx512-vnni", kV4 | kFeatureAvx512Vnni};
    case Isa::kAvx512Bf16: return {"avx512-bf16", kV4 | kFeatureAvx512Vnni | kFeatureAvx512Bf16};
    case Isa::kAmxInt8: return {"amx-int8", kV4 | kFeatureAvx512Vnni | kFeatureAvx512Bf16 | kFeatureAmxInt8};
    case Isa::kNeon: return {"neon", kFeatureNeon};
    case Isa::kNeonDotprod: return {"neon-dotprod", kFeatureNeon | kFeatureDotprod};
    case Isa::kNeonI8mm: return {"neon-i8mm", kFeatureNeon | kFeatureDotprod | kFeatureI8mm};
  }
  return {"unknown", ~0u};
}

#if defined(__x86_64__)
// Register state that the operating system saves at a context switch; without it the instructions fault although the CPU has them.
uint64_t EnabledState() {
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

struct CpuidLeaf {
  CpuidLeaf() = default;
  CpuidLeaf(uint32_t leaf, uint32_t sub_leaf) { __get_cpuid_count(leaf, sub_leaf, &eax, &ebx, &ecx, &edx); }
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;  // all zero where the CPU does not have the leaf
};

constexpr bool HasAll(uint64_t bits, uint64_t wanted) { return (bits & wanted) == wanted; }

// Linux gives a process the matrix registers, 8 KiB a thread, only if it asks (from 5.16 on); all its threads have them then.
bool AskForMatrixRegisters() {
#if defined(__linux__)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, of <asm/prctl.h>
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

uint32_t DetectFeatures() {
  constexpr uint32_t kSse3 = 1u << 0, kSsse3 = 1u << 9, kFma = 1u << 12, kCx16 = 1u << 13, kSse41 = 1u << 19,
                     kSse42 = 1u << 20, kPopcnt = 1u << 23, kOsxsave = 1u << 27, kAvx = 1u << 28,
                     kF16c = 1u << 29;  // leaf 1, ecx
  constexpr uint32_t kAvx2 = 1u << 5, kBmi2 = 1u << 8, kF = 1u << 16, kDq = 1u << 17, kCd = 1u << 28, kBw = 1u << 30,
                     kVl = 1u << 31;                            // leaf 7, ebx
  constexpr uint32_t kAvx512Vnni = 1u << 11;                    // leaf 7, ecx
  constexpr uint32_t kAvxVnni = 1u << 4, kBf16 = 1u << 5;       // leaf 7.1, eax
  constexpr uint32_t kAmxTile = 1u << 24, kAmxInt8 = 1u << 25;  // leaf 7, edx
  constexpr uint64_t kYmmState = 0x6, kZmmState = 0xE6;         // xcr0: xmm, ymm; then opmask and both halves of zmm
  constexpr uint64_t kTileState = 0x60000;                      // tile configuration and data
  const CpuidLeaf leaf1(1, 0), leaf7(7, 0);
  if (!HasAll(leaf1.ecx, kSse3 | kSsse3 | kSse41 | kSse42 | kPopcnt | kCx16)) return 0;
  uint32_t features = kFeatureX86V2;
  if (!HasAll(leaf1.ecx, kFma | kOsxsave | kAvx | kF16c) || !HasAll(leaf7.ebx, kAvx2 | kBmi2)) return features;
  const uint64_t state = EnabledState();
  if (!HasAll(state, kYmmState)) return features;
  features |= kFeatureX86V3;
  const CpuidLeaf leaf71 = leaf7.eax >= 1 ? CpuidLeaf(7, 1) : CpuidLeaf();
  if (HasAll(leaf71.eax, kAvxVnni)) features |= kFeatureAvxVnni;
  if (!HasAll(leaf7.ebx, kF | kDq | kCd | kBw | kVl) || !HasAll(state, kZmmState)) return features;
  features |= kFeatureX86V4;
  if (HasAll(leaf7.ecx, kAvx512Vnni)) features |= kFeatureAvx512Vnni;
  if (HasAll(leaf71.eax, kBf16)) features |= kFeatureAvx512Bf16;
  if (HasAll(leaf7.edx, kAmxTile | kAmxInt8) && HasAll(state, kTileState) && AskForMatrixRegisters()) {
    features |= kFeatureAmxInt8;
  }
  return features;
}
#elif defined(__aarch64__) && defined(__linux__)
uint32_t DetectFeatures() {
  uint32_t features = kFeatureNeon;
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) features |= kFeatureDotprod;
  if ((getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0) features |= kFeatureI8mm;
  return features;
}
#elif defined(__aarch64__)
uint32_t DetectFeatures() { return kFeatureNeon; }
#else
uint32_t DetectFeatures() { return 0; }
#endif

bool OfThisBuild(Isa isa) { return std::ranges::find(kBuildIsas, isa) != std::end(kBuildIsas); }

template <typename Predicate>
std::string JoinNames(std::string_view separator, Predicate wanted) {
  std::string names;
  for (const Isa isa : kBuildIsas) {
    if (!wanted(isa)) continue;
    if (!names.empty()) names += separator;
    names += IsaName(isa);
  }
  return names;
}

}  // namespace

std::string_view IsaName(Isa isa) { return LevelOf(isa).name; }

Result<Isa> ParseIsa(std::string_view name) {
  for (const Isa isa : kAllIsas) {
    if (name == IsaName(isa)) return isa;
  }
  return InvalidArgumentError("'{}' is no instruction set that Pantry has kernels for; choose one of: {}", name,
                              IsaNames(", "));
}

std::string IsaNames(std::string_view separator) {
  return JoinNames(separator, [](Isa) { return true; });
}

uint32_t IsaFeatures(Isa isa) { return LevelOf(isa).features; }

bool HasFusedMultiplyAdd(Isa isa) { return isa != Isa::kX86V2; }

bool IsaIncludes(Isa a, Isa b) { return (IsaFeatures(b) & ~IsaFeatures(a)) == 0; }

Isa BestIsaOf(uint32_t features) {
  Isa best = Isa::kScalar;
  for (const Isa isa : kBuildIsas) {
    if ((IsaFeatures(isa) & ~features) == 0) best = isa;
  }
  return best;
}

uint32_t CpuFeatures() {
  static const uint32_t features = DetectFeatures();
  return features;
}

bool IsaSupported(Isa isa) { return OfThisBuild(isa) && (IsaFeatures(isa) & ~CpuFeatures()) == 0; }

Isa BestIsa() { return BestIsaOf(CpuFeatures()); }

Status RequireIsa(Isa isa) {
  if (IsaSupported(isa)) return OkStatus();
  if (!OfThisBuild(isa)) {
    return UnsupportedError("'{}' is not on this architecture, {}, which has: {}", IsaName(isa), kArchitecture,
                            IsaNames(", "));
  }
  return UnsupportedError("this CPU does not run '{}'; it runs: {}", IsaName(isa), JoinNames(", ", IsaSupported));
}

}  // namespace pantry
