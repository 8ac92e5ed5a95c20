// SPDX-License-Identifier: Apache-2.0
// The truth: attention in the order of summation that attention.h states, one head and one position after the other.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "compute/kernels/attention/attention.h"
#include "weights/quant/half.h"

namespace pantry {
namespace {

constexpr int kLanes = 16;
constexpr int kQ8Block = 32;
constexpr int kQ8BlockBytes = 2 + kQ8Block;

uint16_t LoadU16(const uint8_t* bytes) {
  uint16_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

// Element d of a cache row.
float Element(KvType type, const uint8_t* row, int64_t d) {
  switch (type) {
    case KvType::kF32: {
      float value;
      std::memcpy(&value, row + 4 * d, sizeof(value));
      return value;
    }
    case KvType::kF16: return F16ToF32(LoadU16(row + 2 * d));
    case KvType::kQ8_0: {
      const uint8_t* block = row + d / kQ8Block * kQ8BlockBytes;
      return F16ToF32(LoadU16(block)) * static_cast<float>(static_cast<int8_t>(block[2 + d % kQ8Block]));
    }
  }
  return 0;
}

float ReduceLanes(float* lanes) {
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    for (int l = 0; l < distance; ++l) lanes[l] += lanes[l + distance];
  }
  return lanes[0];
}

// Q8_0 as GGUF has it: the numbers are divided by the exact scale, then the scale is rounded to F16. Numbers that are not finite give
// zeros and the scale NaN, as in activations.
void StoreQ8Block(const float* x, uint8_t* block) {
  float max = 0;
  bool finite = true;
  for (int i = 0; i < kQ8Block; ++i) {
    finite = finite && std::isfinite(x[i]);
    max = std::max(max, std::fabs(x[i]));
  }
  const float scale = max / 127.0f;
  const float inverse = scale >= std::numeric_limits<float>::min() ? 1.0f / scale : 0.0f;
  const uint16_t stored = F32ToF16(finite ? scale : std::numeric_limits<float>::quiet_NaN());
  std::memcpy(block, &stored, sizeof(stored));
  for (int i = 0; i < kQ8Block; ++i) {
    block[2 + i] = finite ? static_cast<uint8_t>(static_cast<int8_t>(std::nearbyint(x[i] * inverse))) : uint8_t{0};
  }
}

void StoreRow(KvType type, const float* x, int64_t head_dim, uint8_t* row) {
  switch (type) {
    case KvType::kF32: std::memcpy(row, x, static_cast<size_t>(head_dim) * 4); break;
    case KvType::kF16:
      for (int64_t d = 0; d < head_dim; ++d) {
        const uint16_t half = F32ToF16(x[d]);
        std::memcpy(row + 2 * d, &half, sizeof(half));
      }
      break;
    case KvType::kQ8_0:
      for (int64_t d = 0; d < head_dim; d += kQ8Block) StoreQ8Block(x + d, row + d / kQ8Block * kQ8BlockBytes);
      break;
  }
}

float Score(const KvLayerView& kv, const AttentionQuery& query, const float* q, int64_t position) {
  const uint8_t* row = kv.KRow(query.kv_head, position);
  float lanes[kLanes] = {};
  for (int64_t d = 0; d < kv.head_dim; ++d)
    lanes[d % kLanes] = std::fma(q[d], Element(kv.k_type, row, d), lanes[d % kLanes]);
  const float score = ReduceLanes(lanes) * query.scale;
  return query.softcap > 0 ? query.softcap * std::tanh(score / query.softcap) : score;
}

void AttendHead(const KvLayerView& kv, const AttentionQuery& query, const float* q, float* out) {
  const int64_t begin = query.window > 0 ? std::max<int64_t>(0, query.position - query.window + 1) : 0;
  const int64_t end = query.position + 1;
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
  std::fill(out, out + kv.head_dim, 0.0f);
  for (int64_t tile = begin / kAttentionTile * kAttentionTile; tile < end; tile += kAttentionTile) {
    const int64_t first = std::max(begin, tile), last = std::min<int64_t>(end, tile + kAttentionTile);
    float weights[kAttentionTile] = {};  // masked positions weigh nothing
    float tile_max = max;
    for (int64_t p = first; p < last; ++p) {
      weights[p - tile] = Score(kv, query, q, p);
      tile_max = std::max(tile_max, weights[p - tile]);
    }
    for (int64_t p = first; p < last; ++p) weights[p - tile] = std::exp(weights[p - tile] - tile_max);
    float lanes[kLanes] = {};
    for (int i = 0; i < kAttentionTile; ++i) lanes[i % kLanes] += weights[i];
    const float correction = std::exp(max - tile_max);
    max = tile_max;
    sum = std::fma(sum, correction, ReduceLanes(lanes));
    for (int64_t d = 0; d < kv.head_dim; ++d) out[d] *= correction;
    for (int64_t p = first; p < last; ++p) {
      const uint8_t* row = kv.VRow(query.kv_head, p);
      for (int64_t d = 0; d < kv.head_dim; ++d)
        out[d] = std::fma(weights[p - tile], Element(kv.v_type, row, d), out[d]);
    }
  }
  const float inverse = 1.0f / sum;
  for (int64_t d = 0; d < kv.head_dim; ++d) out[d] *= inverse;
}

void Attend(const KvLayerView& kv, const AttentionQuery& query) {
  for (int32_t head = 0; head < query.n_heads; ++head) {
    AttendHead(kv, query, query.q + head * kv.head_dim, query.out + head * kv.head_dim);
  }
}

}  // namespace

extern const AttentionOps kAttentionOpsScalar;
const AttentionOps kAttentionOpsScalar = {.isa = Isa::kScalar, .store_row = StoreRow, .attend = Attend};

}  // namespace pantry
