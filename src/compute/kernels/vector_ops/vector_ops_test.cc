// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/vector_ops/vector_ops.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/rng.h"
#include "weights/quant/half.h"

namespace pantry {

#define PANTRY_VECTOR_OPS(isa, table) extern const VectorOps table;
#include "compute/kernels/vector_ops/vector_ops.inc"
#undef PANTRY_VECTOR_OPS

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Every table that this CPU can run, the scalar one too.
std::vector<const VectorOps*> Runnable() {
  std::vector<const VectorOps*> all;
#define PANTRY_VECTOR_OPS(isa, table) \
  if (IsaSupported(Isa::isa)) all.push_back(&table);
#include "compute/kernels/vector_ops/vector_ops.inc"
#undef PANTRY_VECTOR_OPS
  return all;
}

std::vector<int64_t> Lengths() {
  std::vector<int64_t> lengths;
  for (int64_t n = 1; n <= 67; ++n) lengths.push_back(n);
  for (const int64_t n : {576, 1536, 4099}) lengths.push_back(n);
  return lengths;
}

std::vector<float> RandomRow(int64_t n, float magnitude, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> row(static_cast<size_t>(n));
  for (float& x : row) x = static_cast<float>(2 * rng.NextDouble() - 1) * magnitude;
  return row;
}

// A row with a guard behind its end that no op may touch.
class Guarded {
 public:
  explicit Guarded(const std::vector<float>& row) : row_(row) { row_.insert(row_.end(), 16, kGuard); }
  float* data() { return row_.data(); }
  std::vector<float> Take() const {
    for (size_t i = row_.size() - 16; i < row_.size(); ++i) EXPECT_EQ(row_[i], kGuard) << "written past the end";
    return {row_.begin(), row_.end() - 16};
  }

 private:
  static constexpr float kGuard = -12345.5f;
  std::vector<float> row_;
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(VectorOps, DispatchGivesTheTableOfTheLevelItWasAskedFor) {
#define PANTRY_VECTOR_OPS(level, table)         \
  EXPECT_EQ(&VectorOpsFor(Isa::level), &table); \
  EXPECT_EQ(VectorOpsFor(Isa::level).isa, Isa::level);
#include "compute/kernels/vector_ops/vector_ops.inc"
#undef PANTRY_VECTOR_OPS
}

#if defined(__x86_64__)
TEST(VectorOps, LevelsWithVnniHaveTheTableOfThoseWithout) {
  EXPECT_EQ(&VectorOpsFor(Isa::kAvx2Vnni), &VectorOpsFor(Isa::kAvx2));
  EXPECT_EQ(&VectorOpsFor(Isa::kAvx512Bf16), &VectorOpsFor(Isa::kAvx512));
}
#endif

// The scalar result's bits where the level has fused multiply-add; else the ops are held to their error bound only.
void ExpectScalarBits(const VectorOps& ops, const std::vector<float>& result, const std::vector<float>& scalar,
                      int64_t n) {
  EXPECT_TRUE(!HasFusedMultiplyAdd(ops.isa) || SameBits(result, scalar)) << IsaName(ops.isa) << " n=" << n;
}

TEST(VectorOps, RmsNormIsBitIdenticalOnEveryIsaAndNearTheExactValue) {
  for (const VectorOps* ops : Runnable()) {
    for (const int64_t n : Lengths()) {
      const std::vector<float> x = RandomRow(n, 3.0f, 1), weight = RandomRow(n, 2.0f, 2);
      double squares = 0;
      for (const float v : x) squares += static_cast<double>(v) * v;
      const double inverse = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-5);
      for (const float* w : {weight.data(), static_cast<const float*>(nullptr)}) {
        Guarded out(x);
        Guarded expected(x);
        ops->rms_norm(out.data(), w, n, 1e-5f, out.data());  // in place
        kVectorOpsScalar.rms_norm(x.data(), w, n, 1e-5f, expected.data());
        const std::vector<float> result = out.Take();
        ExpectScalarBits(*ops, result, expected.Take(), n);
        for (size_t i = 0; i < result.size(); ++i) {
          const double exact = x[i] * inverse * (w ? w[i] : 1.0f);
          ASSERT_NEAR(result[i], exact, 2e-6 * std::fabs(exact)) << IsaName(ops->isa) << " n=" << n << " i=" << i;
        }
      }
    }
  }
}

TEST(VectorOps, LayerNormIsBitIdenticalOnEveryIsaAndNearTheExactValue) {
  for (const VectorOps* ops : Runnable()) {
    for (const int64_t n : Lengths()) {
      const std::vector<float> x = RandomRow(n, 3.0f, 1), weight = RandomRow(n, 2.0f, 2), bias = RandomRow(n, 1.0f, 21);
      double mean = 0, squares = 0;
      for (const float v : x) mean += static_cast<double>(v) / static_cast<double>(n);
      for (const float v : x) squares += (v - mean) * (v - mean);
      const double inverse = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-2);
      Guarded out(x);
      Guarded expected(x);
      ops->layer_norm(out.data(), weight.data(), bias.data(), n, 1e-2f, out.data());  // in place
      kVectorOpsScalar.layer_norm(x.data(), weight.data(), bias.data(), n, 1e-2f, expected.data());
      const std::vector<float> result = out.Take();
      ExpectScalarBits(*ops, result, expected.Take(), n);
      for (size_t i = 0; i < result.size(); ++i) {
        const double exact = (x[i] - mean) * inverse * weight[i] + bias[i];
        ASSERT_NEAR(result[i], exact, 4e-6 * 3 * inverse * std::fabs(weight[i]) + 1e-6 * std::fabs(bias[i]))
            << IsaName(ops->isa) << " n=" << n << " i=" << i;
      }
    }
  }
}

