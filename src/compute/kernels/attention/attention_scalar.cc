// SPDX-License-Identifier: Apache-2.0
// The truth: attention in the order of summation that attention.h states, one head and one position after the other.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "compute/kernels/attention/attention.h"
#include "weights/quant/half.h"

namespace pantry {
namespace {

constexpr int kLanes = 16;  // of the sum of weights
constexpr int kQ8Block = 32;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

float LoadHalf(const uint8_t* bytes) {
  uint16_t half;
  std::memcpy(&half, bytes, sizeof(half));
  return F16ToF32(half);
}
void StoreHalf(float x, uint8_t* bytes) {
  const uint16_t half = F32ToF16(x);
  std::memcpy(bytes, &half, sizeof(half));
}

// 32 numbers and their scale. As GGUF has it: the numbers are divided by the exact scale, whoever stores it rounds it then.
struct Q8Block {
  float scale;
  std::array<int8_t, kQ8Block> codes{};

  explicit Q8Block(const float* x) {
    float max = 0;
    bool finite = true;
    for (int i = 0; i < kQ8Block; ++i) {
      finite = finite && std::isfinite(x[i]);
      max = std::max(max, std::fabs(x[i]));
    }
    scale = max / 127.0f;
    if (scale < std::numeric_limits<float>::min()) scale = 0;
    if (!finite) scale = std::numeric_limits<float>::quiet_NaN();
    if (!(scale > 0)) return;
    const float inverse = 1.0f / scale;
    for (size_t i = 0; i < kQ8Block; ++i) codes[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
  }
};

// Where position `lane` of a pack keeps element d and the scale of its block.
struct Place {
  int64_t element;
  int64_t scale;  // Q8_0 only
};
Place KeyPlace(KvType type, int64_t lane, int64_t d) {
  const int64_t n = d * kKvPack + lane;
  if (type == KvType::kF32) return {4 * n, 0};
  if (type == KvType::kF16) return {2 * n, 0};
  const int64_t block = d / kQ8Block * kKvPack * (2 + kQ8Block), in_block = d % kQ8Block;
  return {block + 2 * kKvPack + (in_block / 4 * kKvPack + lane) * 4 + in_block % 4, block + 2 * lane};
}
Place ValuePlace(KvType type, int64_t head_dim, int64_t lane, int64_t d) {
  const int64_t n = lane * head_dim + d;
  if (type == KvType::kF32) return {4 * n, 0};
  if (type == KvType::kF16) return {2 * n, 0};
  return {head_dim / kQ8Block * kKvPack * 2 + n, (d / kQ8Block * kKvPack + lane) * 2};
}

void StoreKey(KvType type, int64_t head_dim, int64_t lane, const float* x, uint8_t* pack) {
  for (int64_t d = 0; d < head_dim; ++d) {
    const Place place = KeyPlace(type, lane, d);
    if (type == KvType::kF32) std::memcpy(pack + place.element, x + d, sizeof(float));
    if (type == KvType::kF16) StoreHalf(x[d], pack + place.element);
    if (type == KvType::kQ8_0 && d % kQ8Block == 0) {
      const Q8Block block(x + d);
      StoreHalf(block.scale, pack + place.scale);
      for (int64_t i = 0; i < kQ8Block; ++i) {
        pack[KeyPlace(type, lane, d + i).element] = static_cast<uint8_t>(block.codes[static_cast<size_t>(i)] + 128);
      }
    }
  }
}

void StoreValue(KvType type, int64_t head_dim, int64_t lane, const float* x, uint8_t* pack) {
  for (int64_t d = 0; d < head_dim; ++d) {
    const Place place = ValuePlace(type, head_dim, lane, d);
    if (type == KvType::kF32) std::memcpy(pack + place.element, x + d, sizeof(float));
    if (type == KvType::kF16) StoreHalf(x[d], pack + place.element);
    if (type == KvType::kQ8_0 && d % kQ8Block == 0) {
      const Q8Block block(x + d);
      StoreHalf(block.scale, pack + place.scale);
      std::memcpy(pack + place.element, block.codes.data(), kQ8Block);
    }
  }
}

void Store(const KvLayerView& kv, int32_t kv_head, int64_t position, const float* key, const float* value) {
  const int64_t lane = position % kKvPack;
  StoreKey(kv.k_type, kv.head_dim, lane, key, kv.KPack(kv_head, position - lane));
  StoreValue(kv.v_type, kv.head_dim, lane, value, kv.VPack(kv_head, position - lane));
}

float Dot(KvType type, int64_t head_dim, const float* q, const uint8_t* pack, int64_t lane) {
  float sum = 0;
  if (type == KvType::kQ8_0) {
    for (int64_t d = 0; d < head_dim; d += kQ8Block) {
      const Q8Block block(q + d);
      int32_t integer_sum = 0;
      for (int64_t i = 0; i < kQ8Block; ++i) {
        integer_sum += block.codes[static_cast<size_t>(i)] * (pack[KeyPlace(type, lane, d + i).element] - 128);
      }
      const float k_scale = LoadHalf(pack + KeyPlace(type, lane, d).scale);
      sum = std::fma(static_cast<float>(integer_sum), block.scale * k_scale, sum);
    }
    return sum;
  }
  for (int64_t d = 0; d < head_dim; ++d) {
    const uint8_t* at = pack + KeyPlace(type, lane, d).element;
    float key;
    if (type == KvType::kF16) key = LoadHalf(at);
    else std::memcpy(&key, at, sizeof(key));
    sum = std::fma(q[d], key, sum);
  }
  return sum;
}

// Element d of a value, as what a weight is multiplied by first and then.
struct Value {
  float scale;  // 1 where the type has none
  float number;
};
Value ValueAt(KvType type, int64_t head_dim, const uint8_t* pack, int64_t lane, int64_t d) {
  const Place place = ValuePlace(type, head_dim, lane, d);
  const uint8_t* at = pack + place.element;
  if (type == KvType::kQ8_0) return {LoadHalf(pack + place.scale), static_cast<float>(static_cast<int8_t>(*at))};
  if (type == KvType::kF16) return {1, LoadHalf(at)};
  float number;
  std::memcpy(&number, at, sizeof(number));
  return {1, number};
}

// One head of one row.
struct Head {
  const float* q;
  int64_t begin, end;  // the positions it attends to
};
Head HeadOf(const KvLayerView& kv, const AttentionQuery& query, int64_t row, int64_t head) {
  const int64_t end = query.position + row + 1;
  return {query.q + row * query.q_stride + head * kv.head_dim,
          query.window > 0 ? std::max<int64_t>(0, end - query.window) : 0, end};
}

// A head's weights in a tile: all of a partial but its out.
struct TileWeights {
  int64_t first, last;  // positions that take part
  float max = -kInfinity;
  float sum = 0;
  std::array<float, kAttentionTile> weights;

