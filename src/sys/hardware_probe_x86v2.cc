// SPDX-License-Identifier: Apache-2.0
// What a thread can do with SSE4.1.
#include <smmintrin.h>

#include "sys/hardware_probe_kernel.h"

#define PANTRY_PROBE_KEEP(value) __asm__ volatile("" : "+x"((value).v))

namespace pantry {
namespace {

struct Ints {
  __m128i v;
};
struct Floats {
  __m128 v;
};
constexpr int kDotOps = 2 * 4 * 16;
constexpr int kFmaOps = 2 * 4;
constexpr int kIntSums = 8;
constexpr int kFloatSums = 10;

Ints Load(const uint8_t* from) { return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))}; }
Ints Xor(Ints a, Ints b) { return {_mm_xor_si128(a.v, b.v)}; }
void Ones(Ints& a) { a.v = _mm_set1_epi8(1); }
void Ones(Floats& a) { a.v = _mm_set1_ps(1); }

// Two instructions: there is no fused one. The product is made each time, as a kernel must.
void MultiplyAdd(Floats& sums, Floats& a, Floats& b) {
  PANTRY_PROBE_KEEP(a);
  sums.v = _mm_add_ps(sums.v, _mm_mul_ps(a.v, b.v));
}

// Without VNNI: products are added in pairs to 16 bits, four of them there (as 4-bit weights allow), then to 32 bits.
void MultiplyAdd(Ints& sums, Ints& a, Ints& b) {
  auto pairs = _mm_maddubs_epi16(a.v, b.v);
  for (int i = 0; i < 3; ++i) {
    PANTRY_PROBE_KEEP(a);  // or the product would be computed once
    pairs = _mm_add_epi16(pairs, _mm_maddubs_epi16(a.v, b.v));
  }
  sums.v = _mm_add_epi32(sums.v, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
}

}  // namespace
}  // namespace pantry

#include "sys/hardware_probe_loops.inc"

namespace pantry {
const ProbeKernel kProbeX86V2 = {Read, Run<Ints, kIntSums>, Run<Floats, kFloatSums>, kIntSums* kDotOps,
                                 kFloatSums* kFmaOps};
}  // namespace pantry
