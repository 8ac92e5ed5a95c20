// SPDX-License-Identifier: Apache-2.0
// A BlockStream brings the blocks that a layer wants from the files into the cache, and hands them out as they can be computed.
//
// The pipeline without barriers: what is in memory is handed out at once, while the rest is being read; what arrives is handed out in
// order of arrival. A guess is read only behind every demand, and into room that the cache spares for it.
//
//   Begin(wanted) --> Next() --> compute --> Release() --> Next() --> ... --> Next() == 0
//                       |  resident ones first, then those that have arrived; waits only when there is nothing to compute
//
// A piece of a block is read into a staging slot, and placed from there into the block's memory by the pool's threads.
// Threads: one at a time, not always the same; it makes progress in its calls only, and the pool places pieces inside them.
// Memory: staging_bytes(), and a few bytes a block; nothing is allocated after Create() but the text of errors.
// Invariants: (1) a block that was handed out stays where it is until Release(). (2) After an error no block is pinned and nothing is under
// way. (3) As long as the cache can hold one block beside those that are handed out, every event comes to its end.
// Source: PowerInfer-2's pipeline of clusters (arXiv 2406.06282, section 4.4).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/block_id.h"
#include "base/clock.h"
#include "base/status.h"
#include "io/block_reader.h"
#include "residency/cache/block_cache.h"
#include "residency/stream/block_placer.h"
#include "residency/stream/stream_observer.h"
#include "sys/aligned_buffer.h"
#include "sys/thread_pool.h"

namespace pantry {

struct BlockStreamStats {
  int64_t n_events = 0;
  int64_t n_waits = 0;   // times that nothing could be computed until a piece came
  int64_t wait_us = 0;   // in these; placing the piece is not part of it
  int64_t place_us = 0;  // spent on bringing bytes into the kernels' layout

  BlockStreamStats& operator+=(const BlockStreamStats& other) {
    n_events += other.n_events;
    n_waits += other.n_waits;
    wait_us += other.wait_us;
    place_us += other.place_us;
    return *this;
  }
};

class BlockStream {
 public:
  // Slots for pieces that are being read or placed: as many transfers as a disk takes at once, and half as many again.
  static constexpr int kStagingSlots = 48;
  // Blocks that should be computed together at most: between two such calls the disk gets new work.
  static constexpr size_t kBlocksAtOnce = 8;
  static int64_t StagingBytes(size_t max_piece_bytes);

  // All of them must outlive the stream; nobody else uses cache and reader meanwhile. kOutOfBudget: no memory for staging.
  static Result<std::unique_ptr<BlockStream>> Create(BlockCache& cache, BlockReader& reader, const BlockPlacer& placer,
                                                     const Clock& clock);
  ~BlockStream();
  BlockStream(const BlockStream&) = delete;
  BlockStream& operator=(const BlockStream&) = delete;

  // A layer wants `wanted`, distinct blocks of it. REQUIRES: the event before has ended. Does not wait.
  void Begin(int layer, std::span<const BlockId> wanted);
  // Blocks that can be computed now, up to out.size(); 0: all were handed out. kIoError, kCorruption: a block cannot be read, and the event
  // is over; kOutOfBudget: the cache is too small for a single block beside what is handed out.
  Result<size_t> Next(ThreadPool& pool, std::span<BlockId> out);
  const uint8_t* memory(BlockId block) const { return cache_.memory(block); }  // REQUIRES: handed out
  // They were computed.
  void Release(std::span<const BlockId> blocks);
  // Will be wanted by the next event, the likeliest first: with a likelihood of 1 for certain, so that they are read like those that are
  // demanded. Into room that the cache can spare; costs little for blocks that are there. What the next event does not want is dropped.
  // How many of them are there or on their way.
  size_t Expect(std::span<const BlockId> blocks, double likelihood);

  // Between two events: brings absent blocks, the first ones first, into free room of the cache before anybody wants them. One that cannot be
  // read stays absent: whoever wants it gets the error.
  void Fill(ThreadPool& pool, std::span<const BlockId> blocks);

  // Drops all that is under way, so that no block is being read. REQUIRES: the event before has ended.
  void CancelReads();
  // The same, and what the cache holds.
  void Forget();

  // `observer` is told of all that happens from now on, beside those who are told already; null: nobody is any more. It must live until
  // then, or until the last call but the destructor.
  void Observe(StreamObserver* observer);

  // Whether all blocks of the event at hand have room: the others wait for it.
  bool all_admitted() const { return next_absent_ == absent_.size(); }
  const BlockStreamStats& stats() const { return stats_; }
  BlockReaderStats reader_stats() const { return reader_.stats(); }

 private:
  // A block whose pieces are being read, from `next_piece` on not yet submitted.
  struct Reading {
    BlockId block;
    int next_piece = 0;
  };
  struct Slot {
    BlockId block;
    int piece = 0;
    ReadUrgency urgency = ReadUrgency::kDemand;
    size_t n_bytes = 0;
    bool is_orphan = false;  // its block was given up while it was being read
    int place_thread = -1;   // the rest is for observers
    int64_t place_begin_us = 0;
    int64_t place_end_us = 0;
  };
  // Entries in order, taken from the front.
  struct Line {
    std::vector<Reading> entries;  // [capacity]
    size_t first = 0;
    size_t n = 0;
    Reading& front() { return entries[first]; }
    void Push(const Reading& reading) { entries[(first + n++) % entries.size()] = reading; }
    void Pop() { first = (first + 1) % entries.size(), --n; }
    bool Take(BlockId block, Reading* taken);  // out of the middle
  };

  BlockStream(BlockCache& cache, BlockReader& reader, const BlockPlacer& placer, const Clock& clock);
  void Pump();
  void DropStaleGuesses();
  bool AdmitNextAbsent();
  void SubmitPieces(Line& line, ReadUrgency urgency, size_t slots_left);
  Status Collect(ThreadPool& pool, int64_t timeout_us);
  void Place(ThreadPool& pool, size_t n);
  template <typename Call>
  void Tell(const Call& call) const {
    for (StreamObserver* const observer : observers_) call(*observer);
  }
  void TellOfPieces(size_t n) const;
  void TellOfEvent(int layer) const;
  void Arrived(BlockId block);
  void GiveUp(BlockId block);
  void Abandon();

  BlockCache& cache_;
  BlockReader& reader_;
  const BlockPlacer& placer_;
  const Clock& clock_;

  AlignedBuffer staging_;
  size_t staging_slot_bytes_ = 0;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  std::vector<BlockReadDone> done_;

  std::vector<uint32_t> pieces_left_;  // by block: not yet placed
  std::vector<uint8_t> is_wanted_;     // by block: of the event at hand, not yet handed out
  std::vector<BlockId> absent_;        // wanted, not yet admitted, from next_absent_ on
  size_t next_absent_ = 0;
  std::vector<BlockId> ready_;  // wanted and resident, in order of arrival, from next_ready_ on
  size_t next_ready_ = 0;
  std::vector<BlockState> before_;  // scratch of Begin()
  std::vector<BlockId> wanted_;     // of the event at hand
  size_t n_to_hand_out_ = 0;
  size_t n_handed_out_ = 0;  // and not yet released
  Line demands_;
  Line guesses_;
  std::vector<StreamObserver*> observers_;
  BlockStreamStats stats_;
};

}  // namespace pantry
