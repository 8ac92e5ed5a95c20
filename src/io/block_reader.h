// SPDX-License-Identifier: Apache-2.0
// A BlockReader reads blocks of files into slots of memory, many at a time, and says when each is there.
//
// It is the single-threaded core between the pipeline and a DiskQueue (disk_queue.h): it keeps the queue full and what does not fit waits
// here, first come first served, every demand before every guess. A large block is split into transfers that are under way together, small
// neighbours in the file that were submitted one after the other become one transfer, short transfers are continued, and failures that may
// pass are tried again: all of it here and nowhere else. It does not know what a block holds, nor when a guess is worth it.
//
//   Submit() -> queued --Reap()/Submit()--> reading (1..n transfers) -> done --Reap()--> gone, the slot is the caller's
//                  | Cancel(): gone, the slot is the caller's at once
//
// Threads: one at a time, not always the same; it makes progress only in its calls. Nothing is allocated after construction but the text of
// errors. Invariants: (1) each submitted read comes out of Reap() once, or Cancel() took it; (2) a slot is written to only between Submit()
// and that; (3) at most the queue's depth of transfers is under way, of guesses at most guess_depth.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "io/block_read.h"
#include "io/busy_time.h"
#include "io/disk_queue.h"
#include "io/reader.h"

namespace pantry {

class BlockReader {
 public:
  static constexpr int64_t kForever = DiskQueue::kForever;

  // `queue` was opened for the same `files`. Files and `clock` must outlive the reader. REQUIRES: options.Validate() is OK.
  BlockReader(std::span<const Reader* const> files, std::unique_ptr<DiskQueue> queue, const BlockReaderOptions& options,
              const Clock& clock);
  // Waits for the transfers under way; every slot is the caller's then.
  ~BlockReader();
  BlockReader(const BlockReader&) = delete;
  BlockReader& operator=(const BlockReader&) = delete;

  // Takes reads, the most urgent first. REQUIRES: reads.size() <= room(). A read that cannot be is done with an error.
  void Submit(std::span<const BlockRead> reads);
  // Those that are done, in the order in which they became so; keeps the queue full (that much also with an empty `out`). Waits for one as
  // long as `timeout_us` (0: not at all; kForever) while any is pending.
  size_t Reap(std::span<BlockReadDone> out, int64_t timeout_us);
  // Drops what the queue does not have yet. true: that was all of it, and nothing comes out of Reap(). false: something does: kCancelled
  // where a part was dropped, else what became of it. Costs a walk over the waiting ones.
  bool Cancel(uint64_t tag);
  // A guess that waits becomes the last of the demands. false: none of that tag waits.
  bool Promote(uint64_t tag);

  size_t room() const { return room_; }
  size_t n_pending() const { return entries_.size() - room_; }  // submitted, and neither reaped nor cancelled
  size_t n_under_way() const { return flights_.size() - free_flights_.size(); }  // transfers
  int depth() const { return queue_->depth(); }
  std::string_view queue_name() const { return queue_->name(); }
  BlockReaderStats stats() const;
  // From now on stats().busy_us is the time in which this reader or others that count into `busy` had a transfer under way. Borrowed.
  // REQUIRES: nothing was read yet.
  void CountBusyIn(BusyTime& busy) { busy_ = &busy; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr size_t kMostPieces = 16;  // reads in one transfer

  struct Entry {
    BlockRead read;
    uint64_t begin;     // what is fetched: the enclosing blocks, or the very bytes
    uint64_t end;       //
    uint64_t next;      // up to where transfers have been formed
    uint32_t before;    // in its list
    uint32_t after;     //
    int32_t n_flights;  // under way
    bool waits;         // in a list of waiting_
    bool is_cut;        // a part was dropped by Cancel()
    Status status;
    int64_t submitted_us, started_us, done_us;
  };
  struct List {
    uint32_t first = kNone;
    uint32_t last = kNone;
  };
  struct Piece {  // of a transfer: [begin, end) of the file goes into the entry's slot
    uint32_t entry;
    bool shares_block;  // its first block is the last one of the piece before, and is copied from there
    uint64_t begin;
    uint64_t end;
  };
  struct Flight {  // a transfer under way: the pieces one after the other
    int file;
    ReadUrgency urgency;
    int n_retries;
    size_t n_pieces;
    uint64_t from;  // what was asked last
    uint64_t done;  // up to here the bytes have come
    uint64_t end;   // of the bytes that are wanted
    std::array<Piece, kMostPieces> pieces;
    std::array<iovec, kMostPieces> to;
  };

  void Append(List& list, uint32_t index);
  void Remove(List& list, uint32_t index);
  uint32_t FindWaiting(const List& list, uint64_t tag) const;
  List& WaitingFor(const Entry& entry) { return waiting_[static_cast<size_t>(entry.read.urgency)]; }
  void SubmitOne(const BlockRead& read);
  void Release(uint32_t index);   // the entry is free
  void Complete(uint32_t index);  // it waits for Reap()
  uint8_t* Place(const Entry& entry, uint64_t offset) const;

  void Pump();                               // fills the queue
  void Form(Flight& flight, List& waiting);  // from what waits first
  void AddNeighbours(Flight& flight, List& waiting);
  void Launch(uint32_t id);  // what is missing of it
  void Collect(int64_t timeout_us);
  void End(const TransferEnd& end);
  void Finish(Flight& flight, int error_number);
  Status ErrorOf(const Flight& flight, const Entry& entry, int error_number) const;

  const std::vector<const Reader*> files_;
  const BlockReaderOptions options_;
  const Clock& clock_;
  std::vector<Entry> entries_;
  List free_;
  List waiting_[2];  // by urgency
  List done_;
  size_t room_;
  std::vector<Flight> flights_;
  std::vector<uint32_t> free_flights_;
  std::vector<TransferEnd> ends_;
  int n_guess_flights_ = 0;
  BusyTime own_busy_;
  BusyTime* busy_ = &own_busy_;
  BlockReaderStats stats_;
  const std::unique_ptr<DiskQueue> queue_;  // dies first
};

}  // namespace pantry
