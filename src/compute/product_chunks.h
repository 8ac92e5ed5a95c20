// SPDX-License-Identifier: Apache-2.0
// How large the pieces are in which threads work through a product: of MatMul() and ComputeExperts() alike.
#pragma once

#include <algorithm>
#include <cstdint>

namespace pantry {

// A chunk of tiles is the unit that threads claim: large enough that claiming costs nothing (32 KiB are 3 us at 10 GB/s), small
// enough that the last chunks do not leave threads waiting, and that its tiles stay in L2 while groups of activation rows pass.
inline constexpr int64_t kMinChunkBytes = 32 << 10;
inline constexpr int64_t kMaxChunkBytes = 256 << 10;
// Of a single row, in the mean (ShrinkingChunk() makes the first twice as long), where nothing has to stay in L2: each chunk begins with a
// stream that nobody has read ahead. Matrices of Llama-7B, two threads of Granite Rapids, GB/s with chunks of 256 KiB, 1 MiB, 2 MiB, 4 MiB: q, k and v in Q4_0 34.5, 35.2, 35.5, 35.5, in Q4_K 33.7, 35.4, 35.8, 35.8;
// down (99 KiB a tile) 35.6, 36.5, 37.0, 36.9 and 34.7, 36.7, 37.0, 37.0.
inline constexpr int64_t kMaxOneRowChunkBytes = 2 << 20;
inline constexpr int64_t kChunksPerThread = 8;
inline constexpr int64_t kRowGroup = 16;  // rows that most kernels take at once, at most

// Bytes of weights that a thread claims at once, at most max_bytes. More rows, more work per byte.
inline int64_t ChunkBytes(int64_t total_bytes, int64_t n_rows, int n_threads, int64_t max_bytes = kMaxChunkBytes) {
  const int64_t fair_bytes = total_bytes / (n_threads * kChunksPerThread);
  const int64_t min_bytes = kMinChunkBytes / std::clamp<int64_t>(n_rows, 1, kRowGroup);
  return std::max(min_bytes, std::min(fair_bytes, max_bytes));
}

// Where chunk `i` of the n of a thread's share begins: the first is the longest, the last, for which the others wait, 1 / n^2 of all. One row, two
// threads of Granite Rapids, matrices of Llama-7B: 1 to 3 % faster than equal chunks.
inline int64_t ShrinkingChunk(int64_t share_bytes, int64_t i, int64_t n) {
  return share_bytes * (i * (2 * n - i)) / (n * n);
}

// Activation rows that pass over a chunk together, in full groups: a megabyte of L2 holds their codes and the chunk. All passes over a chunk
// follow each other, so that weights come from DRAM once; the rows, fewer bytes, come from L3 again (a 4096 x 11008 matrix, 512 rows: 1.33
// times as fast as the other way round with half as many rows a pass).
inline int64_t RowsPerPass(int64_t row_bytes) {
  constexpr int64_t kActivationBytes = 512 << 10;
  return std::max<int64_t>(1, kActivationBytes / row_bytes / kRowGroup) * kRowGroup;
}

}  // namespace pantry
