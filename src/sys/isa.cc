// SPDX-License-Identifier: Apache-2.0
#include "sys/isa.h"

#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace pantry {
namespace {

#if defined(__x86_64__)
// Register state that the operating system saves at a context switch; without it the instructions fault although the CPU has them.
uint64_t EnabledState() {
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

Isa DetectIsa() {
  constexpr uint32_t kFma = 1u << 12, kOsxsave = 1u << 27, kAvx = 1u << 28, kF16c = 1u << 29;  // leaf 1, ecx
  constexpr uint32_t kAvx2 = 1u << 5, kBmi2 = 1u << 8, kF = 1u << 16, kDq = 1u << 17, kCd = 1u << 28, kBw = 1u << 30,
                     kVl = 1u << 31;                     // leaf 7, ebx
  constexpr uint32_t kVnni = 1u << 11;                   // leaf 7, ecx
  constexpr uint64_t kYmmState = 0x6, kZmmState = 0xE6;  // xcr0: xmm, ymm; then opmask and both halves of zmm
  uint32_t eax, ebx, ecx, edx;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return Isa::kScalar;
  constexpr uint32_t kLeaf1 = kFma | kOsxsave | kAvx | kF16c;
  if ((ecx & kLeaf1) != kLeaf1) return Isa::kScalar;
  const uint64_t state = EnabledState();
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return Isa::kScalar;
  constexpr uint32_t kLeaf7 = kAvx2 | kBmi2;
  if ((ebx & kLeaf7) != kLeaf7 || (state & kYmmState) != kYmmState) return Isa::kScalar;
  constexpr uint32_t kLeaf7Avx512 = kF | kDq | kCd | kBw | kVl;
  if ((ebx & kLeaf7Avx512) != kLeaf7Avx512 || !(ecx & kVnni) || (state & kZmmState) != kZmmState) return Isa::kAvx2;
  return Isa::kAvx512Vnni;
}
#else
Isa DetectIsa() { return Isa::kScalar; }
#endif

}  // namespace

std::string_view IsaName(Isa isa) {
  switch (isa) {
    case Isa::kScalar: return "scalar";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512Vnni: return "avx512-vnni";
  }
  return "unknown";
}

Result<Isa> ParseIsa(std::string_view name) {
  std::string names;
  for (const Isa isa : kAllIsas) {
    if (name == IsaName(isa)) return isa;
    if (!names.empty()) names += ", ";
    names += IsaName(isa);
  }
  return InvalidArgumentError("'{}' is no instruction set that Pantry has kernels for; choose one of: {}", name, names);
}

Isa BestIsa() {
  static const Isa best = DetectIsa();
  return best;
}

bool IsaSupported(Isa isa) { return isa <= BestIsa(); }

}  // namespace pantry