TEST(VectorOps, RmsNormOfZerosIsZero) {
  for (const VectorOps* ops : Runnable()) {
    std::vector<float> x(37, 0.0f);
    ops->rms_norm(x.data(), nullptr, 37, 1e-6f, x.data());
    for (const float v : x) EXPECT_EQ(v, 0.0f);
  }
}

TEST(VectorOps, AddAndScaleAreBitIdenticalOnEveryIsa) {
  for (const VectorOps* ops : Runnable()) {
    for (const int64_t n : Lengths()) {
      const std::vector<float> x = RandomRow(n, 3.0f, 3), y = RandomRow(n, 2.0f, 4);
      Guarded sum(x);
      Guarded scaled(x);
      ops->add(sum.data(), y.data(), n);
      ops->scale(scaled.data(), 0.3f, n);
      const std::vector<float> s = sum.Take(), t = scaled.Take();
      for (size_t i = 0; i < x.size(); ++i) {
        ASSERT_EQ(s[i], x[i] + y[i]) << IsaName(ops->isa) << " n=" << n << " i=" << i;
        ASSERT_EQ(t[i], x[i] * 0.3f) << IsaName(ops->isa) << " n=" << n << " i=" << i;
      }
    }
  }
}

TEST(VectorOps, AddScaledAndTheReluFamilyAreBitIdenticalOnEveryIsa) {
  for (const VectorOps* ops : Runnable()) {
    for (const int64_t n : Lengths()) {
      const std::vector<float> x = RandomRow(n, 3.0f, 3), y = RandomRow(n, 2.0f, 4);
      Guarded sum(x);
      Guarded relu(x);
      ops->add_scaled(sum.data(), y.data(), 0.3f, n);
      Guarded drelu(x);
      Guarded relu2(x);
      ops->relu_mul(relu.data(), y.data(), n, relu.data());
      ops->drelu_mul(drelu.data(), y.data(), n, drelu.data());
      ops->relu2_mul(relu2.data(), y.data(), n, relu2.data());
      const std::vector<float> s = sum.Take(), r = relu.Take(), d = drelu.Take(), r2 = relu2.Take();
      for (size_t i = 0; i < x.size(); ++i) {
        const float exact =
            HasFusedMultiplyAdd(ops->isa) || ops->isa == Isa::kScalar ? std::fma(y[i], 0.3f, x[i]) : y[i] * 0.3f + x[i];
        ASSERT_EQ(s[i], exact) << IsaName(ops->isa) << " n=" << n << " i=" << i;
        ASSERT_EQ(r[i], x[i] > 0 ? x[i] * y[i] : 0.0f) << IsaName(ops->isa) << " n=" << n << " i=" << i;
        ASSERT_EQ(d[i], x[i] > 0 && y[i] > 0 ? x[i] * y[i] : 0.0f) << IsaName(ops->isa) << " n=" << n << " i=" << i;
        ASSERT_EQ(r2[i], x[i] > 0 ? x[i] * x[i] * y[i] : 0.0f) << IsaName(ops->isa) << " n=" << n << " i=" << i;
      }
    }
    for (const auto relu : {ops->relu_mul, ops->drelu_mul, ops->relu2_mul}) {
      std::vector<float> edge = {-0.0f, kNan, kInf};
      const std::vector<float> one(3, 1.0f);
      relu(edge.data(), one.data(), 3, edge.data());
      EXPECT_EQ(std::bit_cast<uint32_t>(edge[0]), 0u) << IsaName(ops->isa);
      EXPECT_TRUE(std::isnan(edge[1])) << IsaName(ops->isa);
      EXPECT_EQ(edge[2], kInf) << IsaName(ops->isa);
    }
  }
}

