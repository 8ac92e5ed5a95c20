// SPDX-License-Identifier: Apache-2.0
// What a thread can do with NEON and SMMLA.
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
constexpr int kDotOps = 2 * 32;
constexpr int kFmaOps = 2 * 4;
constexpr int kIntSums = 24;
constexpr int kFloatSums = 24;

Ints Load(const uint8_t* from) { return {vreinterpretq_s8_u8(vld1q_u8(from))}; }
Ints Xor(Ints a, Ints b) { return {veorq_s8(a.v, b.v)}; }
void Ones(Ints& a) { a.v = vdupq_n_s8(1); }
void Ones(Floats& a) { a.v = vdupq_n_f32(1); }
void MultiplyAdd(Floats& sums, Floats& a, Floats& b) { sums.v = vfmaq_f32(sums.v, a.v, b.v); }
void MultiplyAdd(Ints& sums, Ints& a, Ints& b) {
  sums.v = vreinterpretq_s8_s32(vmmlaq_s32(vreinterpretq_s32_s8(sums.v), a.v, b.v));
}

}  // namespace
}  // namespace pantry

#include "sys/hardware_probe_loops.inc"

namespace pantry {
const ProbeKernel kProbeNeonI8mm = {Read, Run<Ints, kIntSums>, Run<Floats, kFloatSums>, kIntSums* kDotOps,
                                    kFloatSums* kFmaOps};
}  // namespace pantry
