// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/attention/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "base/rng.h"
#include "weights/quant/half.h"

namespace pantry {

#define PANTRY_ATTENTION_OPS(isa, table) extern const AttentionOps table;
#include "compute/kernels/attention/attention.inc"
#undef PANTRY_ATTENTION_OPS

namespace {

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
  int32_t n_rows = 1;   // the last positions
  int64_t n_filled = 1;
  int64_t window = 0;
  float softcap = 0;
  float scale = 0.3f;
  KvType k_type = KvType::kF16;
  KvType v_type = KvType::kF16;
};

std::ostream& operator<<(std::ostream& out, const Shape& s) {
  return out << "head_dim=" << s.head_dim << " heads=" << s.n_heads << " rows=" << s.n_rows
             << " positions=" << s.n_filled << " window=" << s.window << " softcap=" << s.softcap
             << " k=" << KvTypeName(s.k_type) << " v=" << KvTypeName(s.v_type);
}

// What makes the number of the largest magnitude -8.
float Q4Scale(std::span<const float> block) {
  const auto smaller = [](float a, float b) { return std::fabs(a) < std::fabs(b); };
  return *std::max_element(block.begin(), block.end(), smaller) / -8.0f;
}

// What a row of the cache, or a query for Q8_0 keys, stands for.
std::vector<double> Rounded(KvType type, std::span<const float> row, bool round_scale = true) {
  std::vector<double> values(row.begin(), row.end());
  if (type == KvType::kF16) {
    for (size_t d = 0; d < row.size(); ++d) values[d] = F16ToF32(F32ToF16(row[d]));
  } else if (type == KvType::kQ8_0) {
    for (size_t first = 0; first < row.size(); first += 32) {
      float max = 0;
      for (const float x : row.subspan(first, 32)) max = std::max(max, std::fabs(x));
      const float scale = max / 127.0f, stored = round_scale ? F16ToF32(F32ToF16(scale)) : scale;
      for (size_t d = first; d < first + 32; ++d)
        values[d] = max > 0 ? std::nearbyint(row[d] * (1.0f / scale)) * double{stored} : 0;
    }
  } else if (type == KvType::kQ4_0) {
    for (size_t first = 0; first < row.size(); first += 32) {
      const std::span<const float> block = row.subspan(first, 32);
      const float scale = Q4Scale(block);
      for (size_t d = first; d < first + 32; ++d) {
        const int code = scale != 0 ? std::min(15, static_cast<int>(row[d] * (1.0f / scale) + 8.5f)) : 8;
        values[d] = (code - 8) * double{F16ToF32(F32ToF16(scale))};
      }
    }
  }
  return values;
}

// Weights of positions [begin, end) as they meet 32 elements of Q4_0 values: with the values' scales, positions of a tile of equal p % 16
// are rounded under one scale. `step`: the largest such scale times the largest code, which a weight that is rounded the other way may cost.
std::vector<double> RoundedWeights(int64_t begin, const std::vector<double>& weights,
                                   const std::vector<double>& value_scales, double* step) {
  std::vector<double> rounded(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    const auto same_class = [&](size_t j) {
      const int64_t p = begin + static_cast<int64_t>(i), other = begin + static_cast<int64_t>(j);
      return p / kAttentionTile == other / kAttentionTile && p % 16 == other % 16;
    };
    double highest = 0;
    for (size_t j = 0; j < weights.size(); ++j) {
      if (same_class(j)) highest = std::max(highest, std::fabs(weights[j] * value_scales[j]));
    }
    const double scale = highest / 127;
    *step = std::max(*step, 8 * scale);
    rounded[i] = scale > 0 ? std::nearbyint(weights[i] * value_scales[i] / scale) * scale / value_scales[i] : 0;
  }
  return rounded;
}

// Memory that ends right behind the last pack that capacity allows, full of NaN bytes that nobody may take for content.
struct KvBytes {
  KvBytes(const KvLayerView& shape, int64_t capacity) : view(shape) {
    view.n_positions = capacity;
    k.assign(static_cast<size_t>(view.n_kv_heads * KvHeadBytes(view.k_type, view.head_dim, capacity)), 0xFF);
    v.assign(static_cast<size_t>(view.n_kv_heads * KvHeadBytes(view.v_type, view.head_dim, capacity)), 0xFF);
    view.k = k.data();
    view.v = v.data();
  }
  KvLayerView view;
  std::vector<uint8_t> k, v;
};

// A cache of two KV heads whose second one holds random rows at [0, n_filled).
class Cache {
 public:
  Cache(const Shape& shape, int64_t capacity, const AttentionOps& writer = kAttentionOpsScalar)
      : shape_(shape),
        bytes_({.k_type = shape.k_type, .v_type = shape.v_type, .n_kv_heads = 2, .head_dim = shape.head_dim},
               capacity) {
    Rng rng(1);
    q_ = RandomRow(shape.n_rows * shape.n_heads * shape.head_dim, 1.5f, &rng);
    for (int64_t p = 0; p < shape.n_filled; ++p) {
      keys_.push_back(RandomRow(shape.head_dim, 2.0f, &rng));
      values_.push_back(RandomRow(shape.head_dim, 1.0f, &rng));
      writer.store(view(), 1, p, keys_.back().data(), values_.back().data());
    }
  }

