// SPDX-License-Identifier: Apache-2.0
// A ContextPlan says how many positions a session gets, what each part of it costs in memory, and why.
//
// Pure: numbers in, numbers and sentences out. The caller measures (free memory, weights in memory, scratch of a batch) and allocates.
// A context that nobody asked for takes at most kDefaultShare of the free memory, so that the default never drives a machine into
// swapping; one that was asked for by number may take all of it, and is refused with the sums when that is not enough.
// Threads: free functions and values.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "weights/model_shape.h"

namespace pantry {

inline constexpr double kDefaultContextShare = 0.7;       // of the free memory, for KV cache and scratch together
inline constexpr int64_t kContextStep = 256;              // a context cut to fit is a multiple of this
inline constexpr int64_t kMinDefaultContext = 512;        // below this a default is not worth having
inline constexpr int64_t kMaxContext = int64_t{1} << 30;  // so that no sum of bytes overflows
inline constexpr int64_t kUnknownMemoryContext = 8192;    // default cap where the system does not say what is free

struct ContextRequest {
  int64_t n_ctx = 0;                     // positions wanted; 0: the model's own, cut to what fits
  int64_t n_ctx_train = 0;               // positions the model was trained on; 0: unknown
  int64_t weight_bytes = 0;              // in memory already; part of the sums, not of free_bytes
  int64_t scratch_bytes = 0;             // workspace of a batch and buffers of a session
  int64_t kv_bytes_per_position = 0;     // all layers, keys and values
  int64_t kv_bytes_per_position_q8 = 0;  // the same with both in Q8_0; 0: not possible. For advice only.
  int64_t free_bytes = -1;               // what could still be taken; -1: unknown
};

struct ContextPlan {
  int64_t n_ctx = 0;
  int64_t weight_bytes = 0;
  int64_t kv_bytes = 0;
  int64_t scratch_bytes = 0;
  int64_t free_bytes = -1;  // before KV cache and scratch were taken
  bool is_cut = false;      // fewer positions than the model's own, because of memory
  std::string reason;       // one sentence: "8192 positions: the model's own", ...

  int64_t total_bytes() const { return weight_bytes + kv_bytes + scratch_bytes; }
  // Lines of a table for people: a part and its size each.
  std::string Table() const;
};

// Bytes of one position in all layers, from the bytes of one head's key row and value row.
int64_t KvBytesPerPosition(const ModelShape& shape, int64_t k_row_bytes, int64_t v_row_bytes);

// The largest context, a multiple of kContextStep, whose KV cache takes at most `kv_budget` bytes.
int64_t LargestContext(int64_t kv_budget, int64_t kv_bytes_per_position);

// kOutOfBudget: says what is needed part by part, what there is, and which options would help and by how much.
Result<ContextPlan> PlanContext(const ContextRequest& request);

// The advice of a prompt that does not fit: "use --ctx-size 16384 (costs +0.4 GB) or shorten".
std::string AdviseLargerContext(int64_t n_needed, int64_t n_ctx, int64_t n_ctx_train, int64_t kv_bytes_per_position);

}  // namespace pantry
