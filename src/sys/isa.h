// SPDX-License-Identifier: Apache-2.0
// The instruction-set levels that Pantry has kernels for, and which of them this CPU can run.
//
// One binary carries all levels; a kernel is chosen at run time (`--isa` forces one). Levels are ordered: a CPU that runs a level
// runs every lower level of its architecture too.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/status.h"

namespace pantry {

enum class Isa : uint8_t {
  kScalar,      // portable C++: the truth that every other level is compared with
  kAvx2,        // x86-64-v3: AVX2, FMA, F16C, BMI2
  kAvx512Vnni,  // x86-64-v4 plus AVX512-VNNI (Cascade Lake and later, Zen 4 and later)
};
inline constexpr Isa kAllIsas[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512Vnni};

std::string_view IsaName(Isa isa);            // "scalar", "avx2", "avx512-vnni"
Result<Isa> ParseIsa(std::string_view name);  // the inverse; the error lists the names
bool IsaSupported(Isa isa);                   // by this CPU and operating system
Isa BestIsa();                                // the highest supported level

}  // namespace pantry
