// SPDX-License-Identifier: Apache-2.0
// A ProbeKernel is the loops that show what one thread can do with an instruction set: read memory, 8-bit dot products, F32 arithmetic.
//
// The arithmetic loops work on registers alone, with enough independent sums to hide the latency of the instructions: they are limited
// by the units that multiply. A round of int8() or f32() is a fixed number of operations.
// This header is seen by code compiled for single instruction sets: C types only.
#pragma once

#include <stdint.h>

namespace pantry {

struct ProbeKernel {
  // Reads n_bytes, a multiple of kProbeBlockBytes, once: in n_streams (1, 2, 4 or 8) places that move on side by side, and with
  // prefetch_bytes > 0 asking for what comes that much later. The value only makes sure that everything is read.
  uint64_t (*read)(const uint8_t* data, int64_t n_bytes, int n_streams, int64_t prefetch_bytes);
  void (*int8)(int64_t n_rounds);
  void (*f32)(int64_t n_rounds);
  int64_t int8_ops_per_round;  // a multiply and an add are two
  int64_t f32_ops_per_round;
};

inline constexpr int64_t kProbeBlockBytes = 8 * 256;  // of read(): 8 streams of 4 cache lines

extern const ProbeKernel kProbeScalar;
extern const ProbeKernel kProbeX86V2;
extern const ProbeKernel kProbeAvx2;
extern const ProbeKernel kProbeAvx2Vnni;
extern const ProbeKernel kProbeAvx512;
extern const ProbeKernel kProbeAvx512Vnni;
extern const ProbeKernel kProbeNeon;
extern const ProbeKernel kProbeNeonDotprod;
extern const ProbeKernel kProbeNeonI8mm;

}  // namespace pantry
