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

constexpr int kLanes = 16;  // of the sum of weights, and the classes in which Q4_0's are rounded
constexpr int kBlock = 32;
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

// 32 numbers of Q8_0 and their scale. As GGUF has it: the numbers are divided by the exact scale, whoever stores it rounds it then.
struct Q8Block {
  float scale;
  std::array<int8_t, kBlock> codes{};

  explicit Q8Block(const float* x) {
    float max = 0;
    bool finite = true;
    for (int i = 0; i < kBlock; ++i) {
      finite = finite && std::isfinite(x[i]);
      max = std::max(max, std::fabs(x[i]));
    }
    scale = max / 127.0f;
    if (scale < std::numeric_limits<float>::min()) scale = 0;
    if (!finite) scale = std::numeric_limits<float>::quiet_NaN();
    if (!(scale > 0)) return;
    const float inverse = 1.0f / scale;
    for (size_t i = 0; i < kBlock; ++i) codes[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
  }
};

// 32 numbers of Q4_0: the number of the largest magnitude, the first of them, becomes -8. As GGUF has it.
struct Q4Block {
  float scale;
  std::array<uint8_t, kBlock> codes;  // number + 8

  explicit Q4Block(const float* x) {
    float max = 0;
    bool finite = true;
    for (int i = 0; i < kBlock; ++i) {
      finite = finite && std::isfinite(x[i]);
      if (std::fabs(x[i]) > std::fabs(max)) max = x[i];
    }
    scale = max / -8.0f;
    if (std::fabs(scale) < std::numeric_limits<float>::min()) scale = 0;
    if (!finite) scale = std::numeric_limits<float>::quiet_NaN();
    codes.fill(8);
    if (!finite || scale == 0) return;
    const float inverse = 1.0f / scale;
    for (size_t i = 0; i < kBlock; ++i) codes[i] = static_cast<uint8_t>(std::min(x[i] * inverse + 8.5f, 15.0f));
  }
  // Numbers j and j + 16.
  uint8_t Byte(size_t j) const { return static_cast<uint8_t>(codes[j] | codes[j + 16] << 4); }
};

// Where position `lane` of a pack keeps element d and the scale of its block.
struct Place {
  int64_t element;
  int64_t scale;  // of types with blocks
  int shift = 0;  // of the element in its byte
};
Place KeyPlace(KvType type, int64_t lane, int64_t d) {
  const int64_t n = d * kKvPack + lane;
  if (type == KvType::kF32) return {4 * n, 0};
  if (type == KvType::kF16) return {2 * n, 0};
  const int64_t block = d / kBlock * KvHeadBytes(type, kBlock, kKvPack), in_block = d % kBlock;
  if (type == KvType::kQ4_0) {
    const int64_t byte = in_block % 16;
    return {block + 2 * kKvPack + (byte / 4 * kKvPack + lane) * 4 + byte % 4, block + 2 * lane, in_block < 16 ? 0 : 4};
  }
  return {block + 2 * kKvPack + (in_block / 4 * kKvPack + lane) * 4 + in_block % 4, block + 2 * lane};
}
Place ValuePlace(KvType type, int64_t head_dim, int64_t lane, int64_t d) {
  const int64_t n = lane * head_dim + d;
  if (type == KvType::kF32) return {4 * n, 0};
  if (type == KvType::kF16) return {2 * n, 0};
  if (type == KvType::kQ4_0) {
    const int64_t block = d / kBlock * KvHeadBytes(type, kBlock, kKvPack), in_block = d % kBlock;
    const int64_t byte = lane % kLanes * 16 + in_block % 16;
    return {block + 2 * kKvPack + byte * 4 + lane / kLanes, block + 2 * lane, in_block < 16 ? 0 : 4};
  }
  return {head_dim / kBlock * kKvPack * 2 + n, (d / kBlock * kKvPack + lane) * 2};
}

void StoreKey(KvType type, int64_t head_dim, int64_t lane, const float* x, uint8_t* pack) {
  for (int64_t d = 0; d < head_dim; ++d) {
    const Place place = KeyPlace(type, lane, d);
    if (type == KvType::kF32) std::memcpy(pack + place.element, x + d, sizeof(float));
    if (type == KvType::kF16) StoreHalf(x[d], pack + place.element);
    if (type == KvType::kQ8_0 && d % kBlock == 0) {
      const Q8Block block(x + d);
      StoreHalf(block.scale, pack + place.scale);
      for (int64_t i = 0; i < kBlock; ++i) {
        pack[KeyPlace(type, lane, d + i).element] = static_cast<uint8_t>(block.codes[static_cast<size_t>(i)] + 128);
      }
    }
    if (type == KvType::kQ4_0 && d % kBlock == 0) {
      const Q4Block block(x + d);
      StoreHalf(block.scale, pack + place.scale);
      for (int64_t i = 0; i < 16; ++i) pack[KeyPlace(type, lane, d + i).element] = block.Byte(static_cast<size_t>(i));
    }
  }
}

void StoreValue(KvType type, int64_t head_dim, int64_t lane, const float* x, uint8_t* pack) {
  for (int64_t d = 0; d < head_dim; ++d) {
    const Place place = ValuePlace(type, head_dim, lane, d);
    if (type == KvType::kF32) std::memcpy(pack + place.element, x + d, sizeof(float));
    if (type == KvType::kF16) StoreHalf(x[d], pack + place.element);
    if (type == KvType::kQ8_0 && d % kBlock == 0) {
      const Q8Block block(x + d);
      StoreHalf(block.scale, pack + place.scale);
      std::memcpy(pack + place.element, block.codes.data(), kBlock);
    }
    if (type == KvType::kQ4_0 && d % kBlock == 0) {
      const Q4Block block(x + d);
      StoreHalf(block.scale, pack + place.scale);
      for (int64_t i = 0; i < 16; ++i)
        pack[ValuePlace(type, head_dim, lane, d + i).element] = block.Byte(static_cast<size_t>(i));
    }
  }
}

void Store(const KvLayerView& kv, int32_t kv_head, int64_t position, const float* key, const float* value) {
  const int64_t lane = position % kKvPack;
  StoreKey(kv.k_type, kv.head_dim, lane, key, kv.KPack(kv_head, position - lane));
  StoreValue(kv.v_type, kv.head_dim, lane, value, kv.VPack(kv_head, position - lane));
}

// The whole number that a code stands for.
int32_t NumberAt(KvType type, const uint8_t* pack, const Place& place) {
  if (type == KvType::kQ4_0) return (pack[place.element] >> place.shift & 15) - 8;
  return pack[place.element] - 128;  // of a key
}

float Dot(KvType type, int64_t head_dim, const float* q, const uint8_t* pack, int64_t lane) {
  float sum = 0;
  if (KvBlock(type) > 1) {
    for (int64_t d = 0; d < head_dim; d += kBlock) {
      const Q8Block block(q + d);
      int32_t integer_sum = 0;
      for (int64_t i = 0; i < kBlock; ++i) {
        integer_sum += block.codes[static_cast<size_t>(i)] * NumberAt(type, pack, KeyPlace(type, lane, d + i));
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
  // Calls use(d, out) for each element of out.
  template <typename Use>
  void Mix(const KvLayerView& kv, int64_t kv_head, const Use& use) {
    std::array<float, kBlock> block;
    for (int64_t d = 0; d < kv.head_dim; ++d) {
      if (kv.v_type != KvType::kQ4_0) {
        use(d, MixElement(kv, kv_head, d));
      } else {
        if (d % kBlock == 0) MixBlock(kv, kv_head, d, block.data());
        use(d, block[static_cast<size_t>(d % kBlock)]);
      }
    }
  }

 private:
  float MixElement(const KvLayerView& kv, int64_t kv_head, int64_t d) {
    float out = 0;
    for (int64_t p = first; p < last; ++p) {
      const Value value = ValueAt(kv.v_type, kv.head_dim, kv.VPack(kv_head, p - p % kKvPack), p % kKvPack, d);
      out = std::fma(Weight(p) * value.scale, value.number, out);
    }
    return out;
  }
  // Elements [d, d + 32) of Q4_0 values: weights and scales are rounded together, positions of equal p % 16 under one scale.
  void MixBlock(const KvLayerView& kv, int64_t kv_head, int64_t d, float* out) {
    std::fill_n(out, kBlock, 0.0f);
    const auto pack_of = [&](int64_t p) { return kv.VPack(kv_head, p - p % kKvPack); };
    for (int64_t residue = 0; residue < kLanes; ++residue) {
      const int64_t begin = first + (residue - first % kLanes + kLanes) % kLanes;
      const auto scaled = [&](int64_t p) {
        return Weight(p) * LoadHalf(pack_of(p) + ValuePlace(kv.v_type, kv.head_dim, p % kKvPack, d).scale);
      };
      float highest = 0;
      bool finite = true;
      for (int64_t p = begin; p < last; p += kLanes) {
        finite = finite && std::isfinite(scaled(p));
        highest = std::max(highest, std::fabs(scaled(p)));
      }
      const float scale = finite ? std::max(kLeastWeightScale, highest / 127.0f) : std::nanf("");
      std::array<int32_t, kBlock> sums{};
      for (int64_t p = begin; p < last && finite; p += kLanes) {
        const auto weight = static_cast<int32_t>(std::nearbyint(scaled(p) * (1.0f / scale)));
        for (int64_t i = 0; i < kBlock; ++i) {
          sums[static_cast<size_t>(i)] +=
              weight * NumberAt(kv.v_type, pack_of(p), ValuePlace(kv.v_type, kv.head_dim, p % kKvPack, d + i));
        }
      }
      for (size_t i = 0; i < kBlock; ++i) out[i] = std::fma(static_cast<float>(sums[i]), scale, out[i]);
    }
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
    const bool is_first = tile == first_tile && sink == nullptr;
    weights.Mix(kv, query.kv_head, [&, of_before = a, of_tile = b](int64_t d, float partial) {
      out[d] = is_first ? partial : std::fma(partial, of_tile, out[d] * of_before);
    });
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
      weights.Mix(kv, query.kv_head, [&](int64_t d, float partial) { partials[d] = partial; });
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
