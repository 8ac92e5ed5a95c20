// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/attention/parallel_attention.h"

#include <algorithm>

namespace pantry {
namespace {

// Below this many multiply-adds attention costs less than waking a thread (about 2 us on a 3 GHz core with 16 lanes).
constexpr int64_t kInlineWork = 1 << 16;
// Queries (rows times heads) of an item: one pass of the vector kernels.
constexpr int64_t kItemQueries = 16;
// Partials of a head that fit in the scratch: a row's tiles beyond them go in rounds. 64 tiles are 16384 positions.
constexpr int64_t kSlots = 64;
// Rows that go tile by tile share the slots.
constexpr int64_t kMaxTiledRows = 8;

template <typename Body>
void ForEach(ThreadPool& pool, bool in_parallel, int64_t n_items, const Body& body) {
  if (in_parallel) {
    pool.ParallelFor(n_items, [&](int64_t item, int) { body(item); });
  } else {
    for (int64_t item = 0; item < n_items; ++item) body(item);
  }
}

// So many balance.
int64_t EnoughItems(const ThreadPool& pool) { return 4 * int64_t{pool.n_threads()}; }

// A run that is to be cut into items.
class Items {
 public:
  Items(ThreadPool& pool, const AttentionOps& ops, const KvLayerView& kv, const AttentionRun& run)
      : pool_(pool), ops_(ops), kv_(kv), run_(run), group_(run.n_heads / kv.n_kv_heads) {
    const int64_t end = run.position + run.n_rows;
    const int64_t begin = run.window > 0 ? std::max<int64_t>(0, run.position + 1 - run.window) : 0;
    first_tile_ = begin / kAttentionTile;
    n_tiles_ = (end - 1) / kAttentionTile + 1 - first_tile_;
    in_parallel_ = run.n_rows * run.n_heads * kv.head_dim * 2 * (end - begin) > kInlineWork;
  }

  bool in_parallel() const { return in_parallel_; }

  // All rows of the heads that share a KV head.
  void RunHead(int64_t kv_head) const {
    const int64_t head = kv_head * group_;
    ops_.attend(kv_, Query(0, run_.n_rows, head, group_), run_.out + head * kv_.head_dim, run_.out_stride);
  }

  void Run(float* scratch) {
    const int64_t enough = EnoughItems(pool_);
    const int64_t rows = std::max<int64_t>(1, kItemQueries / group_);
    const bool by_rows = kv_.n_kv_heads * ((run_.n_rows + rows - 1) / rows) >= enough;
    if (by_rows || n_tiles_ == 1 || run_.n_rows > kMaxTiledRows) {
      // One row of a short context is little work: the heads of a group share what is loaded, if there is one for each thread.
      const bool in_groups = by_rows || !in_parallel_ || kv_.n_kv_heads >= pool_.n_threads();
      ByRows(in_groups ? group_ : 1, by_rows ? rows : 1);
    } else {
      // The heads of a group share what is loaded, unless that leaves too few items to balance.
      ByTiles(kv_.n_kv_heads * n_tiles_ >= enough ? group_ : 1, scratch);
    }
  }

 private:
  // An item is `rows` rows of `heads` heads of a group.
  void ByRows(int32_t heads, int64_t rows) {
    const int64_t n_blocks = (run_.n_rows + rows - 1) / rows;
    // Head by head, so that neighbouring items read the same keys.
    ForEach(pool_, in_parallel_, run_.n_heads / heads * n_blocks, [&](int64_t item) {
      const int64_t head = item / n_blocks * heads, row = item % n_blocks * rows;
      const AttentionQuery query = Query(row, std::min(rows, run_.n_rows - row), head, heads);
      ops_.attend(kv_, query, run_.out + row * run_.out_stride + head * kv_.head_dim, run_.out_stride);
    });
  }

