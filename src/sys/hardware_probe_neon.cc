// SPDX-License-Identifier: Apache-2.0
// What a thread can do with NEON alone.
#include <arm_neon.h>

#include "sys/hardware_probe_kernel.h"

#define PANTRY_PROBE_KEEP(value) __asm__ volatile("" : "+w"((value).v))

namespace pantry {
namespace {

struct Ints {
  int8x16_t v;
};
struct Floats {
  float32x4_t v;
};
constexpr int kDotOps = 2 * 16;
constexpr int kFmaOps = 2 * 4;
constexpr int kIntSums = 16;
constexpr int kFloatSums = 24;

Ints Load(const uint8_t* from) { return {vreinterpretq_s8_u8(vld1q_u8(from))}; }
Ints Xor(Ints a, Ints b) { return {veorq_s8(a.v, b.v)}; }
void Ones(Ints& a) { a.v = vdupq_n_s8(1); }
void Ones(Floats& a) { a.v = vdupq_n_f32(1); }
void MultiplyAdd(Floats& sums, Floats& a, Floats& b) { sums.v = vfmaq_f32(sums.v, a.v, b.v); }

// Without SDOT: products of 8 bits are added in two steps to 16 and, in pairs, to 32 bits.
void MultiplyAdd(Ints& sums, Ints& a, Ints& b) {
  PANTRY_PROBE_KEEP(a);  // or the products would be computed once
  const int16x8_t pairs = vmlal_high_s8(vmull_s8(vget_low_s8(a.v), vget_low_s8(b.v)), a.v, b.v);
  sums.v = vreinterpretq_s8_s32(vpadalq_s16(vreinterpretq_s32_s8(sums.v), pairs));
}

}  // namespace
}  // namespace pantry

#include "sys/hardware_probe_loops.inc"

namespace pantry {
const ProbeKernel kProbeNeon = {Read, Run<Ints, kIntSums>, Run<Floats, kFloatSums>, kIntSums* kDotOps,
                                kFloatSums* kFmaOps};
}  // namespace pantry
