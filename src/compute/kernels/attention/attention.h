// SPDX-License-Identifier: Apache-2.0
// Attention over a KV cache: softmax(scale * q.K) V for one query row and the heads that share a KV head.
//
// Layout of one layer's cache: K and V are [n_kv_heads, n_positions, head_dim] each, so a head's keys are one run of memory. A key row is
// head_dim numbers as F32 or F16, or head_dim/32 blocks of Q8_0 (F16 scale, 32 int8; head_dim % 32 == 0 then).
//
// Order of summation: positions are walked in tiles of kAttentionTile counted from position 0 whatever the window or batch; in a tile
// scores first, then the running maximum and sum are corrected once (online softmax), then V is accumulated position by position in
// ascending order. A dot product uses 16 lanes (d % 16) and the fixed tree. So a query's result depends on its position, its window and
// the cache's content only: batch split, threads and prefix reuse change nothing.
// All vector instruction sets give the same bits; scalar differs by its exp and tanh, less than 1e-6 of the largest |value|.
// Threads: pure; distinct (query, kv head) pairs may run in parallel.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "sys/isa.h"

namespace pantry {

inline constexpr int kAttentionTile = 64;  // positions

enum class KvType : uint8_t { kF32, kF16, kQ8_0 };
std::string_view KvTypeName(KvType type);  // "f32", "f16", "q8_0"
Result<KvType> ParseKvType(std::string_view name);
int64_t KvRowBytes(KvType type, int64_t head_dim);

// One layer of a KV cache, borrowed.
struct KvLayerView {
  KvType k_type = KvType::kF16;
  KvType v_type = KvType::kF16;
  uint8_t* k = nullptr;  // [n_kv_heads, n_positions, KvRowBytes(k_type, head_dim)]
  uint8_t* v = nullptr;
  int64_t n_positions = 0;  // capacity
  int32_t n_kv_heads = 0;
  int32_t head_dim = 0;

  uint8_t* KRow(int64_t kv_head, int64_t position) const {
    return k + (kv_head * n_positions + position) * KvRowBytes(k_type, head_dim);
  }
  uint8_t* VRow(int64_t kv_head, int64_t position) const {
    return v + (kv_head * n_positions + position) * KvRowBytes(v_type, head_dim);
  }
};

struct AttentionQuery {
  const float* q;   // [n_heads_in_group, head_dim]: the query heads that share `kv_head`
  int32_t n_heads;  // in the group
  int32_t kv_head;
  int64_t position;  // attends to max(0, position - window + 1) .. position
  int64_t window;    // 0: all
  float scale;       // multiplies q.k
  float softcap;     // 0: none
  float* out;        // [n_heads_in_group, head_dim]; does not overlap q
};

struct AttentionOps {
  Isa isa;
  // Encodes one head's F32 row into a cache row, the same bits on every instruction set. A Q8_0 block with a number that is not finite
  // gets zeros and the scale NaN.
  void (*store_row)(KvType type, const float* x, int64_t head_dim, uint8_t* row);
  // Any even head_dim; multiples of 16 are fast. REQUIRES: 0 <= position < n_positions, rows up to it stored.
  void (*attend)(const KvLayerView& kv, const AttentionQuery& query);
};

// The ops of `isa` or of the next lower level that has them.
const AttentionOps& AttentionOpsFor(Isa isa);

}  // namespace pantry