  // An item is a tile of all rows of `heads` heads of a group. Scratch: [n_heads / heads][slots][n_rows][heads] partials.
  void ByTiles(int32_t heads, float* scratch) {
    const int64_t floats = PartialFloats(kv_.head_dim), slots = kSlots / run_.n_rows;
    const int64_t slot_floats = run_.n_rows * heads * floats, set_floats = slots * slot_floats;
    const int64_t n_sets = run_.n_heads / heads;
    int64_t n_folded = 0;  // 1 once slot 0 holds what was folded
    if (run_.sinks != nullptr) {
      for (int64_t i = 0; i < run_.n_rows * run_.n_heads; ++i) {
        const int64_t row = i / run_.n_heads, head = i % run_.n_heads;
        float* const partial = scratch + head / heads * set_floats + (row * heads + head % heads) * floats;
        std::fill_n(partial, kv_.head_dim, 0.0f);
        partial[kv_.head_dim] = run_.sinks[head];
        partial[kv_.head_dim + 1] = 1;
      }
      n_folded = 1;
    }
    for (int64_t done = 0; done < n_tiles_;) {
      const int64_t n = std::min(n_tiles_ - done, slots - n_folded);
      ForEach(pool_, in_parallel_, n_sets * n, [&](int64_t item) {
        const int64_t set = item % n_sets, slot = item / n_sets;  // neighbours in memory
        ops_.attend_tile(kv_, Query(0, run_.n_rows, set * heads, heads), first_tile_ + done + slot,
                         scratch + set * set_floats + (n_folded + slot) * slot_floats);
      });
      done += n;
      ForEach(pool_, in_parallel_, run_.n_rows * run_.n_heads, [&](int64_t item) {
        const int64_t row = item / run_.n_heads, head = item % run_.n_heads;
        ops_.fold(scratch + head / heads * set_floats + (row * heads + head % heads) * floats, slot_floats,
                  n_folded + n, kv_.head_dim,
                  done < n_tiles_ ? nullptr : run_.out + row * run_.out_stride + head * kv_.head_dim);
      });
      n_folded = 1;
    }
  }

  AttentionQuery Query(int64_t row, int64_t n_rows, int64_t head, int32_t n_heads) const {
    return {.q = run_.q + row * run_.q_stride + head * kv_.head_dim,
            .q_stride = run_.q_stride,
            .n_rows = static_cast<int32_t>(n_rows),
            .n_heads = n_heads,
            .kv_head = static_cast<int32_t>(head / group_),
            .position = run_.position + row,
            .window = run_.window,
            .scale = run_.scale,
            .softcap = run_.softcap,
            .sinks = run_.sinks != nullptr ? run_.sinks + head : nullptr};
  }

  ThreadPool& pool_;
  const AttentionOps& ops_;
  const KvLayerView& kv_;
  const AttentionRun& run_;
  int32_t group_;
  int64_t first_tile_;
  int64_t n_tiles_;
  bool in_parallel_;
};

}  // namespace

int64_t AttentionScratchFloats(int32_t n_heads, int64_t head_dim) { return kSlots * n_heads * PartialFloats(head_dim); }

void Attend(ThreadPool& pool, const AttentionOps& ops, const KvLayerView& kv, const AttentionRun& run, float* scratch) {
  Items(pool, ops, kv, run).Run(scratch);
}

void Attend(ThreadPool& pool, const AttentionOps& ops, int64_t n, FunctionRef<AttentionTimeline(int64_t i)> timeline,
            float* scratch) {
  const int64_t n_kv_heads = timeline(0).kv->n_kv_heads;
  const bool one_by_one = n == 1 || n * n_kv_heads < EnoughItems(pool);
  bool in_parallel = false;
  for (int64_t i = 0; i < n; ++i) {
    const AttentionTimeline at = timeline(i);
    Items items(pool, ops, *at.kv, at.run);
    if (one_by_one) items.Run(scratch);
    in_parallel |= items.in_parallel();
  }
  if (one_by_one) return;
  ForEach(pool, in_parallel, n * n_kv_heads, [&](int64_t item) {
    const AttentionTimeline at = timeline(item / n_kv_heads);
    Items(pool, ops, *at.kv, at.run).RunHead(item % n_kv_heads);
  });
}

}  // namespace pantry
