// SPDX-License-Identifier: Apache-2.0
// Attention over a KV cache: softmax(scale * q.K) V for some query rows and the heads that share a KV head.
//
// Layout of one layer's cache: K and V hold, for each KV head, its positions in ascending order, in packs of kKvPack = 64 positions (the
// capacity is rounded up). In a pack of keys positions lie side by side, so that lanes are positions. With D = head_dim:
//
//   K, F32 or F16   [D][64 positions]                       a score needs no reduction over lanes
//   K, Q8_0         D/32 x { [64] F16 scales, [8][64 positions][4] codes }    code = int8 + 128, unsigned as vpdpbusd wants one side
//   K, Q4_0         D/32 x { [64] F16 scales, [4][64 positions][4] bytes }    a byte: code j below code j + 16; code = number + 8, of 0..15
//   V, F32 or F16   [64 positions][D]
//   V, Q8_0         [D/32][64] F16 scales, [64 positions][D] int8             a scale joins its position's weight, 16 at a time
//   V, Q4_0         D/32 x { [64] F16 scales, [16][16 bytes][4] bytes }       byte j of positions r, r + 16, r + 32, r + 48 side by side, so that
//                                                                             a product of four bytes adds four positions, lane = element
//
// Order of summation: positions are walked in tiles of kAttentionTile counted from position 0, whatever the window or batch.
//   score of a position: one accumulator, fma over ascending d. With Q8_0 and Q4_0 keys the query is rounded to int8 in blocks of 32 as
//     well, and the accumulator takes fma(float(exact integer sum), q scale * k scale) for ascending blocks;
//   tile: the maximum of its scores, weights exp(score - max), their sum (16 lanes, position % 16, then the fixed tree), and for each d
//     one accumulator, fma over ascending positions: a *partial*, (out, max, sum). With Q4_0 values the weights times the values' scales are
//     rounded to int8, those of equal position % 16 together, and the accumulator takes fma(float(exact integer sum), scale) for ascending
//     position % 16: at most 1/254 of the largest of 16 products is lost, a tenth of what Q4_0 loses on the values;
//   partials are folded in ascending order: new = max(both), a = exp(max - new), b = exp(tile max - new), out = fma(partial, b, out * a).
//   a sink is a partial before the first: out 0, the sink as maximum, sum 1.
// Whoever computes a partial, it has the same bits, and masked positions take no part in any sum. So a query's result depends on its
// position, its window and the cache's content only: batch split, threads and prefix reuse change nothing, and tiles may run in parallel.
// All vector instruction sets give the same bits; scalar differs by its exp and tanh, less than 1e-6 of the largest |value|.
// Threads: pure; distinct (row, kv head, tile) may run in parallel. parallel_attention.h does.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "sys/isa.h"

namespace pantry {

inline constexpr int kAttentionTile = 256;  // positions
// Positions. With 16, a kernel of four vectors walks four short streams at a time, and DRAM gave 15 GB/s instead of 25 (Zen 4, one thread).
inline constexpr int kKvPack = 64;
// Of weights that are rounded to int8 (Q4_0 values): at least this, so that its inverse is finite.
inline constexpr float kLeastWeightScale = 1e-30f;

enum class KvType : uint8_t { kF32, kF16, kQ8_0, kQ4_0 };
inline constexpr KvType kAllKvTypes[] = {KvType::kF32, KvType::kF16, KvType::kQ8_0, KvType::kQ4_0};
std::string_view KvTypeName(KvType type);  // "f32", "f16", "q8_0", "q4_0"
Result<KvType> ParseKvType(std::string_view name);
int64_t KvRowBytes(KvType type, int64_t head_dim);  // one position of one head
int64_t KvBlock(KvType type);                       // numbers under one scale: head_dim is a multiple of it
int64_t KvHeadBytes(KvType type, int64_t head_dim, int64_t n_positions);  // all of a head, rounded up to whole packs

// One layer of a KV cache, borrowed. What no position was stored to may hold anything.
struct KvLayerView {
  KvType k_type = KvType::kF16;
  KvType v_type = KvType::kF16;
  uint8_t* k = nullptr;  // [n_kv_heads, KvHeadBytes(k_type, head_dim, n_positions)], unless there are strides
  uint8_t* v = nullptr;
  int64_t n_positions = 0;  // capacity
  int32_t n_kv_heads = 0;
  int32_t head_dim = 0;
  // Bytes from a head to the next one and from a tile of kAttentionTile positions of a head to its next tile, of keys and of values alike.
  // 0: a head's positions follow each other, and heads follow heads.
  int64_t head_stride = 0;
  int64_t tile_stride = 0;

  // The 64 positions from `position` on, a multiple of kKvPack.
  uint8_t* KPack(int64_t kv_head, int64_t position) const { return Pack(k, k_type, kv_head, position); }
  uint8_t* VPack(int64_t kv_head, int64_t position) const { return Pack(v, v_type, kv_head, position); }

 private:
  uint8_t* Pack(uint8_t* base, KvType type, int64_t kv_head, int64_t position) const {
    const int64_t row_bytes = KvRowBytes(type, head_dim);
    if (tile_stride == 0) return base + kv_head * KvHeadBytes(type, head_dim, n_positions) + position * row_bytes;
    return base + kv_head * head_stride + position / kAttentionTile * tile_stride +
           position % kAttentionTile * row_bytes;
  }
};

struct AttentionQuery {
  const float* q =
      nullptr;  // head h of row r: [head_dim] at q + r * q_stride + h * head_dim; the heads are those that share `kv_head`
  int64_t q_stride = 0;
  int32_t n_rows = 1;
  int32_t n_heads = 1;
  int32_t kv_head = 0;
  int64_t position = 0;          // of row 0; row r attends to max(0, position + r - window + 1) .. position + r
  int64_t window = 0;            // 0: all
  float scale = 1;               // multiplies q.k
  float softcap = 0;             // 0: none
  const float* sinks = nullptr;  // [n_heads] a score that draws weight to nothing, before all positions; null: none
};

// A partial: out [head_dim], max, sum. A sum of 0 says that no position of the tile takes part.
constexpr int64_t PartialFloats(int64_t head_dim) { return (head_dim + 2 + 15) / 16 * 16; }

struct AttentionOps {
  Isa isa;
  // Writes a position's key and value of one head, the same bits on every instruction set. A block with a number that is not finite
  // gets zeros and the scale NaN.
  void (*store)(const KvLayerView& kv, int32_t kv_head, int64_t position, const float* key, const float* value);
  // out: head h of row r at out + r * out_stride + h * head_dim; does not overlap q. Any even head_dim; multiples of 16 are fast.
  // REQUIRES: positions up to the last row's are stored and below n_positions. Reads no pack behind the last row's position.
  void (*attend)(const KvLayerView& kv, const AttentionQuery& query, float* out, int64_t out_stride);
  // The partial of tile `tile` of each (row, head), row after row at `partials`.
  void (*attend_tile)(const KvLayerView& kv, const AttentionQuery& query, int64_t tile, float* partials);
  // Folds a query's partials of n consecutive tiles, `stride` floats apart, into the first one, and writes the result of what was folded so
  // far to `out` unless it is null. attend_tile() and fold() for all tiles of a query give the bits of attend().
  void (*fold)(float* partials, int64_t stride, int64_t n, int64_t head_dim, float* out);
};

// The ops of `isa` or of the next lower level that has them.
const AttentionOps& AttentionOpsFor(Isa isa);

}  // namespace pantry