  // [n_rows, n_heads, head_dim]: the last n_rows positions'.
  std::vector<float> Attend(const AttentionOps& ops) const {
    std::vector<float> out(q_.size() + 16, kGuard);
    ops.attend(view(), Query(0, shape_.n_rows), out.data(), shape_.n_heads * shape_.head_dim);
    for (size_t i = q_.size(); i < out.size(); ++i) EXPECT_EQ(out[i], kGuard) << "written past the end";
    out.resize(q_.size());
    return out;
  }

  // Softmax as the textbook has it, in double; weights are rounded where Q4_0 values want it, and `step` says what one of them may cost.
  std::vector<double> Truth(double* step) const {
    std::vector<std::vector<double>> keys, values;
    for (const auto& row : keys_) keys.push_back(Rounded(shape_.k_type, row));
    for (const auto& row : values_) values.push_back(Rounded(shape_.v_type, row));
    const KvType q_type = KvBlock(shape_.k_type) > 1 ? KvType::kQ8_0 : KvType::kF32;
    std::vector<double> out(q_.size());
    const auto n = static_cast<size_t>(shape_.head_dim);
    for (int64_t i = 0; i < shape_.n_rows * shape_.n_heads; ++i) {
      const int64_t position = shape_.n_filled - shape_.n_rows + i / shape_.n_heads;
      const int64_t begin = shape_.window > 0 ? std::max<int64_t>(0, position - shape_.window + 1) : 0;
      const size_t first = static_cast<size_t>(i) * n;
      const std::vector<double> q = Rounded(q_type, std::span(q_).subspan(first, n), false);
      std::vector<double> weights;
      for (int64_t p = begin; p <= position; ++p) {
        double score = 0;
        for (size_t d = 0; d < n; ++d) score += keys[static_cast<size_t>(p)][d] * q[d];
        score *= shape_.scale;
        if (shape_.softcap > 0) score = shape_.softcap * std::tanh(score / shape_.softcap);
        weights.push_back(std::exp(score));
      }
      const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
      for (double& weight : weights) weight /= sum;
      std::vector<double> plain = weights;
      for (size_t d = 0; d < n; ++d) {
        if (shape_.v_type == KvType::kQ4_0 && d % 32 == 0) {
          std::vector<double> scales;
          for (int64_t p = begin; p <= position; ++p)
            scales.push_back(F16ToF32(F32ToF16(Q4Scale(std::span(values_[static_cast<size_t>(p)]).subspan(d, 32)))));
          weights = RoundedWeights(begin, plain, scales, step);
        }
        for (int64_t p = begin; p <= position; ++p)
          out[first + d] += weights[static_cast<size_t>(p - begin)] * values[static_cast<size_t>(p)][d];
      }
    }
    return out;
  }

