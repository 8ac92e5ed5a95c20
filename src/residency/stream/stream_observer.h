// SPDX-License-Identifier: Apache-2.0
// A StreamObserver is told what a BlockStream does, as it does it: for traces, and for recording what was wanted.
//
// Times are microseconds by the stream's clock. What a call hands over is borrowed for its time only. A stream that nobody observes pays a
// branch for each of these.
// Threads: called by the thread that calls the stream, also about what the pool's threads did. It must not call the stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/block_id.h"
#include "io/block_read.h"
#include "residency/cache/block_cache.h"

namespace pantry {

// A layer wants blocks.
struct StreamedEvent {
  int layer = 0;
  int64_t at_us = 0;
  std::span<const BlockId> wanted;
  std::span<const BlockState> before;  // what became of each at once: resident: a hit; being read: late; absent: a miss
};

// A piece of a block that was read and placed.
struct StreamedPiece {
  BlockId block;
  int piece = 0;
  size_t n_bytes = 0;
  uint32_t slot = 0;                           // staging slot: its own from PieceSubmitted() to PieceCame()
  ReadUrgency urgency = ReadUrgency::kDemand;  // when it was submitted
  int64_t submitted_us = 0;
  int64_t started_us = 0;
  int64_t done_us = 0;    // seen to have ended
  int place_thread = -1;  // of the pool; -1: it was not placed, since a read failed
  int64_t place_begin_us = 0;
  int64_t place_end_us = 0;
};

class StreamObserver {
 public:
  virtual ~StreamObserver() = default;
  virtual void EventBegan(const StreamedEvent&) {}
  virtual void BlocksEvicted(size_t /*n_blocks*/) {}  // for one that is going to be read
  virtual void PieceSubmitted(uint32_t /*slot*/, ReadUrgency) {}
  virtual void PieceCame(const StreamedPiece&) {}
  // Nothing could be computed until a piece came.
  virtual void Waited(int64_t /*begin_us*/, int64_t /*end_us*/) {}
  // Blocks are computed from then on, and are through.
  virtual void HandedOut(std::span<const BlockId>, int64_t /*at_us*/) {}
  virtual void Released(std::span<const BlockId>, int64_t /*at_us*/) {}
  // All that was wanted is through; or else (`is_complete` is false) the event failed, and with it whatever was being read.
  virtual void EventEnded(int64_t /*at_us*/, bool /*is_complete*/) {}
};

}  // namespace pantry