// From tiny to huge, both signs: 2^-20 .. 2^7 and then some beyond exp's range.
std::vector<float> ActivationInputs() {
  std::vector<float> x;
  for (float magnitude = 0x1p-20f; magnitude < 80; magnitude *= 1.07f) x.insert(x.end(), {magnitude, -magnitude});
  x.insert(x.end(), {0.0f, -0.0f, 87.0f, -87.0f, 100.0f, -100.0f, 1e4f, -1e4f, 1e30f, -1e30f});
  return x;
}

TEST(VectorOps, SiluMulIsWithinFourMillionthsRelative) {
  for (const VectorOps* ops : Runnable()) {
    const std::vector<float> x = ActivationInputs(), up = RandomRow(static_cast<int64_t>(x.size()), 2.0f, 5);
    Guarded out(x);
    ops->silu_mul(out.data(), up.data(), static_cast<int64_t>(x.size()), out.data());
    const std::vector<float> result = out.Take();
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = x[i] / (1 + std::exp(-static_cast<double>(x[i]))) * up[i];
      // Below -88 exp(-x) leaves F32's range, and so may the result: zero then.
      ASSERT_NEAR(result[i], exact, 4e-6 * std::fabs(exact) + 1e-36) << IsaName(ops->isa) << " x=" << x[i];
    }
  }
}

TEST(VectorOps, ClampedSwigluIsWithinFourMillionthsRelative) {
  for (const VectorOps* ops : Runnable()) {
    const std::vector<float> x = ActivationInputs(), up = RandomRow(static_cast<int64_t>(x.size()), 10.0f, 5);
    Guarded out(x);
    ops->clamped_swiglu(out.data(), up.data(), static_cast<int64_t>(x.size()), out.data());
    const std::vector<float> result = out.Take();
    for (size_t i = 0; i < x.size(); ++i) {
      const double g = std::min(static_cast<double>(x[i]), 7.0);
      const double u = std::clamp(static_cast<double>(up[i]), -7.0, 7.0);
      const double exact = g / (1 + std::exp(-1.702f * g)) * (u + 1);
      // exp's argument is rounded: 60 ulps of its result at worst, where the result is below 1e-20.
      ASSERT_NEAR(result[i], exact, (x[i] < -10 ? 2e-5 : 4e-6) * std::fabs(exact) + 1e-36)
          << IsaName(ops->isa) << " x=" << x[i];
    }
  }
}

TEST(VectorOps, GeluMulIsWithinItsBound) {
  for (const VectorOps* ops : Runnable()) {
    const std::vector<float> x = ActivationInputs(), up = RandomRow(static_cast<int64_t>(x.size()), 1.0f, 6);
    Guarded out(x);
    ops->gelu_mul(out.data(), up.data(), static_cast<int64_t>(x.size()), out.data());
    const std::vector<float> result = out.Take();
    for (size_t i = 0; i < x.size(); ++i) {
      const double v = x[i], u = std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v);
      const double exact = 0.5 * v * (1 + std::tanh(u)) * up[i];
      ASSERT_NEAR(result[i], exact, 4e-6 * (1 + std::fabs(exact))) << IsaName(ops->isa) << " x=" << x[i];
    }
  }
}

TEST(VectorOps, SoftcapIsWithinItsBoundAndNeverExceedsTheCap) {
  for (const VectorOps* ops : Runnable()) {
    for (const float cap : {1.0f, 30.0f, 50.0f}) {
      const std::vector<float> x = ActivationInputs();
      Guarded out(x);
      ops->softcap(out.data(), static_cast<int64_t>(x.size()), cap);
      const std::vector<float> result = out.Take();
      for (size_t i = 0; i < x.size(); ++i) {
        ASSERT_NEAR(result[i], cap * std::tanh(static_cast<double>(x[i]) / cap), 4e-6 * cap)
            << IsaName(ops->isa) << " x=" << x[i];
        ASSERT_LE(std::fabs(result[i]), cap);
      }
    }
  }
}

