// SPDX-License-Identifier: Apache-2.0
// A MemoryPlan divides one number, the bytes that the whole process may take, among everything that wants memory.
//
// Pure: numbers in, numbers and sentences out. What is always needed comes first (the process itself, weights that every token reads, keys
// and values, scratch), and what is left holds blocks of weights: all of them (a resident run), or as many as fit (a streamed run).
//
//   budget  >=  process + dense weights + KV cache + scratch + reading + blocks
//
// What maps all that is memory, too, which a control group counts, and the plan counts it with the process.
// Threads: free functions and values.
// Source: PowerInfer-2's division into a fixed region and caches (arXiv 2406.06282; its example for 47 B in 7 GB).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace pantry {

inline constexpr double kAutoMemoryShare = 0.7;       // of the memory that is available, when no budget is given
inline constexpr int64_t kStreamedContext = 4096;     // positions of a streamed run when nobody asks for a number
inline constexpr double kStreamedContextShare = 0.2;  // of what blocks and KV cache share, at most, then

// The kernel keeps 8 bytes for each 4 KiB, a page or a part of a huge one, whose table it holds in store: 12.1 MiB of a process of 6 GiB.
inline constexpr int64_t kBytesPerPageTableByte = 512;
int64_t PageTableBytes(int64_t n_bytes);

struct MemoryRequest {
  int64_t budget_bytes = 0;             // of the whole process
  bool may_stream = true;               // false: everything must fit
  bool must_stream = false;             // even where everything fits
  int64_t process_bytes = 0;            // code, tokenizer and tables, without page tables
  int64_t dense_bytes = 0;              // weights that are always in memory
  std::string_view blocks = "experts";  // what they are, in the plural
  int64_t block_bytes = 0;              // all blocks; 0: the model has none
  int64_t resident_block_bytes = 0;     // the same side by side, without a cache's slots; 0: as many
  int64_t least_block_bytes = 0;        // those that must be in memory at once
  int64_t reading_bytes = 0;            // buffers of a streamed run
  int64_t scratch_bytes = 0;            // of a batch
  int64_t kv_bytes_per_position = 0;    // of all sessions
  int32_t n_sessions = 1;
  int64_t n_ctx = 0;        // positions of a session that are wanted; 0: the model's own, cut where memory is short
  int64_t n_ctx_train = 0;  // 0: unknown
};

struct MemoryPlan {
  bool is_streamed = false;
  std::string_view blocks;  // MemoryRequest's
  int64_t budget_bytes = 0;
  int64_t process_bytes = 0;  // with page tables
  int64_t dense_bytes = 0;
  int64_t kv_bytes = 0;
  int64_t scratch_bytes = 0;
  int64_t reading_bytes = 0;  // 0 in a resident run
  int64_t cache_bytes = 0;    // for blocks; all of them in a resident run
  int64_t block_bytes = 0;    // all blocks
  int64_t n_ctx = 0;          // of a session
  int32_t n_sessions = 1;

  int64_t total_bytes() const {
    return process_bytes + dense_bytes + kv_bytes + scratch_bytes + reading_bytes + cache_bytes;
  }
  // Lines of a table for people: a part and its size each.
  std::string Table() const;
};

// kOutOfBudget, before anything is read: the sum, part by part, and which options would help and by how much.
Result<MemoryPlan> PlanMemory(const MemoryRequest& request);

// "6G", "512M", "60%", "auto", "": bytes of the process. Percentages and auto are of `available_bytes` (-1: unknown, an error for both).
// 0 for "" and for auto where nothing is known. kInvalidArgument names what is wrong.
Result<int64_t> ParseMemoryBudget(std::string_view text, int64_t available_bytes);

}  // namespace pantry
