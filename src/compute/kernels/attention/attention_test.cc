// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/attention/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "weights/quant/half.h"

namespace pantry {

#define PANTRY_ATTENTION_OPS(isa, table) extern const AttentionOps table;
#include "compute/kernels/attention/attention.inc"
#undef PANTRY_ATTENTION_OPS

namespace {

constexpr KvType kAllTypes[] = {KvType::kF32, KvType::kF16, KvType::kQ8_0};

std::vector<const AttentionOps*> Runnable() {
  std::vector<const AttentionOps*> all;
#define PANTRY_ATTENTION_OPS(isa, table) \
  if (IsaSupported(Isa::isa)) all.push_back(&table);
#include "compute/kernels/attention/attention.inc"
#undef PANTRY_ATTENTION_OPS
  return all;
}

std::vector<float> RandomRow(int64_t n, float magnitude, Rng* rng) {
  std::vector<float> row(static_cast<size_t>(n));
  for (float& x : row) x = static_cast<float>(2 * rng->NextDouble() - 1) * magnitude;
  return row;
}

struct Shape {
  int32_t head_dim = 64;
  int32_t n_heads = 3;  // in the group
  int64_t n_filled = 1;
  int64_t window = 0;
  float softcap = 0;
  float scale = 0.3f;
  KvType k_type = KvType::kF16;
  KvType v_type = KvType::kF16;
};

std::ostream& operator<<(std::ostream& out, const Shape& s) {
  return out << "head_dim=" << s.head_dim << " heads=" << s.n_heads << " positions=" << s.n_filled
             << " window=" << s.window << " softcap=" << s.softcap << " k=" << KvTypeName(s.k_type)
             << " v=" << KvTypeName(s.v_type);
}

// A cache of two KV heads whose second one holds random rows at [0, n_filled); the rest is full of NaN bytes that nobody may read. The
// memory ends right behind the last row that capacity allows.
class Cache {
 public:
  Cache(const Shape& shape, int64_t capacity, uint64_t seed = 1) : shape_(shape) {
    view_ = {.k_type = shape.k_type,
             .v_type = shape.v_type,
             .n_positions = capacity,
             .n_kv_heads = 2,
             .head_dim = shape.head_dim};
    k_.assign(static_cast<size_t>(2 * capacity * KvRowBytes(shape.k_type, shape.head_dim)), 0xFF);
    v_.assign(static_cast<size_t>(2 * capacity * KvRowBytes(shape.v_type, shape.head_dim)), 0xFF);
    view_.k = k_.data();
    view_.v = v_.data();
    Rng rng(seed);
    q_ = RandomRow(shape.n_heads * shape.head_dim, 1.5f, &rng);
    for (int64_t p = 0; p < shape.n_filled; ++p) {
      kAttentionOpsScalar.store_row(shape.k_type, RandomRow(shape.head_dim, 2.0f, &rng).data(), shape.head_dim,
                                    view_.KRow(1, p));
      kAttentionOpsScalar.store_row(shape.v_type, RandomRow(shape.head_dim, 1.0f, &rng).data(), shape.head_dim,
                                    view_.VRow(1, p));
    }
  }

  std::vector<float> Attend(const AttentionOps& ops) {
    std::vector<float> out(q_.size() + 16, kGuard);
    ops.attend(view_, Query(q_.data(), out.data()));
    for (size_t i = q_.size(); i < out.size(); ++i) EXPECT_EQ(out[i], kGuard) << "written past the end";
    out.resize(q_.size());
    return out;
  }

  // Softmax as the textbook has it, in double.
  std::vector<double> Truth() {
    std::vector<double> out(q_.size());
    const int64_t position = shape_.n_filled - 1;
    const int64_t begin = shape_.window > 0 ? std::max<int64_t>(0, position - shape_.window + 1) : 0;
    for (int64_t h = 0; h < shape_.n_heads; ++h) {
      std::vector<double> weights;
      double sum = 0;
      for (int64_t p = begin; p <= position; ++p) {
        double score = 0;
        for (int64_t d = 0; d < shape_.head_dim; ++d) {
          score += Value(shape_.k_type, view_.KRow(1, p), d) * q_[static_cast<size_t>(h * shape_.head_dim + d)];
        }
        score *= shape_.scale;
        if (shape_.softcap > 0) score = shape_.softcap * std::tanh(score / shape_.softcap);
        weights.push_back(std::exp(score));
        sum += weights.back();
      }
      for (int64_t d = 0; d < shape_.head_dim; ++d) {
        double& value = out[static_cast<size_t>(h * shape_.head_dim + d)];
        for (int64_t p = begin; p <= position; ++p) {
          value += weights[static_cast<size_t>(p - begin)] / sum * Value(shape_.v_type, view_.VRow(1, p), d);
        }
      }
    }
    return out;
  }