  const KvLayerView& view() const { return bytes_.view; }
  const KvBytes& bytes() const { return bytes_; }
  const std::vector<float>& q() const { return q_; }
  // Rows [first, first + n_rows) of the cache's.
  AttentionQuery Query(int64_t first, int32_t n_rows) const {
    const int64_t stride = shape_.n_heads * shape_.head_dim;
    return {.q = q_.data() + first * stride,
            .q_stride = stride,
            .n_rows = n_rows,
            .n_heads = shape_.n_heads,
            .kv_head = 1,
            .position = shape_.n_filled - shape_.n_rows + first,
            .window = shape_.window,
            .scale = shape_.scale,
            .softcap = shape_.softcap};
  }

 private:
  static constexpr float kGuard = 777.0f;
  Shape shape_;
  KvBytes bytes_;
  std::vector<std::vector<float>> keys_, values_;
  std::vector<float> q_;
};

// Values are at most 1, so 1e-5 is also relative to what a head can give. A weight may be rounded the other way, two hardly.
void ExpectNearTruth(const Shape& shape) {
  Cache cache(shape, shape.n_filled);
  double step = 0;
  const std::vector<double> truth = cache.Truth(&step);
  for (const AttentionOps* ops : Runnable()) {
    const std::vector<float> out = cache.Attend(*ops);
    for (size_t i = 0; i < out.size(); ++i)
      ASSERT_NEAR(out[i], truth[i], 1e-5 + step) << IsaName(ops->isa) << " " << shape << " i=" << i;
  }
}

TEST(Attention, DispatchGivesTheTableOfTheLevelItWasAskedFor) {
#define PANTRY_ATTENTION_OPS(level, table) EXPECT_EQ(&AttentionOpsFor(Isa::level), &table);
#include "compute/kernels/attention/attention.inc"
#undef PANTRY_ATTENTION_OPS
}

TEST(Attention, IsSoftmaxForEveryContextLengthAroundATile) {
  for (const int64_t n : {1, 2, 3, 15, 16, 17, 63, 64, 65, 127, 128, 200, 255, 256, 257, 300, 511, 512, 513, 800})
    ExpectNearTruth({.n_filled = n});
}

TEST(Attention, IsSoftmaxForEveryRowOfABlock) {
  for (const int32_t n_rows : {2, 3, 5, 17, 40}) {
    for (const int64_t n : {40, 64, 270, 290, 530}) {
      for (const int64_t window : {0, 1, 7, 100, 260})
        ExpectNearTruth({.n_rows = n_rows, .n_filled = n, .window = window});
    }
  }
}

TEST(Attention, IsSoftmaxForEveryHeadSizeAndKvType) {
  for (const int32_t head_dim : {16, 32, 64, 80, 96, 112, 128, 192, 256, 512, 576}) {
    for (const KvType k : kAllKvTypes) {
      for (const KvType v : kAllKvTypes) {
        if (head_dim % KvBlock(k) != 0 || head_dim % KvBlock(v) != 0) continue;
        ExpectNearTruth({.head_dim = head_dim, .n_rows = 2, .n_filled = 300, .scale = 0.1f, .k_type = k, .v_type = v});
      }
    }
  }
}

TEST(Attention, IsSoftmaxForHeadSizesThatAreNoMultipleOfSixteen) {
  for (const int32_t head_dim : {2, 6, 30, 50, 100}) {
    ExpectNearTruth(
        {.head_dim = head_dim, .n_rows = 2, .n_filled = 300, .k_type = KvType::kF16, .v_type = KvType::kF32});
  }
}

TEST(Attention, IsSoftmaxForEveryGroupSize) {
  for (const int32_t n_heads : {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 33})
    ExpectNearTruth({.n_heads = n_heads, .n_filled = 67});
}

TEST(Attention, WindowLeavesOutWhatLiesBeforeIt) {
  for (const int64_t window : {1, 2, 5, 63, 64, 65, 149, 150, 151, 256, 400, 100000}) {
    for (const int64_t n : {1, 64, 65, 150, 256, 258, 600}) ExpectNearTruth({.n_filled = n, .window = window});
  }
}

TEST(Attention, ContentThatARowDoesNotAttendToChangesNoBit) {
  // Before the window, behind the row's own position, and where nothing was ever stored.
  for (const KvType type : kAllKvTypes) {
    const Shape shape{.n_rows = 4, .n_filled = 310, .window = 40, .k_type = type, .v_type = type};
    const std::vector<float> nan(64, std::numeric_limits<float>::quiet_NaN());
    for (const AttentionOps* ops : Runnable()) {
      Cache cache(shape, 320);
      const std::vector<float> expected = cache.Attend(*ops);
      for (int64_t p = 0; p < 306 - 39; ++p) ops->store(cache.view(), 1, p, nan.data(), nan.data());
      EXPECT_EQ(cache.Attend(*ops), expected) << IsaName(ops->isa) << " " << shape;
      for (int64_t p = 308; p < 320; ++p) ops->store(cache.view(), 1, p, nan.data(), nan.data());
      const std::vector<float> poisoned = cache.Attend(*ops);  // the last two rows see them, the first two do not
      EXPECT_TRUE(std::equal(expected.begin(), expected.begin() + 2 * 3 * 64, poisoned.begin())) << IsaName(ops->isa);
      EXPECT_TRUE(std::isnan(poisoned.back())) << IsaName(ops->isa);
    }
  }
}

TEST(Attention, WindowGivesTheBitsOfWeighingThePositionsBeforeItByZero) {
  // True only when tiles are counted from position 0 and not from the window's begin.
  for (const int64_t window : {1, 30, 256, 300, 450}) {
    Shape shape{.n_heads = 1, .n_filled = 700, .k_type = KvType::kF32};
    Cache whole(shape, 700);
    std::vector<float> opposite = whole.q(), value(64, 1.0f);
    for (float& x : opposite) x *= -1000.0f;
    for (int64_t p = 0; p < shape.n_filled - window; ++p) {
      kAttentionOpsScalar.store(whole.view(), 1, p, opposite.data(), value.data());
    }
    shape.window = window;
    Cache windowed(shape, 700);
    for (const AttentionOps* ops : Runnable()) {
      EXPECT_EQ(whole.Attend(*ops), windowed.Attend(*ops)) << IsaName(ops->isa) << " window=" << window;
    }
  }
}

TEST(Attention, SoftcapBoundsScores) {
  for (const float softcap : {0.5f, 5.0f, 50.0f}) {
    for (const int64_t n : {1, 65, 330})
      ExpectNearTruth({.n_filled = n, .window = 100, .softcap = softcap, .scale = 1.0f});
  }
}

TEST(Attention, HugeScoresDoNotOverflow) {
  Shape shape{.n_filled = 530, .scale = 1000.0f};
  Cache cache(shape, 530);
  for (const AttentionOps* ops : Runnable()) {
    for (const float x : cache.Attend(*ops)) ASSERT_LE(std::fabs(x), 1.01f) << IsaName(ops->isa);  // false for NaN
  }
}

TEST(Attention, CapacityOfTheCacheChangesNoBit) {
  for (const KvType type : kAllKvTypes) {
    const Shape shape{.n_filled = 131, .k_type = type, .v_type = type};
    for (const AttentionOps* ops : Runnable()) {
      const std::vector<float> tight = Cache(shape, 131).Attend(*ops);
      EXPECT_EQ(Cache(shape, 132).Attend(*ops), tight) << IsaName(ops->isa);
      EXPECT_EQ(Cache(shape, 4096).Attend(*ops), tight) << IsaName(ops->isa);
    }
  }
}

TEST(Attention, QueryOfABlockGetsTheBitsItGetsAlone) {
  for (const KvType type : kAllKvTypes) {
    for (const int32_t n_heads : {1, 2, 3, 5, 8}) {
      for (const int64_t window : {0, 3, 270}) {
        const int32_t head_dim = 96, n_rows = 11;
        const Shape shape{.head_dim = head_dim,
                          .n_heads = n_heads,
                          .n_rows = n_rows,
                          .n_filled = 519,  // rows end in two tiles
                          .window = window,
                          .k_type = type,
                          .v_type = type};
        Cache cache(shape, 519);
        for (const AttentionOps* ops : Runnable()) {
          const std::vector<float> together = cache.Attend(*ops);
          for (int32_t i = 0; i < n_rows * n_heads; ++i) {
            std::vector<float> alone(head_dim);
            AttentionQuery query = cache.Query(i / n_heads, 1);
            query.q = cache.q().data() + i * head_dim;
            query.n_heads = 1;
            ops->attend(cache.view(), query, alone.data(), head_dim);
            ASSERT_EQ(alone, std::vector<float>(together.begin() + i * head_dim, together.begin() + (i + 1) * head_dim))
                << IsaName(ops->isa) << " " << shape << " i=" << i;
          }
        }
      }
    }
  }
}

TEST(Attention, TilesComputedApartAndFoldedGiveTheSameBits) {
  for (const int32_t head_dim : {32, 64, 96, 30}) {
    for (const int64_t window : {0, 5, 300}) {
      const Shape shape{.head_dim = head_dim, .n_rows = 7, .n_filled = 1028, .window = window};
      Cache cache(shape, 1028);
      for (const AttentionOps* ops : Runnable()) {
        const int64_t floats = PartialFloats(head_dim), n_queries = shape.n_rows * shape.n_heads;
        constexpr int64_t kTiles = 5;
        std::vector<float> partials(static_cast<size_t>(kTiles * n_queries * floats)), out(cache.q().size());
        for (int64_t tile = 0; tile < kTiles; ++tile)
          ops->attend_tile(cache.view(), cache.Query(0, shape.n_rows), tile,
                           partials.data() + tile * n_queries * floats);
        for (int64_t i = 0; i < n_queries; ++i) {
          float* first = partials.data() + i * floats;
          ops->fold(first, n_queries * floats, 3, head_dim, nullptr);  // in two rounds
          std::copy_n(first, head_dim + 2, first + 2 * n_queries * floats);
          ops->fold(first + 2 * n_queries * floats, n_queries * floats, 3, head_dim, out.data() + i * head_dim);
        }
        EXPECT_EQ(out, cache.Attend(*ops)) << IsaName(ops->isa) << " " << shape;
      }
    }
  }
}

TEST(Attention, VectorIsasAgreeBitForBitAndWithScalarToOneMillionth) {
  for (const KvType type : kAllKvTypes) {
    for (const float softcap : {0.0f, 20.0f}) {
      const Shape shape{.head_dim = 96,
                        .n_heads = 7,
                        .n_rows = 3,
                        .n_filled = 733,
                        .window = 450,
                        .softcap = softcap,
                        .k_type = type,
                        .v_type = type};
      Cache cache(shape, 733);
      const std::vector<float> truth = cache.Attend(kAttentionOpsScalar);
      double step = 0;  // another exp may round a weight the other way
      if (type == KvType::kQ4_0) cache.Truth(&step);
      std::vector<float> first;
      for (const AttentionOps* ops : Runnable()) {
        if (ops->isa == Isa::kScalar) continue;
        const std::vector<float> out = cache.Attend(*ops);
        if (HasFusedMultiplyAdd(ops->isa)) {
          if (first.empty()) first = out;
          EXPECT_EQ(out, first) << IsaName(ops->isa) << " " << shape;
        }
        for (size_t i = 0; i < out.size(); ++i)
          ASSERT_NEAR(out[i], truth[i], 1e-6 + step) << IsaName(ops->isa) << " " << shape;
      }
    }
  }
}

TEST(Attention, StoreIsBitIdenticalOnEveryIsa) {
  Rng rng(3);
  for (const KvType type : kAllKvTypes) {
    for (const int32_t head_dim : {32, 64, 96, 128, 256, 512}) {
      for (const float magnitude : {0.0f, 1e-39f, 1e-6f, 1.0f, 300.0f, 7e4f}) {
        const KvLayerView shape = {.k_type = type, .v_type = type, .n_kv_heads = 2, .head_dim = head_dim};
        KvBytes truth(shape, 70);
        const std::vector<float> key = RandomRow(head_dim, magnitude, &rng),
                                 value = RandomRow(head_dim, magnitude, &rng);
        for (const int64_t p : {0, 17, 69}) kAttentionOpsScalar.store(truth.view, 1, p, key.data(), value.data());
        for (const AttentionOps* ops : Runnable()) {
          KvBytes bytes(shape, 70);
          for (const int64_t p : {0, 17, 69}) ops->store(bytes.view, 1, p, key.data(), value.data());
          EXPECT_EQ(bytes.k, truth.k) << IsaName(ops->isa) << " " << KvTypeName(type) << " " << head_dim;
          EXPECT_EQ(bytes.v, truth.v) << IsaName(ops->isa) << " " << KvTypeName(type) << " " << head_dim;
        }
      }
    }
  }
}

TEST(Attention, StoredNumbersLieWhereTheLayoutSays) {
  constexpr int64_t kDim = 64, kPosition = 70, kLane = kPosition - 64;
  const auto half_at = [](const std::vector<uint8_t>& bytes, int64_t at) {
    uint16_t half;
    std::memcpy(&half, bytes.data() + at, sizeof(half));
    return F16ToF32(half);
  };
  std::vector<float> key(kDim), value(kDim);
  for (size_t d = 0; d < kDim; ++d) {
    key[d] = static_cast<float>(d) - 20;
    value[d] = 127 - static_cast<float>(d);
  }
  key[0] = key[32] = 127;  // a scale of 1
  value[32] = 127;
  for (const AttentionOps* ops : Runnable()) {
    KvBytes f16({.n_kv_heads = 2, .head_dim = kDim}, 100);
    ops->store(f16.view, 1, kPosition, key.data(), value.data());
    const int64_t head = 128 * kDim * 2, pack = 64 * kDim * 2;
    EXPECT_EQ(half_at(f16.k, head + pack + (33 * 64 + kLane) * 2), key[33]);
    EXPECT_EQ(half_at(f16.v, head + pack + (kLane * kDim + 33) * 2), value[33]);

    KvBytes q8({.k_type = KvType::kQ8_0, .v_type = KvType::kQ8_0, .n_kv_heads = 2, .head_dim = kDim}, 100);
    ops->store(q8.view, 1, kPosition, key.data(), value.data());
    const int64_t q8_pack = 3 * 64 * 68, block = q8_pack + 64 * 34;  // the second of the key's
    EXPECT_EQ(half_at(q8.k, block + kLane * 2), 1.0f);
    EXPECT_EQ(q8.k[static_cast<size_t>(block + 2 * 64 + kLane * 4 + 1)], 128 + key[33]);
    EXPECT_EQ(half_at(q8.v, q8_pack + (64 + kLane) * 2), 1.0f);
    EXPECT_EQ(q8.v[static_cast<size_t>(q8_pack + 2 * 64 * 2 + kLane * kDim + 33)], value[33]);

    // Bytes hold elements j and j + 16 of a block. Here they are the numbers of a scale of -1, and 8 more as codes.
    std::vector<float> key4(kDim), value4(kDim);
    for (size_t d = 0; d < kDim; ++d) {
      key4[d] = static_cast<float>(d % 9);
      value4[d] = static_cast<float>(8 - d % 9);
    }
    KvBytes q4({.k_type = KvType::kQ4_0, .v_type = KvType::kQ4_0, .n_kv_heads = 2, .head_dim = kDim}, 100);
    ops->store(q4.view, 1, kPosition, key4.data(), value4.data());
    const int64_t second = 3 * 64 * 36 + 64 * 18;
    const auto codes = [](const std::vector<float>& row, size_t d) {
      return (8 - static_cast<int>(row[d])) | (8 - static_cast<int>(row[d + 16])) << 4;
    };
    EXPECT_EQ(half_at(q4.k, second + kLane * 2), -1.0f);
    EXPECT_EQ(q4.k[static_cast<size_t>(second + 2 * 64 + (2 * 64 + kLane) * 4 + 1)], codes(key4, 32 + 9));
    EXPECT_EQ(half_at(q4.v, second + kLane * 2), -1.0f);
    EXPECT_EQ(q4.v[static_cast<size_t>(second + 2 * 64 + (kLane * 16 + 9) * 4)], codes(value4, 32 + 9));
    ops->store(q4.view, 1, kPosition + 16, key4.data(), value4.data());
    EXPECT_EQ(q4.v[static_cast<size_t>(second + 2 * 64 + (kLane * 16 + 9) * 4 + 1)], codes(value4, 32 + 9));
  }
}

TEST(Attention, StoringAPositionLeavesTheOthersAlone) {
  for (const KvType type : kAllKvTypes) {
    Shape shape{.n_filled = 100, .k_type = type, .v_type = type};
    for (const AttentionOps* ops : Runnable()) {
      Cache cache(shape, 128);
      const std::vector<float> expected = cache.Attend(*ops), other(64, 5.0f);
      for (int64_t p = 0; p < 128; ++p) ops->store(cache.view(), 0, p, other.data(), other.data());
      for (int64_t p = 100; p < 128; ++p) ops->store(cache.view(), 1, p, other.data(), other.data());
      EXPECT_EQ(cache.Attend(*ops), expected) << IsaName(ops->isa) << " " << KvTypeName(type);
    }
  }
}

TEST(Attention, Q4TiesGoToTheFirstNumberAsInGguf) {
  for (const float first : {2.0f, -2.0f}) {
    std::vector<float> x(32, 0.5f);
    x[3] = first;
    x[20] = -first;
    for (const AttentionOps* ops : Runnable()) {
      KvBytes bytes({.k_type = KvType::kQ4_0, .v_type = KvType::kQ4_0, .n_kv_heads = 1, .head_dim = 32}, 1);
      ops->store(bytes.view, 0, 0, x.data(), x.data());
      uint16_t scale;
      std::memcpy(&scale, bytes.k.data(), sizeof(scale));
      EXPECT_EQ(F16ToF32(scale), first / -8) << IsaName(ops->isa);
      EXPECT_EQ(bytes.k[2 * 64 + 3] & 15, 0) << IsaName(ops->isa);              // -8, exactly
      EXPECT_EQ(bytes.k[2 * 64 + (64) * 4 + 0] >> 4, 15) << IsaName(ops->isa);  // 8 is cut to 7
    }
  }
}

TEST(Attention, BlockKeepsThatANumberWasNotFinite) {
  for (const KvType type : {KvType::kQ8_0, KvType::kQ4_0})
    for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      std::vector<float> x(64, 1.0f), q(64, 0.1f), out(64);
      x[40] = bad;
      const std::vector<float> fine(64, 1.0f);
      for (const AttentionOps* ops : Runnable()) {
        KvBytes bytes({.k_type = type, .v_type = type, .n_kv_heads = 1, .head_dim = 64}, 2);
        AttentionQuery query{.q = q.data(), .q_stride = 64, .n_rows = 1, .n_heads = 1, .scale = 1};
        ops->store(bytes.view, 0, 0, fine.data(), x.data());
        ops->attend(bytes.view, query, out.data(), 64);
        EXPECT_NEAR(out[0], 1.0f, 1e-3) << IsaName(ops->isa);
        EXPECT_TRUE(std::isnan(out[32])) << IsaName(ops->isa);
        ops->store(bytes.view, 0, 0, x.data(), fine.data());
        ops->attend(bytes.view, query, out.data(), 64);
        EXPECT_TRUE(std::isnan(out[0])) << IsaName(ops->isa);
      }
    }
}

TEST(KvType, NamesParseBackAndOthersAreRefusedWithTheList) {
  for (const KvType type : kAllKvTypes) EXPECT_EQ(ParseKvType(KvTypeName(type)).value(), type);
  const auto refused = ParseKvType("q4_1");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), ::testing::HasSubstr("f32, f16, q8_0, q4_0"));
}

TEST(KvType, BytesFollowTheLayout) {
  EXPECT_EQ(KvRowBytes(KvType::kF32, 64), 256);
  EXPECT_EQ(KvRowBytes(KvType::kF16, 64), 128);
  EXPECT_EQ(KvRowBytes(KvType::kQ8_0, 64), 68);
  EXPECT_EQ(KvHeadBytes(KvType::kQ8_0, 64, 65), 128 * 68);
  EXPECT_EQ(KvRowBytes(KvType::kQ4_0, 64), 36);
  EXPECT_EQ(KvHeadBytes(KvType::kF16, 64, 64), 64 * 128);
}

}  // namespace
}  // namespace pantry
