// SPDX-License-Identifier: Apache-2.0
#include "io/block_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "io/read_range.h"
#include "sys/posix_error.h"

namespace pantry {
namespace {

constexpr size_t kLargestTransfer = size_t{1} << 30;  // Linux takes a little less than 2 GiB

bool MayPass(int error_number) {
  return error_number == EIO || error_number == EAGAIN || error_number == EINTR || error_number == ETIMEDOUT ||
         error_number == ECANCELED;  // the thread that began it has ended
}

uint64_t Down(uint64_t n, uint64_t to) { return n / to * to; }
uint64_t Up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

}  // namespace

Status BlockReaderOptions::Validate() const {
  if (max_reads < 1) return InvalidArgumentError("max_reads is {}, but must be 1 or more", max_reads);
  if (guess_depth < 1) return InvalidArgumentError("guess_depth is {}, but must be 1 or more", guess_depth);
  if (max_retries < 0) return InvalidArgumentError("max_retries is {}, but must not be negative", max_retries);
  if (split_bytes < Reader::kBlockBytes || split_bytes > kLargestTransfer) {
    return InvalidArgumentError("split_bytes is {}, but must lie between {} and {}", split_bytes, Reader::kBlockBytes,
                                kLargestTransfer);
  }
  if (coalesce_bytes > split_bytes) {
    return InvalidArgumentError("coalesce_bytes is {}, but must not exceed split_bytes, {}", coalesce_bytes,
                                split_bytes);
  }
  return OkStatus();
}

BlockReader::BlockReader(std::span<const Reader* const> files, std::unique_ptr<DiskQueue> queue,
                         const BlockReaderOptions& options, const Clock& clock)
    : files_(files.begin(), files.end()),
      options_(options),
      clock_(clock),
      entries_(static_cast<size_t>(options.max_reads)),
      room_(entries_.size()),
      flights_(static_cast<size_t>(queue->depth())),
      ends_(flights_.size()),
      queue_(std::move(queue)) {
  PANTRY_CHECK(options.Validate().ok());
  for (uint32_t i = 0; i < entries_.size(); ++i) Append(free_, i);
  for (uint32_t i = 0; i < flights_.size(); ++i) free_flights_.push_back(i);
}

BlockReader::~BlockReader() = default;

// ---- lists and entries ----------------------------------------------------------------------------------------------------------

void BlockReader::Append(List& list, uint32_t index) {
  entries_[index].before = list.last;
  entries_[index].after = kNone;
  (list.last == kNone ? list.first : entries_[list.last].after) = index;
  list.last = index;
}

void BlockReader::Remove(List& list, uint32_t index) {
  const Entry& entry = entries_[index];
  (entry.before == kNone ? list.first : entries_[entry.before].after) = entry.after;
  (entry.after == kNone ? list.last : entries_[entry.after].before) = entry.before;
}

uint32_t BlockReader::FindWaiting(const List& list, uint64_t tag) const {
  uint32_t index = list.first;
  while (index != kNone && entries_[index].read.tag != tag) index = entries_[index].after;
  return index;
}

void BlockReader::Release(uint32_t index) {
  Append(free_, index);
  ++room_;
}

void BlockReader::Complete(uint32_t index) {
  Entry& entry = entries_[index];
  entry.done_us = clock_.NowUs();
  if (entry.is_cut && entry.status.ok()) {
    entry.status =
        CancelledError("{}: reading {} bytes at offset {} was cancelled",
                       files_[static_cast<size_t>(entry.read.file)]->path(), entry.read.n_bytes, entry.read.offset);
  } else if (entry.status.ok()) {
    ++stats_.n_reads;
    stats_.bytes_wanted += static_cast<int64_t>(entry.read.n_bytes);
  } else {
    ++stats_.n_errors;
  }
  Append(done_, index);
}

// A byte of the file lies at the same place in its block and in the slot.
uint8_t* BlockReader::Place(const Entry& entry, uint64_t offset) const {
  return entry.read.slot + (offset - Down(entry.read.offset, Reader::kBlockBytes));
}

void BlockReader::SubmitOne(const BlockRead& read) {
  PANTRY_CHECK(room_ > 0 && read.file >= 0 && static_cast<size_t>(read.file) < files_.size());
  PANTRY_CHECK(reinterpret_cast<uintptr_t>(read.slot) % Reader::kBlockBytes == 0);
  const uint32_t index = free_.first;
  Remove(free_, index);
  --room_;
  const Reader& file = *files_[static_cast<size_t>(read.file)];
  Entry& entry = entries_[index];
  entry.read = read;
  entry.n_flights = 0;
  entry.waits = false;
  entry.is_cut = false;
  entry.submitted_us = entry.started_us = clock_.NowUs();
  entry.status = CheckReadRange(file.path(), file.size(), read.offset, read.n_bytes);
  if (!entry.status.ok() || read.n_bytes == 0) {
    Complete(index);
    return;
  }
  entry.begin = entry.next = Down(read.offset, queue_->alignment());
  entry.end = Up(read.offset + read.n_bytes, queue_->alignment());
  entry.waits = true;
  Append(WaitingFor(entry), index);
}

// ---- what the caller does -------------------------------------------------------------------------------------------------------

void BlockReader::Submit(std::span<const BlockRead> reads) {
  for (const BlockRead& read : reads) SubmitOne(read);
  Collect(0);
}

size_t BlockReader::Reap(std::span<BlockReadDone> out, int64_t timeout_us) {
  Collect(0);
  const int64_t deadline_us = timeout_us > 0 ? clock_.NowUs() + timeout_us : 0;
  for (int64_t left_us = timeout_us; left_us != 0 && done_.first == kNone && n_under_way() > 0;) {
    Collect(left_us);
    if (timeout_us > 0) left_us = std::max<int64_t>(deadline_us - clock_.NowUs(), 0);
  }
  size_t n = 0;
  while (n < out.size() && done_.first != kNone) {
    const uint32_t index = done_.first;
    Entry& entry = entries_[index];
    Remove(done_, index);
    out[n++] = {entry.read.tag,     std::move(entry.status), Place(entry, entry.read.offset),
                entry.submitted_us, entry.started_us,        entry.done_us};
    Release(index);
  }
  return n;
}

bool BlockReader::Cancel(uint64_t tag) {
  for (List& waiting : waiting_) {
    const uint32_t index = FindWaiting(waiting, tag);
    if (index == kNone) continue;
    Entry& entry = entries_[index];
    Remove(waiting, index);
    entry.waits = false;
    ++stats_.n_cancelled;
    if (entry.next == entry.begin) {
      Release(index);
      return true;
    }
    entry.is_cut = true;
    if (entry.n_flights == 0) Complete(index);
    return false;
  }
  return false;
}

bool BlockReader::Promote(uint64_t tag) {
  List& guesses = waiting_[static_cast<size_t>(ReadUrgency::kGuess)];
  const uint32_t index = FindWaiting(guesses, tag);
  if (index == kNone) return false;
  Remove(guesses, index);
  entries_[index].read.urgency = ReadUrgency::kDemand;
  Append(WaitingFor(entries_[index]), index);
  Pump();
  return true;
}

BlockReaderStats BlockReader::stats() const {
  BlockReaderStats stats = stats_;
  stats.busy_us = busy_->Us(clock_.NowUs());
  return stats;
}

// ---- transfers ------------------------------------------------------------------------------------------------------------------

void BlockReader::Pump() {
  List& demands = waiting_[static_cast<size_t>(ReadUrgency::kDemand)];
  List& guesses = waiting_[static_cast<size_t>(ReadUrgency::kGuess)];
  bool has_new = false;
  while (!free_flights_.empty()) {
    const bool is_demand = demands.first != kNone;
    if (!is_demand && (guesses.first == kNone || n_guess_flights_ >= options_.guess_depth)) break;
    const uint32_t id = free_flights_.back();
    if (n_under_way() == 0) busy_->Begin(clock_.NowUs());
    free_flights_.pop_back();
    flights_[id].urgency = is_demand ? ReadUrgency::kDemand : ReadUrgency::kGuess;
    if (!is_demand) ++n_guess_flights_;
    Form(flights_[id], is_demand ? demands : guesses);
    Launch(id);
    has_new = true;
  }
  if (has_new) queue_->Flush();
}

void BlockReader::Form(Flight& flight, List& waiting) {
  const uint32_t index = waiting.first;
  Entry& entry = entries_[index];
  if (entry.next == entry.begin) entry.started_us = clock_.NowUs();
  // Equal parts: a block a little larger than split_bytes does not leave a crumb.
  const uint64_t n_left = entry.end - entry.next;
  const uint64_t n_parts = (n_left + options_.split_bytes - 1) / options_.split_bytes;
  const uint64_t end = std::min(entry.end, entry.next + Up((n_left + n_parts - 1) / n_parts, Reader::kBlockBytes));
  flight.file = entry.read.file;
  flight.n_retries = 0;
  flight.n_pieces = 1;
  flight.pieces[0] = {index, false, entry.next, end};
  flight.from = flight.done = entry.next;
  flight.end = std::min(end, entry.read.offset + entry.read.n_bytes);
  entry.next = end;
  ++entry.n_flights;
  if (end < entry.end) return;
  Remove(waiting, index);
  entry.waits = false;
  if (flight.from == entry.begin) AddNeighbours(flight, waiting);
}

// Those that wait first and begin where the transfer ends, or in its last block, which they then share.
void BlockReader::AddNeighbours(Flight& flight, List& waiting) {
  const uint64_t begin = flight.pieces[0].begin;
  uint64_t end = flight.pieces[0].end;
  const uint64_t shared_block = queue_->alignment() > 1 ? end - queue_->alignment() : end;
  for (uint64_t block = shared_block; waiting.first != kNone && flight.n_pieces < kMostPieces;) {
    const uint32_t index = waiting.first;
    Entry& entry = entries_[index];
    const bool is_neighbour = entry.next == entry.begin && entry.read.file == flight.file &&
                              (entry.begin == end || entry.begin == block) && entry.end >= end &&
                              entry.end - begin <= options_.coalesce_bytes;
    if (!is_neighbour) return;
    flight.pieces[flight.n_pieces++] = {index, entry.begin < end, end, entry.end};
    flight.end = std::max(flight.end, entry.read.offset + entry.read.n_bytes);
    end = entry.end;
    block = queue_->alignment() > 1 ? end - queue_->alignment() : end;
    entry.started_us = clock_.NowUs();
    entry.next = entry.end;
    ++entry.n_flights;
    Remove(waiting, index);
    entry.waits = false;
    ++stats_.n_coalesced;
  }
}

void BlockReader::Launch(uint32_t id) {
  Flight& flight = flights_[id];
  flight.from = Down(flight.done, queue_->alignment());  // a part of a block is read again
  size_t n = 0;
  for (const Piece& piece : std::span(flight.pieces).first(flight.n_pieces)) {
    const uint64_t begin = std::max(flight.from, piece.begin);
    if (begin < piece.end)
      flight.to[n++] = {Place(entries_[piece.entry], begin), static_cast<size_t>(piece.end - begin)};
  }
  ++stats_.n_transfers;
  queue_->Start({id, flight.file, flight.from, std::span(flight.to).first(n)});
}

void BlockReader::Collect(int64_t timeout_us) {
  Pump();
  const size_t n = queue_->Wait(ends_, timeout_us);
  for (const TransferEnd& end : std::span(ends_).first(n)) End(end);
  if (n == 0) return;
  Pump();
  queue_->Flush();  // those that End() launched again
}

void BlockReader::End(const TransferEnd& end) {
  Flight& flight = flights_[end.id];
  const bool has_failed = end.n_bytes < 0;
  const int error_number = has_failed ? static_cast<int>(-end.n_bytes) : 0;
  const uint64_t reached = flight.from + (has_failed ? 0 : static_cast<uint64_t>(end.n_bytes));
  const bool has_grown = reached > flight.done;
  flight.done = reached;  // also where that is less: nobody knows what lies now in a block that was to be read again
  if (!has_failed) stats_.bytes_read += end.n_bytes;
  if (reached < flight.end) {
    // Without growth the file ends there, or the disk stopped short twice: another try tells.
    const bool may_pass = has_failed ? MayPass(error_number) : end.n_bytes > 0;
    const bool tries_again = !has_grown && may_pass && flight.n_retries < options_.max_retries;
    if (tries_again) ++flight.n_retries;
    if (has_grown || tries_again) {
      ++(has_grown ? stats_.n_short : stats_.n_retries);
      Launch(end.id);
      return;
    }
  }
  if (flight.urgency == ReadUrgency::kGuess) --n_guess_flights_;
  free_flights_.push_back(end.id);
  Finish(flight, error_number);
  if (n_under_way() == 0) busy_->End(clock_.NowUs());
}

void BlockReader::Finish(Flight& flight, int error_number) {
  for (size_t i = 0; i < flight.n_pieces; ++i) {
    const Piece& piece = flight.pieces[i];
    Entry& entry = entries_[piece.entry];
    if (flight.done < std::min(piece.end, entry.read.offset + entry.read.n_bytes)) {
      if (entry.status.ok()) entry.status = ErrorOf(flight, entry, error_number);
      if (entry.waits)
        Remove(WaitingFor(entry), piece.entry);  // the parts that were not handed over are not wanted any more
      entry.waits = false;
    } else if (piece.shares_block) {
      std::memcpy(Place(entry, entry.begin), Place(entries_[flight.pieces[i - 1].entry], entry.begin),
                  Reader::kBlockBytes);
    }
    if (--entry.n_flights == 0 && !entry.waits) Complete(piece.entry);
  }
}

Status BlockReader::ErrorOf(const Flight& flight, const Entry& entry, int error_number) const {
  const Reader& file = *files_[static_cast<size_t>(flight.file)];
  if (error_number == 0) {
    return IoError("{}: the file ends at offset {} but had {} bytes when it was opened: it was cut while in use",
                   file.path(), flight.done, file.size());
  }
  const std::string tries = flight.n_retries > 0 ? fmt::format(" ({} tries)", flight.n_retries + 1) : "";
  return PosixError(
      fmt::format("{}: reading {} bytes at offset {}{}", file.path(), entry.read.n_bytes, entry.read.offset, tries),
      error_number);
}

}  // namespace pantry