TEST(VectorOps, TranscendentalOpsAreBitIdenticalOnAllVectorIsas) {
  std::vector<const VectorOps*> vectors = Runnable();
  std::erase_if(vectors, [](const VectorOps* ops) {  // scalar has the C library's exp and tanh
    return ops->isa == Isa::kScalar || !HasFusedMultiplyAdd(ops->isa);
  });
  if (vectors.size() < 2) GTEST_SKIP() << "needs two vector instruction sets";
  for (const int64_t n : Lengths()) {
    const std::vector<float> x = RandomRow(n, 20.0f, 7), up = RandomRow(n, 2.0f, 8);
    std::vector<std::vector<float>> results;
    for (const VectorOps* ops : vectors) {
      std::vector<float> silu(x), gelu(x), capped(x), clamped(x);
      ops->silu_mul(x.data(), up.data(), n, silu.data());
      ops->gelu_mul(x.data(), up.data(), n, gelu.data());
      ops->softcap(capped.data(), n, 5.0f);
      ops->clamped_swiglu(x.data(), up.data(), n, clamped.data());
      silu.insert(silu.end(), gelu.begin(), gelu.end());
      silu.insert(silu.end(), clamped.begin(), clamped.end());
      silu.insert(silu.end(), capped.begin(), capped.end());
      results.push_back(silu);
    }
    for (size_t i = 1; i < results.size(); ++i) EXPECT_TRUE(SameBits(results[0], results[i])) << "n=" << n;
  }
}

TEST(VectorOps, ExtremeInputsGiveTheirLimits) {
  for (const VectorOps* ops : Runnable()) {
    const std::string isa(IsaName(ops->isa));
    std::vector<float> one(3, 1.0f), x = {kInf, -1000.0f, kNan};
    std::vector<float> out(3);
    ops->silu_mul(x.data(), one.data(), 3, out.data());
    EXPECT_EQ(out[0], kInf) << isa;
    EXPECT_EQ(out[1], 0.0f) << isa;
    EXPECT_TRUE(std::isnan(out[2])) << isa;
    ops->gelu_mul(x.data(), one.data(), 3, out.data());
    EXPECT_EQ(out[0], kInf) << isa;
    EXPECT_EQ(out[1], 0.0f) << isa;
    EXPECT_TRUE(std::isnan(out[2])) << isa;
    x = {kInf, -kInf, kNan};
    ops->softcap(x.data(), 3, 30.0f);
    EXPECT_EQ(x[0], 30.0f) << isa;
    EXPECT_EQ(x[1], -30.0f) << isa;
    EXPECT_TRUE(std::isnan(x[2])) << isa;
  }
}

std::vector<float> CosSin(int64_t n_pairs) {
  std::vector<float> table;
  for (int64_t p = 0; p < n_pairs; ++p) {
    const double angle = 0.37 * static_cast<double>(p + 1);
    table.insert(table.end(), {static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))});
  }
  return table;
}

TEST(VectorOps, RopeIsBitIdenticalOnEveryIsaAndRotatesTheRightPairs) {
  for (const VectorOps* ops : Runnable()) {
    for (int64_t n = 2; n <= 132; n += 2) {
      const std::vector<float> x = RandomRow(n, 2.0f, 9), cos_sin = CosSin(n / 2);
      Guarded interleaved(x);
      Guarded halves(x);
      ops->rope_interleaved(interleaved.data(), cos_sin.data(), n);
      ops->rope_halves(halves.data(), cos_sin.data(), n);
      Guarded interleaved_truth(x);
      Guarded halves_truth(x);
      kVectorOpsScalar.rope_interleaved(interleaved_truth.data(), cos_sin.data(), n);
      kVectorOpsScalar.rope_halves(halves_truth.data(), cos_sin.data(), n);
      const std::vector<float> a = interleaved.Take(), b = halves.Take();
      ExpectScalarBits(*ops, a, interleaved_truth.Take(), n);
      ExpectScalarBits(*ops, b, halves_truth.Take(), n);
      for (size_t p = 0; p < x.size() / 2; ++p) {
        const double c = cos_sin[2 * p], s = cos_sin[2 * p + 1];
        const size_t half = x.size() / 2;
        ASSERT_NEAR(a[2 * p], x[2 * p] * c - x[2 * p + 1] * s, 1e-6);
        ASSERT_NEAR(a[2 * p + 1], x[2 * p] * s + x[2 * p + 1] * c, 1e-6);
        ASSERT_NEAR(b[p], x[p] * c - x[p + half] * s, 1e-6);
        ASSERT_NEAR(b[p + half], x[p] * s + x[p + half] * c, 1e-6);
      }
    }
  }
}

