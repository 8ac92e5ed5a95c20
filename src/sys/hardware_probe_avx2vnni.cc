// SPDX-License-Identifier: Apache-2.0
// What a thread can do with AVX2 and AVX-VNNI.
#include <immintrin.h>

#include "sys/hardware_probe_kernel.h"

#define PANTRY_PROBE_KEEP(value) __asm__ volatile("" : "+x"((value).v))

namespace pantry {
namespace {

struct Ints {
  __m256i v;
};
struct Floats {
  __m256 v;
};
constexpr int kDotOps = 2 * 32;
constexpr int kFmaOps = 2 * 8;
constexpr int kIntSums = 12;
constexpr int kFloatSums = 12;

Ints Load(const uint8_t* from) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))}; }
Ints Xor(Ints a, Ints b) { return {_mm256_xor_si256(a.v, b.v)}; }
void Ones(Ints& a) { a.v = _mm256_set1_epi8(1); }
void Ones(Floats& a) { a.v = _mm256_set1_ps(1); }
void MultiplyAdd(Floats& sums, Floats& a, Floats& b) { sums.v = _mm256_fmadd_ps(a.v, b.v, sums.v); }
void MultiplyAdd(Ints& sums, Ints& a, Ints& b) { sums.v = _mm256_dpbusd_avx_epi32(sums.v, a.v, b.v); }

}  // namespace
}  // namespace pantry

#include "sys/hardware_probe_loops.inc"

namespace pantry {
const ProbeKernel kProbeAvx2Vnni = {Read, Run<Ints, kIntSums>, Run<Floats, kFloatSums>, kIntSums* kDotOps,
                                    kFloatSums* kFmaOps};
}  // namespace pantry