  KvLayerView& view() { return view_; }
  AttentionQuery Query(const float* q, float* out) const {
    return {.q = q,
            .n_heads = shape_.n_heads,
            .kv_head = 1,
            .position = shape_.n_filled - 1,
            .window = shape_.window,
            .scale = shape_.scale,
            .softcap = shape_.softcap,
            .out = out};
  }

  static double Value(KvType type, const uint8_t* row, int64_t d) {
    uint16_t half;
    if (type == KvType::kF32) {
      float value;
      std::memcpy(&value, row + 4 * d, 4);
      return value;
    }
    std::memcpy(&half, type == KvType::kF16 ? row + 2 * d : row + d / 32 * 34, 2);
    return type == KvType::kF16
               ? F16ToF32(half)
               : F16ToF32(half) * static_cast<double>(static_cast<int8_t>(row[d / 32 * 34 + 2 + d % 32]));
  }

 private:
  static constexpr float kGuard = 777.0f;
  Shape shape_;
  KvLayerView view_;
  std::vector<uint8_t> k_, v_;
  std::vector<float> q_;
};

// Values are at most 1, so 1e-5 is also relative to what a head can give.
void ExpectNearTruth(const Shape& shape) {
  Cache cache(shape, shape.n_filled);
  const std::vector<double> truth = cache.Truth();
  for (const AttentionOps* ops : Runnable()) {
    const std::vector<float> out = cache.Attend(*ops);
    for (size_t i = 0; i < out.size(); ++i)
      ASSERT_NEAR(out[i], truth[i], 1e-5) << IsaName(ops->isa) << " " << shape << " i=" << i;
  }
}

TEST(Attention, DispatchGivesTheTableOfTheLevelItWasAskedFor) {
#define PANTRY_ATTENTION_OPS(level, table) EXPECT_EQ(&AttentionOpsFor(Isa::level), &table);
#include "compute/kernels/attention/attention.inc"
#undef PANTRY_ATTENTION_OPS
}

TEST(Attention, IsSoftmaxForEveryContextLengthAroundATile) {
  for (const int64_t n : {1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 66, 127, 128, 129, 200})
    ExpectNearTruth({.n_filled = n});
}

TEST(Attention, IsSoftmaxForEveryHeadSizeAndKvType) {
  for (const int32_t head_dim : {16, 32, 64, 80, 96, 112, 128, 192, 256, 512}) {
    for (const KvType k : kAllTypes) {
      for (const KvType v : kAllTypes) {
        if (head_dim % 32 != 0 && (k == KvType::kQ8_0 || v == KvType::kQ8_0)) continue;
        ExpectNearTruth({.head_dim = head_dim, .n_filled = 70, .scale = 0.1f, .k_type = k, .v_type = v});
      }
    }
  }
}

TEST(Attention, IsSoftmaxForHeadSizesThatAreNoMultipleOfSixteen) {
  for (const int32_t head_dim : {2, 6, 30, 50, 100}) {
    ExpectNearTruth({.head_dim = head_dim, .n_filled = 70, .k_type = KvType::kF16, .v_type = KvType::kF32});
  }
}

TEST(Attention, IsSoftmaxForEveryGroupSize) {
  for (const int32_t n_heads : {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 33})
    ExpectNearTruth({.n_heads = n_heads, .n_filled = 67});
}

TEST(Attention, WindowLeavesOutWhatLiesBeforeIt) {
  for (const int64_t window : {1, 2, 5, 63, 64, 65, 100, 130, 149, 150, 151, 100000}) {
    for (const int64_t n : {1, 64, 65, 150, 192}) ExpectNearTruth({.n_filled = n, .window = window});
  }
}

TEST(Attention, ContentOutsideOfTheWindowChangesNothing) {
  Shape shape{.n_filled = 150, .window = 40};
  for (const AttentionOps* ops : Runnable()) {
    Cache clean(shape, 150), dirty(shape, 150);
    const int64_t begin = shape.n_filled - shape.window;
    std::memset(dirty.view().KRow(1, 0), 0xFF, static_cast<size_t>(begin * KvRowBytes(shape.k_type, shape.head_dim)));
    std::memset(dirty.view().VRow(1, 0), 0xFF, static_cast<size_t>(begin * KvRowBytes(shape.v_type, shape.head_dim)));
    EXPECT_EQ(clean.Attend(*ops), dirty.Attend(*ops)) << IsaName(ops->isa);
  }
}

TEST(Attention, WindowGivesTheBitsOfWeighingThePositionsBeforeItByZero) {
  // True only when tiles are counted from position 0 and not from the window's begin.
  for (const int64_t window : {1, 30, 64, 100, 127}) {
    Shape shape{.n_heads = 1, .n_filled = 200, .k_type = KvType::kF32};
    Cache whole(shape, 200);
    Rng rng(1);
    std::vector<float> opposite = RandomRow(64, 1.5f, &rng);  // the cache's query
    for (float& x : opposite) x *= -1000.0f;
    for (int64_t p = 0; p < shape.n_filled - window; ++p) {
      kAttentionOpsScalar.store_row(KvType::kF32, opposite.data(), 64, whole.view().KRow(1, p));
    }
    shape.window = window;
    Cache windowed(shape, 200);
    for (const AttentionOps* ops : Runnable()) {
      EXPECT_EQ(whole.Attend(*ops), windowed.Attend(*ops)) << IsaName(ops->isa) << " window=" << window;
    }
  }
}

TEST(Attention, SoftcapBoundsScores) {
  for (const float softcap : {0.5f, 5.0f, 50.0f}) {
    for (const int64_t n : {1, 65, 130})
      ExpectNearTruth({.n_filled = n, .window = 100, .softcap = softcap, .scale = 1.0f});
  }
}

TEST(Attention, HugeScoresDoNotOverflow) {
  Shape shape{.n_filled = 130, .scale = 1000.0f};
  Cache cache(shape, 130);
  for (const AttentionOps* ops : Runnable()) {
    for (const float x : cache.Attend(*ops)) ASSERT_LE(std::fabs(x), 1.01f) << IsaName(ops->isa);  // false for NaN
  }
}

TEST(Attention, CapacityOfTheCacheChangesNoBit) {
  for (const KvType type : kAllTypes) {
    const Shape shape{.n_filled = 131, .k_type = type, .v_type = type};
    for (const AttentionOps* ops : Runnable()) {
      const std::vector<float> tight = Cache(shape, 131).Attend(*ops);
      EXPECT_EQ(Cache(shape, 132).Attend(*ops), tight) << IsaName(ops->isa);
      EXPECT_EQ(Cache(shape, 4096).Attend(*ops), tight) << IsaName(ops->isa);
    }
  }
}

TEST(Attention, HeadOfAGroupGetsTheBitsItGetsAlone) {
  for (const int32_t n_heads : {2, 3, 5, 8}) {
    const Shape shape{.head_dim = 80, .n_heads = n_heads, .n_filled = 100};
    Cache cache(shape, 100);
    Rng rng(1);
    const std::vector<float> q = RandomRow(n_heads * 80, 1.5f, &rng);
    for (const AttentionOps* ops : Runnable()) {
      const std::vector<float> together = cache.Attend(*ops);
      for (int32_t h = 0; h < n_heads; ++h) {
        std::vector<float> alone(80);
        AttentionQuery query = cache.Query(q.data() + h * 80, alone.data());
        query.n_heads = 1;
        ops->attend(cache.view(), query);
        EXPECT_EQ(alone, std::vector<float>(together.begin() + h * 80, together.begin() + (h + 1) * 80))
            << IsaName(ops->isa);
      }
    }
  }
}

TEST(Attention, VectorIsasAgreeBitForBitAndWithScalarToOneMillionth) {
  for (const KvType type : kAllTypes) {
    for (const float softcap : {0.0f, 20.0f}) {
      const Shape shape{.head_dim = 96,
                        .n_heads = 7,
                        .n_filled = 333,
                        .window = 250,
                        .softcap = softcap,
                        .k_type = type,
                        .v_type = type};
      Cache cache(shape, 333);
      const std::vector<float> truth = cache.Attend(kAttentionOpsScalar);
      std::vector<float> first;
      for (const AttentionOps* ops : Runnable()) {
        if (ops->isa == Isa::kScalar) continue;
        const std::vector<float> out = cache.Attend(*ops);
        if (first.empty()) first = out;
        EXPECT_EQ(out, first) << IsaName(ops->isa) << " " << shape;
        for (size_t i = 0; i < out.size(); ++i)
          ASSERT_NEAR(out[i], truth[i], 1e-6) << IsaName(ops->isa) << " " << shape;
      }
    }
  }
}

TEST(Attention, StoreRowIsBitIdenticalOnEveryIsa) {
  Rng rng(3);
  for (const KvType type : kAllTypes) {
    for (const int32_t head_dim : {32, 64, 96, 128, 256, 512}) {
      for (const float magnitude : {0.0f, 1e-39f, 1e-6f, 1.0f, 300.0f, 7e4f}) {
        const std::vector<float> x = RandomRow(head_dim, magnitude, &rng);
        const size_t n_bytes = static_cast<size_t>(KvRowBytes(type, head_dim));
        std::vector<uint8_t> truth(n_bytes + 16, 0xEE);
        kAttentionOpsScalar.store_row(type, x.data(), head_dim, truth.data());
        for (const AttentionOps* ops : Runnable()) {
          std::vector<uint8_t> row(n_bytes + 16, 0xEE);
          ops->store_row(type, x.data(), head_dim, row.data());
          EXPECT_EQ(row, truth) << IsaName(ops->isa) << " " << KvTypeName(type) << " " << head_dim << " " << magnitude;
        }
      }
    }
  }
}

TEST(Attention, StoredRowsAreCloseToWhatWasStored) {
  Rng rng(4);
  const std::vector<float> x = RandomRow(64, 3.0f, &rng);
  const double bounds[] = {0, 3.0 / 2048, 3.0 / 127 * 0.52};
  for (const KvType type : kAllTypes) {
    std::vector<uint8_t> row(static_cast<size_t>(KvRowBytes(type, 64)));
    for (const AttentionOps* ops : Runnable()) {
      ops->store_row(type, x.data(), 64, row.data());
      for (size_t d = 0; d < 64; ++d) {
        ASSERT_NEAR(Cache::Value(type, row.data(), static_cast<int64_t>(d)), x[d], bounds[static_cast<size_t>(type)]);
      }
    }
  }
}

TEST(Attention, Q8RowKeepsThatANumberWasNotFinite) {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> x(64, 1.0f);
    x[40] = bad;
    for (const AttentionOps* ops : Runnable()) {
      std::vector<uint8_t> row(68);
      ops->store_row(KvType::kQ8_0, x.data(), 64, row.data());
      EXPECT_NEAR(Cache::Value(KvType::kQ8_0, row.data(), 0), 1.0, 1e-3) << IsaName(ops->isa);
      EXPECT_TRUE(std::isnan(Cache::Value(KvType::kQ8_0, row.data(), 32))) << IsaName(ops->isa);
    }
  }
}

TEST(KvType, NamesParseBackAndOthersAreRefusedWithTheList) {
  for (const KvType type : kAllTypes) EXPECT_EQ(ParseKvType(KvTypeName(type)).value(), type);
  const auto refused = ParseKvType("q4_0");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), ::testing::HasSubstr("f32, f16, q8_0"));
}

TEST(KvType, RowBytesFollowTheLayout) {
  EXPECT_EQ(KvRowBytes(KvType::kF32, 64), 256);
  EXPECT_EQ(KvRowBytes(KvType::kF16, 64), 128);
  EXPECT_EQ(KvRowBytes(KvType::kQ8_0, 64), 68);
}

}  // namespace
}  // namespace pantry
