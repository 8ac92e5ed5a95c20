// SPDX-License-Identifier: Apache-2.0
// EmbeddingRows reads the rows of a run's tokens from the model's file: an embedding is large, and a token wants one row of it.
//
// A run's tokens are read in the order of the file and a number of rows at once, equal ones only once, past the page cache, with a reader of
// its own, since the stream's may have blocks under way. Rows are not kept: a read took 0.2 ms where a token took 25 (a 4B model in 1 GiB, by
// io_uring, with guesses of experts under way), 200 of a prompt's together 4 ms of 2.3 s.
// Threads: one run at a time. Nothing is allocated after Open() but the text of errors.
// Invariant: no read is under way between two calls.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "base/clock.h"
#include "base/logger.h"
#include "base/status.h"
#include "base/strong_id.h"
#include "io/open_block_reader.h"
#include "models/weight_placer.h"
#include "models/weight_source.h"
#include "sys/aligned_buffer.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {

class EmbeddingRows final : public EmbeddingSource {
 public:
  // `file` and `clock` must outlive it. It reads by options.access; a `reader` given takes its place. kOutOfBudget; the errors of
  // OpenBlockReader().
  static Result<std::unique_ptr<EmbeddingRows>> Open(const GgufFile& file, const RowsInFile& where,
                                                     OpenBlockReaderOptions options, const Clock& clock, Logger& log,
                                                     std::unique_ptr<BlockReader> reader = nullptr);
  // What it takes.
  static int64_t ReadingBytes(const RowsInFile& where);

  Status Rows(std::span<const TokenId> tokens, float* out) override;

  BlockReaderStats stats() const { return reader_->stats(); }

 private:
  static constexpr size_t kTokensAtOnce = 512;  // sorted together
  static constexpr size_t kReadsAtOnce = 16;

  EmbeddingRows(RowsInFile where, AlignedBuffer slots) : where_(std::move(where)), slots_(std::move(slots)) {}
  size_t SlotBytes() const { return Reader::SlotBytes(static_cast<size_t>(where_.row_bytes)); }
  Status ReadRows(std::span<const TokenId> tokens, float* out);
  // The first index in order_ behind `begin` whose token is another one.
  size_t EndOfEqual(std::span<const TokenId> tokens, size_t begin) const;
  size_t SubmitFrom(std::span<const TokenId> tokens, size_t next);
  void Take(std::span<const TokenId> tokens, size_t begin, const uint8_t* bytes, float* out) const;

  RowsInFile where_;
  AlignedBuffer slots_;
  std::array<uint16_t, kTokensAtOnce> order_{};  // of a part of a run: indices of its tokens, equal ones side by side
  std::array<size_t, kReadsAtOnce> free_slots_{};
  size_t n_free_ = 0;
  std::unique_ptr<BlockReader> reader_;  // dies first
};

}  // namespace pantry
