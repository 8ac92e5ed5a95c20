// SPDX-License-Identifier: Apache-2.0
#include "engine/embedding_rows.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/units.h"
#include "weights/quant/dequantize.h"

namespace pantry {
namespace {

// Each thread of a way that needs them is one more stack, and a prompt's rows wait for nobody else's.
constexpr int kMostThreads = 4;
constexpr int64_t kBookkeeping = 64 * kKiB;  // of the reader and its queue

}  // namespace

int64_t EmbeddingRows::ReadingBytes(const RowsInFile& where) {
  const size_t slots = kReadsAtOnce * Reader::SlotBytes(static_cast<size_t>(where.row_bytes));
  return static_cast<int64_t>(slots) + kBookkeeping;
}

Result<std::unique_ptr<EmbeddingRows>> EmbeddingRows::Open(const GgufFile& file, const RowsInFile& where,
                                                           OpenBlockReaderOptions options, const Clock& clock,
                                                           Logger& log, std::unique_ptr<BlockReader> reader) {
  const size_t slot_bytes = Reader::SlotBytes(static_cast<size_t>(where.row_bytes));
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer slots,
                          AlignedBuffer::Allocate(kReadsAtOnce * slot_bytes, AlignedBuffer::HugePages::kNever));
  auto rows = std::unique_ptr<EmbeddingRows>(new EmbeddingRows(where, std::move(slots)));
  std::iota(rows->free_slots_.begin(), rows->free_slots_.end(), size_t{0});
  rows->n_free_ = kReadsAtOnce;
  options.depth = static_cast<int>(kReadsAtOnce);
  options.most_threads = std::min(options.most_threads, kMostThreads);
  options.reads.max_reads = static_cast<int>(kReadsAtOnce);
  rows->reader_ = std::move(reader);
  if (rows->reader_ == nullptr) {
    PANTRY_ASSIGN_OR_RETURN(rows->reader_, OpenBlockReader(file.Readers(), options, clock, log));
  }
  return rows;
}

Status EmbeddingRows::Rows(std::span<const TokenId> tokens, float* out) {
  for (size_t done = 0; done < tokens.size(); done += kTokensAtOnce) {
    const std::span<const TokenId> part = tokens.subspan(done, std::min(kTokensAtOnce, tokens.size() - done));
    const Status status = ReadRows(part, out + static_cast<int64_t>(done) * where_.cols);
    if (!status.ok()) return status.WithContext(fmt::format("tensor '{}'", where_.tensor));
  }
  return OkStatus();
}

// The first error; all that is under way ends before it is told.
Status EmbeddingRows::ReadRows(std::span<const TokenId> tokens, float* out) {
  const auto order = std::span(order_).first(tokens.size());
  std::iota(order.begin(), order.end(), uint16_t{0});
  std::sort(order.begin(), order.end(), [tokens](uint16_t a, uint16_t b) { return tokens[a] < tokens[b]; });
  Status status;
  for (size_t next = 0; next < tokens.size() || reader_->n_pending() > 0;) {
    next = status.ok() ? SubmitFrom(tokens, next) : tokens.size();
    std::array<BlockReadDone, kReadsAtOnce> done;
    const size_t n_done = reader_->Reap(done, BlockReader::kForever);
    for (const BlockReadDone& read : std::span(done).first(n_done)) {
      if (read.status.ok()) Take(tokens, read.tag / kReadsAtOnce, read.bytes, out);
      else if (status.ok()) status = read.status;
      free_slots_[n_free_++] = read.tag % kReadsAtOnce;
    }
  }
  return status;
}

size_t EmbeddingRows::EndOfEqual(std::span<const TokenId> tokens, size_t begin) const {
  size_t end = begin + 1;
  while (end < tokens.size() && tokens[order_[end]] == tokens[order_[begin]]) ++end;
  return end;
}

// Asks for rows from order_[next] on, as many as there are slots. Returns where the others begin.
size_t EmbeddingRows::SubmitFrom(std::span<const TokenId> tokens, size_t next) {
  std::array<BlockRead, kReadsAtOnce> reads;
  size_t n_reads = 0;
  for (; next < tokens.size() && n_free_ > 0; next = EndOfEqual(tokens, next)) {
    const size_t slot = free_slots_[--n_free_];
    const auto row_bytes = static_cast<size_t>(where_.row_bytes);
    reads[n_reads++] = {.tag = next * kReadsAtOnce + slot,
                        .file = where_.file,
                        .offset = where_.offset + static_cast<size_t>(tokens[order_[next]]) * row_bytes,
                        .n_bytes = row_bytes,
                        .slot = slots_.data() + slot * SlotBytes()};
  }
  reader_->Submit(std::span(reads).first(n_reads));
  return next;
}

// A row has come: to all tokens that want it.
void EmbeddingRows::Take(std::span<const TokenId> tokens, size_t begin, const uint8_t* bytes, float* out) const {
  float* const first = out + order_[begin] * where_.cols;
  DequantizeRow(where_.type, bytes, where_.cols, first);
  for (size_t i = begin + 1, end = EndOfEqual(tokens, begin); i < end; ++i) {
    std::memcpy(out + order_[i] * where_.cols, first, static_cast<size_t>(where_.cols) * sizeof(float));
  }
}

}  // namespace pantry
