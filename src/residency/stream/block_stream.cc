// SPDX-License-Identifier: Apache-2.0
#include "residency/stream/block_stream.h"

#include <algorithm>
#include <utility>

namespace pantry {
namespace {

constexpr size_t kMaxGuesses = 64;  // blocks; more would be too late or too old
// Guesses leave so many slots to whatever is demanded next.
constexpr size_t kSlotsForDemands = BlockStream::kStagingSlots / 2;

}  // namespace

int64_t BlockStream::StagingBytes(size_t max_piece_bytes) {
  return static_cast<int64_t>(kStagingSlots * Reader::SlotBytes(max_piece_bytes));
}

BlockStream::BlockStream(BlockCache& cache, BlockReader& reader, const BlockPlacer& placer, const Clock& clock)
    : cache_(cache), reader_(reader), placer_(placer), clock_(clock) {}

Result<std::unique_ptr<BlockStream>> BlockStream::Create(BlockCache& cache, BlockReader& reader,
                                                         const BlockPlacer& placer, const Clock& clock) {
  auto stream = std::unique_ptr<BlockStream>(new BlockStream(cache, reader, placer, clock));
  const size_t n_blocks = cache.n_blocks();
  stream->staging_slot_bytes_ = Reader::SlotBytes(placer.max_piece_bytes());
  PANTRY_ASSIGN_OR_RETURN(stream->staging_,
                          AlignedBuffer::Allocate(static_cast<size_t>(StagingBytes(placer.max_piece_bytes()))));
  stream->slots_.resize(kStagingSlots);
  stream->done_.resize(kStagingSlots);
  for (uint32_t i = 0; i < kStagingSlots; ++i) stream->free_slots_.push_back(i);
  stream->pieces_left_.resize(n_blocks);
  stream->is_wanted_.resize(n_blocks);
  for (auto* list : {&stream->absent_, &stream->ready_, &stream->wanted_}) list->reserve(n_blocks);
  stream->before_.resize(n_blocks);
  stream->demands_.entries.resize(n_blocks);
  stream->guesses_.entries.resize(kMaxGuesses);
  return stream;
}

BlockStream::~BlockStream() {
  observers_.clear();  // they may be gone
  Abandon();
}

void BlockStream::CancelReads() {
  PANTRY_CHECK(n_to_hand_out_ == 0 && n_handed_out_ == 0);
  Abandon();
}

void BlockStream::Forget() {
  CancelReads();
  cache_.Forget();
}

void BlockStream::Observe(StreamObserver* observer) {
  if (observer == nullptr) observers_.clear();
  else observers_.push_back(observer);
}

bool BlockStream::Line::Take(BlockId block, Reading* taken) {
  for (size_t i = 0; i < n; ++i) {
    Reading& found = entries[(first + i) % entries.size()];
    if (found.block != block) continue;
    *taken = found;
    for (; i + 1 < n; ++i) entries[(first + i) % entries.size()] = entries[(first + i + 1) % entries.size()];
    --n;
    return true;
  }
  return false;
}

void BlockStream::Begin(int layer, std::span<const BlockId> wanted) {
  PANTRY_CHECK(n_to_hand_out_ == 0 && n_handed_out_ == 0);
  ++stats_.n_events;
  cache_.Demand(layer, wanted, before_);
  wanted_.assign(wanted.begin(), wanted.end());
  absent_.clear();
  ready_.clear();
  next_absent_ = next_ready_ = 0;
  n_to_hand_out_ = wanted.size();
  for (size_t i = 0; i < wanted.size(); ++i) {
    const BlockId block = wanted[i];
    is_wanted_[block.value()] = 1;
    if (before_[i] == BlockState::kResident) {
      ready_.push_back(block);
    } else if (before_[i] == BlockState::kAbsent) {
      absent_.push_back(block);
    } else {  // a guess came first
      Reading reading;
      if (guesses_.Take(block, &reading)) demands_.Push(reading);
      for (uint32_t slot = 0; slot < kStagingSlots; ++slot) {
        if (slots_[slot].block == block) reader_.Promote(slot);
      }
    }
  }
  if (!observers_.empty()) TellOfEvent(layer);
  DropStaleGuesses();
  Pump();
}

void BlockStream::TellOfEvent(int layer) const {
  const int64_t now_us = clock_.NowUs();
  const StreamedEvent event = {layer, now_us, wanted_, std::span(before_).first(wanted_.size())};
  Tell([&](StreamObserver& observer) {
    observer.EventBegan(event);
    if (wanted_.empty()) observer.EventEnded(now_us, true);
  });
}

// Guesses are made for the next event, which has come: those of which nothing was read yet were wrong, and give their room back.
void BlockStream::DropStaleGuesses() {
  for (size_t left = guesses_.n; left > 0; --left) {
    const Reading reading = guesses_.front();
    guesses_.Pop();
    if (reading.next_piece == 0) cache_.Failed(reading.block);
    else guesses_.Push(reading);
  }
}

// Finds room for one more wanted block. False: there is none, or nothing is left to admit.
bool BlockStream::AdmitNextAbsent() {
  if (next_absent_ == absent_.size()) return false;
  const BlockId block = absent_[next_absent_];
  const BlockCache::Admission admission = cache_.Admit(block);
  if (admission.memory == nullptr) return false;
  Tell([&](StreamObserver& observer) { observer.BlocksEvicted(admission.evicted.size()); });
  ++next_absent_;
  pieces_left_[block.value()] = static_cast<uint32_t>(placer_.n_pieces(block));
  demands_.Push({block, 0});
  return true;
}

// Submits what waits in `line` while more than `slots_left` staging slots are free.
void BlockStream::SubmitPieces(Line& line, ReadUrgency urgency, size_t slots_left) {
  while (line.n > 0 && free_slots_.size() > slots_left) {
    Reading& reading = line.front();
    const uint32_t slot = free_slots_.back();
    free_slots_.pop_back();
    const BlockPiece piece = placer_.Piece(reading.block, reading.next_piece);
    slots_[slot] = {.block = reading.block, .piece = reading.next_piece, .urgency = urgency, .n_bytes = piece.n_bytes};
    Tell([&](StreamObserver& observer) { observer.PieceSubmitted(slot, urgency); });
    const BlockRead read = {
        slot, piece.file, piece.offset, piece.n_bytes, staging_.data() + slot * staging_slot_bytes_, urgency};
    reader_.Submit({&read, 1});
    if (++reading.next_piece == placer_.n_pieces(reading.block)) line.Pop();
  }
}

void BlockStream::Pump() {
  do {
    SubmitPieces(demands_, ReadUrgency::kDemand, 0);
  } while (!free_slots_.empty() && AdmitNextAbsent());
  SubmitPieces(demands_, ReadUrgency::kDemand, 0);
  if (next_absent_ == absent_.size()) SubmitPieces(guesses_, ReadUrgency::kGuess, kSlotsForDemands);
}

void BlockStream::Arrived(BlockId block) {
  cache_.Arrived(block);
  if (is_wanted_[block.value()]) ready_.push_back(block);
}

// Places the first n of done_ that came; errors stay there.
void BlockStream::Place(ThreadPool& pool, size_t n) {
  const bool is_observed = !observers_.empty();
  pool.ParallelFor(static_cast<int64_t>(n), [&](int64_t i, int thread) {
    BlockReadDone& done = done_[static_cast<size_t>(i)];
    Slot& slot = slots_[done.tag];
    if (!done.status.ok() || slot.is_orphan) return;
    if (is_observed) slot.place_begin_us = clock_.NowUs();
    done.status = placer_.Place(slot.block, slot.piece, done.bytes, cache_.memory(slot.block));
    if (!is_observed) return;
    slot.place_thread = thread;
    slot.place_end_us = clock_.NowUs();
  });
}

void BlockStream::TellOfPieces(size_t n) const {
  for (const BlockReadDone& done : std::span(done_).first(n)) {
    const Slot& slot = slots_[done.tag];
    const StreamedPiece piece = {.block = slot.block,
                                 .piece = slot.piece,
                                 .n_bytes = slot.n_bytes,
                                 .slot = static_cast<uint32_t>(done.tag),
                                 .urgency = slot.urgency,
                                 .submitted_us = done.submitted_us,
                                 .started_us = done.started_us,
                                 .done_us = done.done_us,
                                 .place_thread = slot.place_thread,
                                 .place_begin_us = slot.place_begin_us,
                                 .place_end_us = slot.place_end_us};
    Tell([&](StreamObserver& observer) { observer.PieceCame(piece); });
  }
}

// Takes the pieces that have come, waiting for one if need be, and places them.
Status BlockStream::Collect(ThreadPool& pool, int64_t timeout_us) {
  const int64_t wait_begin_us = timeout_us != 0 ? clock_.NowUs() : 0;
  const size_t n = reader_.Reap(done_, timeout_us);
  if (n == 0) return OkStatus();
  const int64_t begin_us = clock_.NowUs();
  if (timeout_us != 0) {
    ++stats_.n_waits;
    stats_.wait_us += begin_us - wait_begin_us;
    Tell([&](StreamObserver& observer) { observer.Waited(wait_begin_us, begin_us); });
  }
  Place(pool, n);
  stats_.place_us += clock_.NowUs() - begin_us;
  if (!observers_.empty()) TellOfPieces(n);
  Status status;
  for (size_t i = 0; i < n; ++i) {
    const auto slot = static_cast<uint32_t>(done_[i].tag);
    const auto [block, is_orphan] = std::pair(slots_[slot].block, slots_[slot].is_orphan);
    slots_[slot] = {};
    free_slots_.push_back(slot);
    if (is_orphan) continue;
    if (done_[i].status.ok()) {
      if (--pieces_left_[block.value()] == 0) Arrived(block);
    } else if (is_wanted_[block.value()] == 0) {
      GiveUp(block);
    } else if (status.ok()) {
      status = done_[i].status;
    }
  }
  return status;
}

// A block that nobody wants yet cannot be read. Whoever wants it later tries again, and gets the error then.
void BlockStream::GiveUp(BlockId block) {
  for (Slot& slot : slots_) slot.is_orphan |= slot.block == block;  // what still comes of it goes no further
  Reading ignored;
  demands_.Take(block, &ignored);
  guesses_.Take(block, &ignored);
  cache_.Failed(block);
}

Result<size_t> BlockStream::Next(ThreadPool& pool, std::span<BlockId> out) {
  Status status = Collect(pool, 0);
  while (status.ok()) {
    Pump();
    if (n_to_hand_out_ == 0) return size_t{0};
    if (next_ready_ < ready_.size()) {
      const size_t n = std::min(out.size(), ready_.size() - next_ready_);
      for (size_t i = 0; i < n; ++i) {
        out[i] = ready_[next_ready_++];
        is_wanted_[out[i].value()] = 0;
      }
      n_to_hand_out_ -= n;
      n_handed_out_ += n;
      if (!observers_.empty()) {
        const int64_t now_us = clock_.NowUs();
        Tell([&](StreamObserver& observer) { observer.HandedOut(out.first(n), now_us); });
      }
      return n;
    }
    if (reader_.n_pending() == 0 &&
        guesses_.n > 0) {  // half-read ones hold the room: read on, then they can be evicted
      SubmitPieces(guesses_, ReadUrgency::kGuess, 0);
    }
    if (reader_.n_pending() == 0) {
      status = OutOfBudgetError("the cache of {} bytes has no room for one more block", cache_.budget_bytes());
      break;
    }
    status = Collect(pool, BlockReader::kForever);
  }
  Abandon();
  if (!observers_.empty()) {
    const int64_t now_us = clock_.NowUs();
    Tell([&](StreamObserver& observer) { observer.EventEnded(now_us, false); });
  }
  return status;
}

void BlockStream::Release(std::span<const BlockId> blocks) {
  for (const BlockId block : blocks) cache_.Unpin(block);
  n_handed_out_ -= blocks.size();
  if (observers_.empty()) return;
  const int64_t now_us = clock_.NowUs();
  Tell([&](StreamObserver& observer) {
    observer.Released(blocks, now_us);
    if (n_to_hand_out_ + n_handed_out_ == 0) observer.EventEnded(now_us, true);
  });
}

size_t BlockStream::Expect(std::span<const BlockId> blocks, double likelihood) {
  Line& line = likelihood >= 1 ? demands_ : guesses_;
  size_t n_coming = 0;
  for (const BlockId block : blocks) {
    if (cache_.state(block) == BlockState::kAbsent) {
      if (line.n == line.entries.size()) break;
      const BlockCache::Admission admission =
          likelihood >= 1 ? cache_.AdmitCertain(block) : cache_.AdmitGuess(block, likelihood);
      if (admission.memory == nullptr) continue;
      Tell([&](StreamObserver& observer) { observer.BlocksEvicted(admission.evicted.size()); });
      pieces_left_[block.value()] = static_cast<uint32_t>(placer_.n_pieces(block));
      line.Push({block, 0});
    }
    ++n_coming;
  }
  Pump();
  return n_coming;
}

void BlockStream::Fill(ThreadPool& pool, std::span<const BlockId> blocks) {
  PANTRY_CHECK(n_to_hand_out_ == 0 && n_handed_out_ == 0);
  for (const BlockId block : blocks) {
    if (cache_.state(block) != BlockState::kAbsent) continue;
    if (cache_.AdmitIfRoom(block).memory == nullptr) break;
    pieces_left_[block.value()] = static_cast<uint32_t>(placer_.n_pieces(block));
    demands_.Push({block, 0});
  }
  Pump();
  while (reader_.n_pending() > 0) {
    (void)Collect(pool, BlockReader::kForever);  // errors are of blocks that are wanted
    Pump();
  }
}

// Ends the event and everything that is being read. Blocks that are handed out are taken back: who has them has stopped computing.
void BlockStream::Abandon() {
  for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot].block != kNoBlock) reader_.Cancel(slot);
  }
  while (reader_.n_pending() > 0) reader_.Reap(done_, BlockReader::kForever);
  free_slots_.clear();
  for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
    const BlockId block = slots_[slot].block;
    if (block != kNoBlock && cache_.state(block) == BlockState::kReading) cache_.Failed(block);
    slots_[slot] = {};
    free_slots_.push_back(slot);
  }
  for (Line* line : {&demands_, &guesses_}) {
    for (; line->n > 0; line->Pop()) {
      const BlockId block = line->front().block;
      if (cache_.state(block) == BlockState::kReading) cache_.Failed(block);
    }
  }
  for (const BlockId block : wanted_) {
    is_wanted_[block.value()] = 0;
    if (cache_.state(block) == BlockState::kReading) cache_.Failed(block);
    while (cache_.pinned(block)) cache_.Unpin(block);
  }
  wanted_.clear();
  absent_.clear();
  ready_.clear();
  next_absent_ = next_ready_ = n_to_hand_out_ = n_handed_out_ = 0;
}

}  // namespace pantry
