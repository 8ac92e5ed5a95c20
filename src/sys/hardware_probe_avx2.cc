// SPDX-License-Identifier: Apache-2.0
// What a thread can do with AVX2 and FMA.
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
constexpr int kDotOps = 2 * 4 * 32;
constexpr int kFmaOps = 2 * 8;
constexpr int kIntSums = 8;
constexpr int kFloatSums = 12;

Ints Load(const uint8_t* from) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))}; }
Ints Xor(Ints a, Ints b) { return {_mm256_xor_si256(a.v, b.v)}; }
void Ones(Ints& a) { a.v = _mm256_set1_epi8(1); }
void Ones(Floats& a) { a.v = _mm256_set1_ps(1); }
void MultiplyAdd(Floats& sums, Floats& a, Floats& b) { sums.v = _mm256_fmadd_ps(a.v, b.v, sums.v); }

// Without VNNI: products are added in pairs to 16 bits, four of them there (as 4-bit weights allow), then to 32 bits.
void MultiplyAdd(Ints& sums, Ints& a, Ints& b) {
  auto pairs = _mm256_maddubs_epi16(a.v, b.v);
  for (int i = 0; i < 3; ++i) {
    PANTRY_PROBE_KEEP(a);  // or the product would be computed once
    pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(a.v, b.v));
  }
  sums.v = _mm256_add_epi32(sums.v, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

}  // namespace
}  // namespace pantry

#include "sys/hardware_probe_loops.inc"

namespace pantry {
const ProbeKernel kProbeAvx2 = {Read, Run<Ints, kIntSums>, Run<Floats, kFloatSums>, kIntSums* kDotOps,
                                kFloatSums* kFmaOps};
}  // namespace pantry
