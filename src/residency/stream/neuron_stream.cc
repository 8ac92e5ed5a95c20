// SPDX-License-Identifier: Apache-2.0
#include "residency/stream/neuron_stream.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <utility>

namespace pantry {
namespace {

constexpr size_t kReadsAtOnce = 64;  // of one BlockReader::Submit() or Reap()

// Fill() reads over a gap of so much rather than in two: at 2.4 GB/s it takes no longer than one of 55000 reads a second does.
constexpr size_t kGapBytes = 40 << 10;
constexpr size_t kFillReads = 8;  // under way, in equal parts of staging
constexpr size_t kMostFillBytes = 1 << 20;

// Of a slot of staging: bundles begin where the disk's blocks do, or an eighth of one further, so one of 4608 bytes lies in two blocks.
size_t SlotBytes(int64_t bundle_bytes) {
  return Reader::SlotBytes(static_cast<size_t>(bundle_bytes), NeuronTable::kAlignment);
}

}  // namespace

int64_t NeuronStream::StagingBytes(int64_t bundle_bytes) {
  return static_cast<int64_t>(SlotBytes(bundle_bytes)) * kStagingSlots;
}

NeuronStream::NeuronStream(const NeuronTable& table, NeuronCache& cache, BlockReader& reader, const Clock& clock)
    : table_(table), cache_(cache), reader_(reader), clock_(clock) {}

Result<std::unique_ptr<NeuronStream>> NeuronStream::Create(const NeuronTable& table, NeuronCache& cache,
                                                           BlockReader& reader, const Clock& clock) {
  PANTRY_CHECK(table.kept_bytes > 0 && table.kept_bytes <= table.bundle_bytes);
  auto stream = std::unique_ptr<NeuronStream>(new NeuronStream(table, cache, reader, clock));
  const auto is_aligned = [](uint64_t offset) { return offset % NeuronTable::kAlignment == 0; };
  PANTRY_CHECK(std::ranges::all_of(table.offsets, is_aligned) && is_aligned(static_cast<uint64_t>(table.bundle_bytes)));
  stream->staging_slot_bytes_ = SlotBytes(table.bundle_bytes);
  PANTRY_ASSIGN_OR_RETURN(stream->staging_,
                          AlignedBuffer::Allocate(static_cast<size_t>(StagingBytes(table.bundle_bytes))));
  for (uint32_t slot = kStagingSlots; slot-- > 0;) stream->free_staging_.push_back(slot);
  stream->done_.resize(kReadsAtOnce);
  stream->reads_.reserve(kReadsAtOnce);
  const size_t n_of_layer = static_cast<size_t>(table.n_networks) * static_cast<size_t>(table.n_neurons);
  stream->entries_.resize(n_of_layer);
  stream->absent_.resize(n_of_layer);
  return stream;
}

NeuronStream::~NeuronStream() { Abandon(); }

void NeuronStream::Begin(int32_t layer, int64_t n_tokens) {
  PANTRY_CHECK(n_wanted_ == 0);
  layer_ = layer;
  cache_.BeginEvent(layer, n_tokens);
  ++stats_.n_events;
}

void NeuronStream::Want(int32_t network, std::span<const int32_t> neurons, std::span<const uint16_t> n_uses) {
  PANTRY_CHECK(n_wanted_ + neurons.size() <= entries_.size() && network < table_.n_networks);
  cache_.Select(network);
  cache_.Use(neurons, n_uses);
  for (const int32_t neuron : neurons) {
    Entry& entry = entries_[n_wanted_];
    entry = {.bundle = cache_.Find(neuron), .neuron = neuron, .network = network};
    if (entry.bundle == nullptr) absent_[n_absent_++] = static_cast<uint32_t>(n_wanted_);
    ++n_wanted_;
  }
  Pump();
}

// Gives the reader what staging has room for.
void NeuronStream::Pump() {
  while (next_absent_ < n_absent_ && !free_staging_.empty() && reader_.room() > 0) {
    reads_.clear();
    const size_t most = std::min({kReadsAtOnce, reader_.room(), free_staging_.size(), n_absent_ - next_absent_});
    for (size_t i = 0; i < most; ++i) {
      const uint32_t index = absent_[next_absent_++];
      Entry& entry = entries_[index];
      entry.staging = free_staging_.back();
      free_staging_.pop_back();
      reads_.push_back({.tag = index,
                        .file = table_.file,
                        .offset = table_.OffsetOf(table_.PlaceOf(layer_, entry.network), entry.neuron),
                        .n_bytes = static_cast<size_t>(table_.bundle_bytes),
                        .slot = staging_.data() + entry.staging * staging_slot_bytes_});
    }
    reader_.Submit(reads_);
  }
}

void NeuronStream::FreeStaging(Entry& entry) {
  if (entry.staging == kNone) return;
  free_staging_.push_back(entry.staging);
  entry.staging = kNone;
}

Status NeuronStream::Take(const BlockReadDone& done) {
  PANTRY_RETURN_IF_ERROR(done.status);
  Entry& entry = entries_[done.tag];
  const auto n_bytes = static_cast<size_t>(table_.bundle_bytes);
  const size_t place = table_.PlaceOf(layer_, entry.network);
  if (!table_.is_intact(place, entry.neuron, {done.bytes, n_bytes})) return table_.damaged(place, entry.neuron);
  cache_.Select(entry.network);
  uint8_t* const kept = cache_.Admit(entry.neuron);
  entry.bundle = done.bytes;
  if (kept == nullptr) return OkStatus();
  std::memcpy(kept, done.bytes, static_cast<size_t>(table_.kept_bytes));
  entry.bundle = kept;
  FreeStaging(entry);
  return OkStatus();
}

Status NeuronStream::Collect(int64_t timeout_us) {
  const size_t n = reader_.Reap(done_, timeout_us);
  Status status;
  for (size_t i = 0; i < n; ++i) {
    Status taken = Take(done_[i]);
    if (status.ok()) status = std::move(taken);
  }
  return status;
}

void NeuronStream::Peek(size_t skip, std::span<const uint8_t*> bundles) const {
  PANTRY_CHECK(n_handed_ + skip + bundles.size() <= n_wanted_);
  const Entry* const entries = entries_.data() + n_handed_ + skip;
  for (size_t i = 0; i < bundles.size(); ++i) bundles[i] = entries[i].bundle;
}

void NeuronStream::FetchOn() {
  if (reader_.n_pending() == 0 || !failed_.ok()) return;
  failed_ = Collect(0);
  Pump();
}

Status NeuronStream::Await(std::span<const uint8_t*> bundles) {
  PANTRY_CHECK(bundles.size() <= kMostAtOnce && n_handed_ + bundles.size() <= n_wanted_);
  if (!failed_.ok()) {
    Status failed = std::move(failed_);
    Abandon();
    return failed;
  }
  Pump();
  for (size_t i = 0; i < bundles.size(); ++i) {
    const Entry& entry = entries_[n_handed_ + i];
    while (entry.bundle == nullptr) {
      Status status = Collect(0);
      Pump();
      if (status.ok() && entry.bundle == nullptr) {
        const int64_t begin_us = clock_.NowUs();
        status = Collect(BlockReader::kForever);
        ++stats_.n_waits;
        stats_.wait_us += clock_.NowUs() - begin_us;
        Pump();
      }
      if (!status.ok()) {
        Abandon();
        return status;
      }
    }
    bundles[i] = entry.bundle;
  }
  n_handed_ += bundles.size();
  return OkStatus();
}

void NeuronStream::Release() {
  for (; n_released_ < n_handed_; ++n_released_) FreeStaging(entries_[n_released_]);
  Pump();
}

// The first of `left` and those behind it that one read brings; they leave it.
NeuronStream::FillRead NeuronStream::NextFill(std::span<const int32_t>& left) const {
  const auto bundle = static_cast<size_t>(table_.bundle_bytes);
  // A slot holds what surrounds the bytes, too.
  const size_t most =
      std::min(kMostFillBytes,
               staging_.size() / kFillReads / Reader::kBlockBytes * Reader::kBlockBytes - 2 * Reader::kBlockBytes);
  size_t n = 1;
  const auto bytes_to = [&](size_t i) { return static_cast<size_t>(left[i] - left[0] + 1) * bundle; };
  while (n < left.size() && bytes_to(n) <= most && bytes_to(n) - bytes_to(n - 1) <= kGapBytes + bundle) ++n;
  const FillRead read = {.first = left[0], .neurons = left.first(n), .n_bytes = bytes_to(n - 1)};
  left = left.subspan(n);
  return read;
}

Status NeuronStream::TakeFill(size_t place, const FillRead& read, const uint8_t* bytes) {
  const auto n_bytes = static_cast<size_t>(table_.bundle_bytes);
  for (const int32_t neuron : read.neurons) {
    const uint8_t* const bundle = bytes + static_cast<size_t>(neuron - read.first) * n_bytes;
    if (!table_.is_intact(place, neuron, {bundle, n_bytes})) return table_.damaged(place, neuron);
    uint8_t* const kept = cache_.Admit(neuron);
    if (kept != nullptr) std::memcpy(kept, bundle, static_cast<size_t>(table_.kept_bytes));
  }
  return OkStatus();
}

Status NeuronStream::Fill(int32_t layer, int32_t network, std::span<const int32_t> neurons) {
  PANTRY_CHECK(n_wanted_ == 0);
  layer_ = layer;
  cache_.BeginEvent(layer, 0);
  cache_.Select(network);
  const size_t place = table_.PlaceOf(layer, network);
  const size_t slot_bytes = staging_.size() / kFillReads / Reader::kBlockBytes * Reader::kBlockBytes;
  std::array<FillRead, kFillReads> reads;
  std::array<size_t, kFillReads> idle;
  size_t n_idle = kFillReads;
  std::iota(idle.begin(), idle.end(), size_t{0});
  Status status;
  while (status.ok() && (!neurons.empty() || reader_.n_pending() > 0)) {
    while (!neurons.empty() && n_idle > 0) {
      const size_t slot = idle[--n_idle];
      reads[slot] = NextFill(neurons);
      const BlockRead read = {.tag = slot,
                              .file = table_.file,
                              .offset = table_.OffsetOf(place, reads[slot].first),
                              .n_bytes = reads[slot].n_bytes,
                              .slot = staging_.data() + slot * slot_bytes};
      reader_.Submit({&read, 1});
    }
    const size_t n = reader_.Reap(done_, BlockReader::kForever);
    for (size_t i = 0; i < n && status.ok(); ++i) {
      const BlockReadDone& done = done_[i];
      status = done.status.ok() ? TakeFill(place, reads[done.tag], done.bytes) : done.status;
      idle[n_idle++] = done.tag;
    }
  }
  Abandon();
  return status;
}

void NeuronStream::Reset() {
  n_wanted_ = n_absent_ = next_absent_ = n_released_ = n_handed_ = 0;
  failed_ = OkStatus();
}

void NeuronStream::End() {
  PANTRY_CHECK(n_released_ == n_wanted_);
  Reset();
}

// Waits for what is under way, and forgets the event.
void NeuronStream::Abandon() {
  while (reader_.n_pending() > 0) (void)reader_.Reap(done_, BlockReader::kForever);
  for (size_t i = n_released_; i < n_wanted_; ++i) FreeStaging(entries_[i]);
  Reset();
}

}  // namespace pantry
