// SPDX-License-Identifier: Apache-2.0
// A BlockPlacer knows where the pieces of each block lie in the files, and how their bytes become the block in memory.
//
// A block is read in pieces, so that a large one is placed by several threads while its rest is still being read. How it lies in the file
// and how in memory may differ: rows of a GGUF are rearranged into the kernels' layout.
// Threads: immutable; Place() of distinct pieces may run in parallel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/block_id.h"
#include "base/status.h"

namespace pantry {

struct BlockPiece {
  int32_t file = 0;  // index into the reader's files
  uint64_t offset = 0;
  size_t n_bytes = 0;
};

class BlockPlacer {
 public:
  virtual ~BlockPlacer() = default;
  virtual size_t max_piece_bytes() const = 0;  // of any piece
  virtual int n_pieces(BlockId block) const = 0;
  virtual BlockPiece Piece(BlockId block, int piece) const = 0;
  // Writes what became of the piece's `bytes` to its part of the block's memory. kCorruption: they are not what they should be.
  virtual Status Place(BlockId block, int piece, const uint8_t* bytes, uint8_t* memory) const = 0;
  // All pieces of the block are in `memory`, which goes to a file: the place for checks of parts of it.
  virtual void Seal(BlockId /*block*/, uint8_t* /*memory*/) const {}
};

}  // namespace pantry