TEST(VectorOps, F16DecodingIsExactForAllBitPatterns) {
  for (const VectorOps* ops : Runnable()) {
    std::vector<uint16_t> halves(65536);
    for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
    std::vector<float> out(halves.size());
    ops->f16_to_f32(halves.data(), static_cast<int64_t>(halves.size()), out.data());
    for (size_t i = 0; i < halves.size(); ++i) {
      const float expected = F16ToF32(halves[i]);
      if (std::isnan(expected)) ASSERT_TRUE(std::isnan(out[i])) << i;
      else
        ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(expected)) << IsaName(ops->isa) << " " << i;
    }
  }
}

TEST(VectorOps, F16EncodingRoundsToNearestEvenOnEveryIsa) {
  std::vector<float> x = {0.0f,   -0.0f,          1.0f,           65504.0f, 65519.9f,   65520.0f, -1e10f,
                          kInf,   -kInf,          0x1p-24f,       0x1p-25f, 0x1.8p-25f, 0x1p-14f, 0x1.ffcp-15f,
                          1e-30f, 1.00048828125f, 1.00146484375f, 2049.0f,  2051.0f};
  Rng rng(10);
  while (x.size() < 4001)
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(rng.NextU64())));  // any pattern, NaN too
  for (const VectorOps* ops : Runnable()) {
    std::vector<uint16_t> out(x.size());
    ops->f32_to_f16(x.data(), static_cast<int64_t>(x.size()), out.data());
    for (size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i])) ASSERT_TRUE(std::isnan(F16ToF32(out[i]))) << IsaName(ops->isa);
      else ASSERT_EQ(out[i], F32ToF16(x[i])) << IsaName(ops->isa) << " x=" << x[i];
    }
  }
}

TEST(VectorOps, F16ConversionsKeepToTheirRange) {
  for (const VectorOps* ops : Runnable()) {
    for (int64_t n = 1; n <= 67; ++n) {
      const std::vector<float> x = RandomRow(n, 3.0f, 11);
      std::vector<uint16_t> halves(static_cast<size_t>(n) + 16, 0xABCD);
      ops->f32_to_f16(x.data(), n, halves.data());
      EXPECT_EQ(halves[static_cast<size_t>(n)], 0xABCD) << IsaName(ops->isa) << " n=" << n;
      EXPECT_EQ(halves[static_cast<size_t>(n) - 1], F32ToF16(x.back()));
      Guarded back(x);
      ops->f16_to_f32(halves.data(), n, back.data());
      EXPECT_EQ(back.Take().back(), F16ToF32(halves[static_cast<size_t>(n) - 1])) << IsaName(ops->isa) << " n=" << n;
    }
  }
}

struct Quantized {
  std::vector<int8_t> q;
  std::vector<float> scales;
  std::vector<float> scaled_sums;
  std::vector<int16_t> sums;
};

Quantized Quantize(const VectorOps& ops, const std::vector<float>& x, int64_t n_rows) {
  ActivationRows rows;
  rows.n_rows = n_rows;
  rows.n_cols = static_cast<int64_t>(x.size()) / n_rows;
  Quantized result{std::vector<int8_t>(x.size(), 99), std::vector<float>(x.size() / 32, 99),
                   std::vector<float>(x.size() / 32, 99), std::vector<int16_t>(x.size() / 16, 99)};
  rows.f32 = x.data();
  rows.q = result.q.data();
  rows.scales = result.scales.data();
  rows.scaled_sums = result.scaled_sums.data();
  rows.sums = result.sums.data();
  for (int64_t row = 0; row < n_rows; ++row) ops.quantize_row(rows, row);
  return result;
}

TEST(QuantizeRow, IsBitIdenticalOnEveryIsa) {
  Rng rng(12);
  std::vector<float> x = RandomRow(3 * 1536, 5.0f, 13);
  for (size_t block = 0; block < x.size() / 32; ++block) {  // from subnormal to near overflow
    const float factor = std::ldexp(1.0f, static_cast<int>(rng.NextU64() % 270) - 145);
    for (size_t i = 0; i < 32; ++i) x[block * 32 + i] *= factor;
  }
  const Quantized truth = Quantize(kVectorOpsScalar, x, 3);
  for (const VectorOps* ops : Runnable()) {
    const Quantized got = Quantize(*ops, x, 3);
    EXPECT_EQ(got.q, truth.q) << IsaName(ops->isa);
    EXPECT_EQ(got.sums, truth.sums) << IsaName(ops->isa);
    EXPECT_TRUE(SameBits(got.scales, truth.scales)) << IsaName(ops->isa);
    EXPECT_TRUE(SameBits(got.scaled_sums, truth.scaled_sums)) << IsaName(ops->isa);
  }
}

