// SPDX-License-Identifier: Apache-2.0
// What a thread can do with AVX512-VNNI.
#include <immintrin.h>

#include "sys/hardware_probe_kernel.h"

#define PANTRY_PROBE_KEEP(value) __asm__ volatile("" : "+v"((value).v))

namespace pantry {
namespace {

struct Ints {
  __m512i v;
};
struct Floats {
  __m512 v;
};
constexpr int kDotOps = 2 * 64;
constexpr int kFmaOps = 2 * 16;
constexpr int kIntSums = 24;
constexpr int kFloatSums = 24;

Ints Load(const uint8_t* from) { return {_mm512_loadu_si512(from)}; }
Ints Xor(Ints a, Ints b) { return {_mm512_xor_si512(a.v, b.v)}; }
void Ones(Ints& a) { a.v = _mm512_set1_epi8(1); }
void Ones(Floats& a) { a.v = _mm512_set1_ps(1); }
void MultiplyAdd(Floats& sums, Floats& a, Floats& b) { sums.v = _mm512_fmadd_ps(a.v, b.v, sums.v); }
void MultiplyAdd(Ints& sums, Ints& a, Ints& b) { sums.v = _mm512_dpbusd_epi32(sums.v, a.v, b.v); }

}  // namespace
}  // namespace pantry

#include "sys/hardware_probe_loops.inc"

namespace pantry {
const ProbeKernel kProbeAvx512Vnni = {Read, Run<Ints, kIntSums>, Run<Floats, kFloatSums>, kIntSums* kDotOps,
                                      kFloatSums* kFmaOps};
}  // namespace pantry
