// SPDX-License-Identifier: Apache-2.0
// Attend() is attention of a run of rows, all heads, over one layer's KV cache, on all threads.
//
// Many rows: an item is some rows of one KV head's group. Few rows: an item is one tile of positions of one KV head, so that every byte of
// the cache is read once whatever the number of heads and rows, threads share a long context evenly, and the partials are folded after.
// Which way is taken changes no bit (attention.h).
// Threads: from the pool's owner.
#pragma once

#include <cstdint>

#include "base/function_ref.h"
#include "compute/kernels/attention/attention.h"
#include "sys/thread_pool.h"

namespace pantry {

struct AttentionRun {
  const float* q = nullptr;  // head h of row r: [head_dim] at q + r * q_stride + h * head_dim
  int64_t q_stride = 0;
  int64_t n_rows = 1;
  int32_t n_heads = 1;   // all query heads; those of a group lie side by side
  int64_t position = 0;  // of row 0
  int64_t window = 0;    // 0: all
  float scale = 1;
  float softcap = 0;             // 0: none
  const float* sinks = nullptr;  // [n_heads], as AttentionQuery's
  float* out = nullptr;          // as q, with out_stride; does not overlap q
  int64_t out_stride = 0;
};

// Floats of scratch that Attend() needs, for any number of rows and positions.
int64_t AttentionScratchFloats(int32_t n_heads, int64_t head_dim);

// REQUIRES: as AttentionOps::attend.
void Attend(ThreadPool& pool, const AttentionOps& ops, const KvLayerView& kv, const AttentionRun& run, float* scratch);

// Rows of a timeline, and the layer's cache of it.
struct AttentionTimeline {
  const KvLayerView* kv = nullptr;
  AttentionRun run;
};
// The same for `n` timelines, all of a model: timeline(i) is asked from any thread. With enough of them a thread takes one KV head of one.
void Attend(ThreadPool& pool, const AttentionOps& ops, int64_t n, FunctionRef<AttentionTimeline(int64_t i)> timeline,
            float* scratch);

}  // namespace pantry
