// SPDX-License-Identifier: Apache-2.0
// The truth: every op written the way its formula reads. Where the header promises the same bits on every instruction set, the order of
// operations here is the order everywhere.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "compute/kernels/vector_ops/vector_ops.h"
#include "weights/quant/half.h"

namespace pantry {
namespace {

constexpr int kLanes = 16;

float SumLanes(float (&lanes)[kLanes]) {
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    for (int l = 0; l < distance; ++l) lanes[l] += lanes[l + distance];
  }
  return lanes[0];
}

void RmsNorm(const float* x, const float* weight, int64_t n, float eps, float* out) {
  float lanes[kLanes] = {};
  for (int64_t k = 0; k < n; ++k) lanes[k % kLanes] = std::fma(x[k], x[k], lanes[k % kLanes]);
  const float inverse = 1.0f / std::sqrt(SumLanes(lanes) / static_cast<float>(n) + eps);
  for (int64_t k = 0; k < n; ++k) out[k] = weight ? x[k] * inverse * weight[k] : x[k] * inverse;
}

void LayerNorm(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* out) {
  float sums[kLanes] = {}, squares[kLanes] = {};
  for (int64_t k = 0; k < n; ++k) sums[k % kLanes] += x[k];
  const float mean = SumLanes(sums) / static_cast<float>(n);
  for (int64_t k = 0; k < n; ++k) {
    out[k] = x[k] - mean;
    squares[k % kLanes] = std::fma(out[k], out[k], squares[k % kLanes]);
  }
  const float inverse = 1.0f / std::sqrt(SumLanes(squares) / static_cast<float>(n) + eps);
  for (int64_t k = 0; k < n; ++k) out[k] = std::fma(out[k] * inverse, weight[k], bias[k]);
}

void Add(float* x, const float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] += y[i];
}

void AddScaled(float* x, const float* y, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = std::fma(y[i], factor, x[i]);
}

void Scale(float* x, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

void SiluMul(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

void GeluMul(const float* gate, const float* up, int64_t n, float* out) {
  constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
  for (int64_t i = 0; i < n; ++i) {
    const double x = gate[i];
    out[i] = static_cast<float>(0.5 * x * (1 + std::tanh(kSqrtTwoOverPi * (x + 0.044715 * x * x * x)))) * up[i];
  }
}

float Relu(float x) { return x <= 0 ? 0.0f : x; }

void ReluMul(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = Relu(gate[i]) * up[i];
}

void DreluMul(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = Relu(gate[i]) * Relu(up[i]);
}

void Relu2Mul(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = Relu(gate[i]) * Relu(gate[i]) * up[i];
}

void ClampedSwiglu(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = gate[i] > 7.0f ? 7.0f : gate[i], u = std::clamp(up[i], -7.0f, 7.0f);
    out[i] = g / (1.0f + std::exp(-1.702f * g)) * (u + 1.0f);
  }
}

void Softcap(float* x, int64_t n, float cap) {
  for (int64_t i = 0; i < n; ++i) x[i] = cap * std::tanh(x[i] / cap);
}

void Rotate(float* a, float* b, float cos, float sin) {
  const float x = *a, y = *b;
  *a = std::fma(x, cos, -(y * sin));
  *b = std::fma(y, cos, x * sin);
}

void RopeInterleaved(float* head, const float* cos_sin, int64_t n_dims) {
  for (int64_t p = 0; p < n_dims / 2; ++p) Rotate(&head[2 * p], &head[2 * p + 1], cos_sin[2 * p], cos_sin[2 * p + 1]);
}

void RopeHalves(float* head, const float* cos_sin, int64_t n_dims) {
  for (int64_t p = 0; p < n_dims / 2; ++p) Rotate(&head[p], &head[p + n_dims / 2], cos_sin[2 * p], cos_sin[2 * p + 1]);
}

void EncodeF16(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = F32ToF16(x[i]);
}

void DecodeF16(const uint16_t* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = F16ToF32(x[i]);
}

void QuantizeBlock(const float* x, int8_t* q, float* scale, int16_t* sums) {
  float max = 0;
  bool finite = true;
  for (int i = 0; i < kActivationBlock; ++i) {
    finite = finite && std::isfinite(x[i]);
    max = std::max(max, std::fabs(x[i]));
  }
  float step = max / 127.0f;
  if (step < std::numeric_limits<float>::min())
    step = 0;  // its inverse could overflow; such a block is as good as zero
  const float inverse = finite && step > 0 ? 1.0f / step : 0.0f;
  for (int i = 0; i < kActivationBlock; ++i) {
    q[i] = finite ? static_cast<int8_t>(std::clamp(std::nearbyint(x[i] * inverse), -127.0f, 127.0f)) : int8_t{0};
  }
  *scale = finite ? step : std::numeric_limits<float>::quiet_NaN();
  for (int s = 0; s < kActivationBlock / kActivationSum; ++s) {
    int sum = 0;
    for (int i = 0; i < kActivationSum; ++i) sum += q[s * kActivationSum + i];
    sums[s] = static_cast<int16_t>(sum);
  }
}

void QuantizeRow(const ActivationRows& rows, int64_t row) {
  const int64_t n = rows.n_cols;
  for (int64_t k = 0; k < n; k += kActivationBlock) {
    const int64_t at = row * n + k;
    int16_t* const sums = rows.sums + at / kActivationSum;
    float step = 0;
    QuantizeBlock(rows.f32 + at, rows.q + at, &step, sums);
    rows.scales[at / kActivationBlock] = RoundTo11Bits(step);
    rows.scaled_sums[at / kActivationBlock] = RoundTo11Bits(step * static_cast<float>(sums[0] + sums[1]));
  }
}

}  // namespace

extern const VectorOps kVectorOpsScalar;
const VectorOps kVectorOpsScalar = {
    .isa = Isa::kScalar,
    .rms_norm = RmsNorm,
    .layer_norm = LayerNorm,
    .add = Add,
    .add_scaled = AddScaled,
    .scale = Scale,
    .silu_mul = SiluMul,
    .gelu_mul = GeluMul,
    .relu_mul = ReluMul,
    .drelu_mul = DreluMul,
    .relu2_mul = Relu2Mul,
    .clamped_swiglu = ClampedSwiglu,
    .softcap = Softcap,
    .rope_interleaved = RopeInterleaved,
    .rope_halves = RopeHalves,
    .f32_to_f16 = EncodeF16,
    .f16_to_f32 = DecodeF16,
    .quantize_row = QuantizeRow,
};

}  // namespace pantry