  TileWeights(const KvLayerView& kv, const AttentionQuery& query, const Head& head, int64_t tile)
      : first(std::max(head.begin, tile * kAttentionTile)), last(std::min(head.end, (tile + 1) * kAttentionTile)) {
    for (int64_t p = first; p < last; ++p) {
      const uint8_t* pack = kv.KPack(query.kv_head, p - p % kKvPack);
      float score = Dot(kv.k_type, kv.head_dim, head.q, pack, p % kKvPack) * query.scale;
      if (query.softcap > 0) score = query.softcap * std::tanh(score / query.softcap);
      Weight(p) = score;
      max = std::max(max, score);
    }
    std::array<float, kLanes> lanes{};
    for (int64_t p = first; p < last; ++p) {
      Weight(p) = std::exp(Weight(p) - max);
      lanes[static_cast<size_t>(p % kLanes)] += Weight(p);
    }
    for (size_t distance = kLanes / 2; distance > 0; distance /= 2) {
      for (size_t lane = 0; lane < distance; ++lane) lanes[lane] += lanes[lane + distance];
    }
    sum = lanes[0];
  }
  float& Weight(int64_t p) { return weights[static_cast<size_t>(p % kAttentionTile)]; }
  // Element d of out.
  float Mix(const KvLayerView& kv, int64_t kv_head, int64_t d) {
    float out = 0;
    for (int64_t p = first; p < last; ++p) {
      const Value value = ValueAt(kv.v_type, kv.head_dim, kv.VPack(kv_head, p - p % kKvPack), p % kKvPack, d);
      out = std::fma(Weight(p) * value.scale, value.number, out);
    }
    return out;
  }
};

// Maximum and sum of the partials folded so far, and how the next one joins: out = fma(partial, b, out * a). The first is taken as it is.
struct Folded {
  float max = -kInfinity;
  float sum = 0;
  struct Factors {
    float a, b;
  };
  Factors Join(float tile_max, float tile_sum) {
    const float new_max = std::max(max, tile_max);
    const Factors factors = {std::exp(max - new_max), std::exp(tile_max - new_max)};
    max = new_max;
    sum = std::fma(sum, factors.a, tile_sum * factors.b);
    return factors;
  }
};

void AttendHead(const KvLayerView& kv, const AttentionQuery& query, const Head& head, const float* sink, float* out) {
  Folded folded;
  if (sink != nullptr) {
    folded = {*sink, 1};
    std::fill_n(out, kv.head_dim, 0.0f);
  }
  const int64_t first_tile = head.begin / kAttentionTile;
  for (int64_t tile = first_tile; tile * kAttentionTile < head.end; ++tile) {
    TileWeights weights(kv, query, head, tile);
    const auto [a, b] = folded.Join(weights.max, weights.sum);
    for (int64_t d = 0; d < kv.head_dim; ++d) {
      const float partial = weights.Mix(kv, query.kv_head, d);
      out[d] = tile == first_tile && sink == nullptr ? partial : std::fma(partial, b, out[d] * a);
    }
  }
  for (int64_t d = 0; d < kv.head_dim; ++d) out[d] *= 1.0f / folded.sum;
}

void Attend(const KvLayerView& kv, const AttentionQuery& query, float* out, int64_t out_stride) {
  for (int64_t row = 0; row < query.n_rows; ++row) {
    for (int64_t head = 0; head < query.n_heads; ++head) {
      AttendHead(kv, query, HeadOf(kv, query, row, head), query.sinks != nullptr ? query.sinks + head : nullptr,
                 out + row * out_stride + head * kv.head_dim);
    }
  }
}

void AttendTile(const KvLayerView& kv, const AttentionQuery& query, int64_t tile, float* partials) {
  for (int64_t row = 0; row < query.n_rows; ++row) {
    for (int64_t head = 0; head < query.n_heads; ++head, partials += PartialFloats(kv.head_dim)) {
      TileWeights weights(kv, query, HeadOf(kv, query, row, head), tile);
      for (int64_t d = 0; d < kv.head_dim; ++d) partials[d] = weights.Mix(kv, query.kv_head, d);
      partials[kv.head_dim] = weights.max;
      partials[kv.head_dim + 1] = weights.sum;
    }
  }
}

void Fold(float* partials, int64_t stride, int64_t n, int64_t head_dim, float* out) {
  Folded folded;
  for (int64_t i = 0; i < n; ++i) {
    const float* partial = partials + i * stride;
    if (partial[head_dim + 1] == 0) continue;
    const bool is_first = folded.sum == 0;
    const auto [a, b] = folded.Join(partial[head_dim], partial[head_dim + 1]);
    for (int64_t d = 0; d < head_dim; ++d) {
      partials[d] = is_first ? partial[d] : std::fma(partial[d], b, partials[d] * a);
    }
  }
  partials[head_dim] = folded.max;
  partials[head_dim + 1] = folded.sum;
  if (out == nullptr) return;
  for (int64_t d = 0; d < head_dim; ++d) out[d] = partials[d] * (1.0f / folded.sum);
}

}  // namespace

extern const AttentionOps kAttentionOpsScalar;
const AttentionOps kAttentionOpsScalar = {
    .isa = Isa::kScalar, .store = Store, .attend = Attend, .attend_tile = AttendTile, .fold = Fold};

}  // namespace pantry