TEST(QuantizeRow, ErrorIsAtMostHalfAStepAndSumsAreExact) {
  const std::vector<float> x = RandomRow(576, 7.0f, 14);
  for (const VectorOps* ops : Runnable()) {
    const Quantized got = Quantize(*ops, x, 1);
    for (size_t i = 0; i < x.size(); ++i) {
      const float scale = got.scales[i / 32];
      // Half a step, and 127 times the rounding of the scale to 11 bits.
      ASSERT_NEAR(x[i], scale * static_cast<float>(got.q[i]), 0.563f * scale) << IsaName(ops->isa);
    }
    for (size_t s = 0; s < got.sums.size(); ++s) {
      int sum = 0;
      for (size_t i = 0; i < 16; ++i) sum += got.q[s * 16 + i];
      ASSERT_EQ(got.sums[s], sum) << IsaName(ops->isa);
    }
  }
}

TEST(QuantizeRow, ScalesAndScaledSumsAreF16NumbersOfTheUnroundedStep) {
  const std::vector<float> x = RandomRow(576, 7.0f, 14);
  for (const VectorOps* ops : Runnable()) {
    const Quantized got = Quantize(*ops, x, 1);
    for (size_t block = 0; block < got.scales.size(); ++block) {
      float step = 0;
      for (size_t i = 0; i < 32; ++i) step = std::max(step, std::fabs(x[block * 32 + i]) / 127.0f);
      const float sum = static_cast<float>(got.sums[2 * block] + got.sums[2 * block + 1]);
      ASSERT_EQ(got.scales[block], F16ToF32(F32ToF16(step))) << IsaName(ops->isa);
      ASSERT_EQ(got.scaled_sums[block], F16ToF32(F32ToF16(step * sum))) << IsaName(ops->isa);
    }
  }
}

TEST(QuantizeRow, RoundsHalvesToEven) {
  std::vector<float> x(32, 0.0f);
  x[0] = 127.0f;  // scale 1
  x[1] = 0.5f, x[2] = 1.5f, x[3] = -2.5f, x[4] = -127.0f, x[5] = 3.5f;
  for (const VectorOps* ops : Runnable()) {
    const Quantized got = Quantize(*ops, x, 1);
    EXPECT_EQ(std::vector<int8_t>(got.q.begin(), got.q.begin() + 6), (std::vector<int8_t>{127, 0, 2, -2, -127, 4}))
        << IsaName(ops->isa);
    EXPECT_EQ(got.scales[0], 1.0f);
  }
}

TEST(QuantizeRow, ZeroAndSubnormalBlocksBecomeZero) {
  for (const float value : {0.0f, -0.0f, 1e-40f, -0x1p-126f}) {
    const std::vector<float> x(64, value);
    for (const VectorOps* ops : Runnable()) {
      const Quantized got = Quantize(*ops, x, 1);
      EXPECT_EQ(got.q, std::vector<int8_t>(64, 0)) << IsaName(ops->isa);
      EXPECT_EQ(got.scales, (std::vector<float>{0, 0})) << IsaName(ops->isa);
      EXPECT_EQ(got.sums, (std::vector<int16_t>{0, 0, 0, 0})) << IsaName(ops->isa);
    }
  }
}

TEST(QuantizeRow, BlockWithANumberThatIsNotFiniteHasScaleNanAndLeavesItsNeighboursAlone) {
  for (const float bad : {kInf, -kInf, kNan}) {
    for (const size_t at : {size_t{0}, size_t{15}, size_t{16}, size_t{31}}) {
      std::vector<float> x = RandomRow(64, 2.0f, 15);
      x[at] = bad;
      for (const VectorOps* ops : Runnable()) {
        const Quantized got = Quantize(*ops, x, 1);
        EXPECT_TRUE(std::isnan(got.scales[0])) << IsaName(ops->isa);
        EXPECT_EQ(std::vector<int8_t>(got.q.begin(), got.q.begin() + 32), std::vector<int8_t>(32, 0))
            << IsaName(ops->isa);
        EXPECT_EQ(got.sums[0], 0);
        EXPECT_GT(got.scales[1], 0) << IsaName(ops->isa);
      }
    }
  }
}

}  // namespace
}  // namespace pantry
