// SPDX-License-Identifier: Apache-2.0
// VectorOps are the small kernels between matrix products: norms, rotations, activations, conversions. One table per instruction set.
//
// All work on rows of contiguous F32 numbers of any length. Results of a row depend on that row alone, never on how rows are split.
// Float kernels state their error against the exact value; the tests check it for every instruction set. Ops without a stated error, and
// rms_norm, are bit-identical on all of them; those with exp or tanh on all but scalar, which has the C library's.
// x86-64-v2 has no fused multiply-add: there only add, scale, relu_mul, drelu_mul, relu2_mul, the F16 conversions and quantize_row give the bits of the others.
// Threads: pure functions on the memory they are given.
#pragma once

#include <cstdint>

#include "compute/activations.h"
#include "sys/isa.h"

namespace pantry {

struct VectorOps {
  Isa isa;
  // out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]; weight null means ones. out may be x. Sum in F32 by 16 lanes (k % 16), fixed tree,
  // relative error <= 2e-6.
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* out);
  // out[i] = (x[i] - mean(x)) / sqrt(mean((x - mean)^2) + eps) * weight[i] + bias[i]. out may be x. Sums as rms_norm's; error <= 4e-6 of the
  // largest of |x| / sqrt(..), times |weight|.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* out);
  // x[i] += y[i]
  void (*add)(float* x, const float* y, int64_t n);
  // x[i] = fma(y[i], factor, x[i])
  void (*add_scaled)(float* x, const float* y, float factor, int64_t n);
  // x[i] *= factor
  void (*scale)(float* x, float factor, int64_t n);
  // out[i] = silu(gate[i]) * up[i], silu(x) = x / (1 + exp(-x)); out may be gate. Relative error <= 4e-6.
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out);
  // out[i] = gelu_tanh(gate[i]) * up[i], gelu_tanh(x) = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). Error <= 4e-6 (1 + |result|).
  void (*gelu_mul)(const float* gate, const float* up, int64_t n, float* out);
  // out[i] = max(gate[i], 0) * up[i]; out may be gate. NaN stays NaN.
  void (*relu_mul)(const float* gate, const float* up, int64_t n, float* out);
  // out[i] = max(gate[i], 0) * max(up[i], 0), dReLU; and max(gate[i], 0)^2 * up[i]. out may be gate. NaN stays NaN.
  void (*drelu_mul)(const float* gate, const float* up, int64_t n, float* out);
  void (*relu2_mul)(const float* gate, const float* up, int64_t n, float* out);
  // out[i] = g / (1 + exp(-1.702 g)) * (u + 1), g = min(gate[i], 7), u = up[i] clamped to [-7, 7]: gpt-oss. Relative error <= 4e-6.
  void (*clamped_swiglu)(const float* gate, const float* up, int64_t n, float* out);
  // x[i] = cap * tanh(x[i] / cap). Error <= 4e-6 cap.
  void (*softcap)(float* x, int64_t n, float cap);
  // Rotates pairs of the first n_dims of a head in place: (a, b) -> (a cos - b sin, a sin + b cos), pair p with cos_sin[2p], cos_sin[2p+1].
  void (*rope_interleaved)(float* head, const float* cos_sin, int64_t n_dims);  // pairs (2p, 2p+1)
  void (*rope_halves)(float* head, const float* cos_sin, int64_t n_dims);       // pairs (p, p + n_dims/2)
  // F32 -> F16 (round to nearest even; overflow becomes infinity), F16 -> F32. NaN stays NaN, its payload is not promised.
  void (*f32_to_f16)(const float* x, int64_t n, uint16_t* out);
  void (*f16_to_f32)(const uint16_t* x, int64_t n, float* out);
  // Fills q, scales and sums of row `row` of `rows` from rows.f32 (activations.h). Bit-identical on every instruction set. A block whose
  // scale would be subnormal becomes zero. A block with a number that is not finite gets q = 0 and scale NaN: the product says so then.
  void (*quantize_row)(const ActivationRows& rows, int64_t row);
};

// The ops of the best level that `isa` includes.
const VectorOps& VectorOpsFor(Isa isa);

}  // namespace pantry
