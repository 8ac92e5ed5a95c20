// SPDX-License-Identifier: Apache-2.0
// A KlFile keeps what a model holds probable after every scored token of a text, for other models to be compared with.
//
//   0   "PANTRYKL"                    48  0, for later use
//   8   u32 version, 1                56  u64 XXH3 of all before it and of name and tokens
//   12  u32 n_vocab                   64  the model's name
//   16  u32 n_ctx                         i32 tokens of all windows [n_windows, n_ctx]
//   20  u32 n_windows                     zeros up to a multiple of 4096
//   24  u64 XXH3 of the vocabulary        rows [n_windows * rows_per_window], each a multiple of 4096 bytes:
//   32  u32 bytes of the name               0   f64 loss: -log p of the token that follows      16  u32 the most probable token
//   36  u32 0                               8   f32 top, the largest log p                     20  u32 0
//   40  u64 offset of the rows              12  f32 step                                       24  u16 [n_vocab]: log p = top - step * it
//                                           row_bytes - 8   u64 XXH3 of the row before it
//
// Little-endian; natural logarithms. 65536 steps over at most kRange: a probability is right to 2.5e-4 of itself, and the reader makes them
// sum to 1 again. A row's checksum is read with the row, so a damaged file is noticed without being read twice.
// Threads: thread-compatible.
// Invariants: a file under its own name is complete (io/output_file.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/strong_id.h"
#include "io/output_file.h"
#include "io/reader.h"
#include "sys/aligned_buffer.h"
#include "text/tokenizer.h"

namespace pantry {

struct KlHead {
  std::string model;  // its name, for people
  int64_t n_vocab = 0;
  int64_t n_ctx = 0;
  int64_t n_windows = 0;
  uint64_t vocabulary = 0;      // VocabularyHash()
  std::vector<TokenId> tokens;  // [n_windows, n_ctx], as they are fed
  // The second half of each window is scored, as text_windows.h says.
  int64_t rows_per_window() const { return n_ctx - 1 - n_ctx / 2; }
  int64_t n_rows() const { return n_windows * rows_per_window(); }
  int64_t row_bytes() const;
  int64_t rows_offset() const;
  int64_t file_bytes() const { return rows_offset() + n_rows() * row_bytes(); }
};

// Of the texts of all tokens: models with the same have the same tokens.
uint64_t VocabularyHash(const Tokenizer& tokenizer);

// One position: a quantised distribution.
struct KlRow {
  double loss = 0;
  float top = 0;
  float step = 0;
  TokenId best = 0;
  std::span<const uint16_t> steps;  // [n_vocab]
};

class KlFileWriter {
 public:
  // Sets the room for the whole file aside. Errors of OpenOutputFile() and Reserve().
  static Result<KlFileWriter> Create(const std::string& path, KlHead head);
  // The next row: log p of every token is logits[i] - largest - log_sum. kCorruption, and nothing written, where `next` is impossible: no
  // reader would take that. REQUIRES: finite `largest` and `log_sum`.
  Status Add(std::span<const float> logits, float largest, double log_sum, TokenId next);
  // REQUIRES: all rows were added.
  Status Publish();
  // Instead of Publish(): leaves nothing behind.
  Status Discard() { return file_->Clear(); }

 private:
  KlFileWriter(KlHead head, std::unique_ptr<OutputFile> file, AlignedBuffer row)
      : head_(std::move(head)), file_(std::move(file)), row_(std::move(row)) {}
  KlHead head_;
  std::unique_ptr<OutputFile> file_;
  AlignedBuffer row_;
  int64_t n_rows_ = 0;
};

class KlFile {
 public:
  static constexpr double kRange = 32;  // below the top by more than that is as good as impossible

  // kCorruption when it is no such file, is cut or damaged; kUnsupported for another version; errors of the reader.
  static Result<KlFile> Open(std::unique_ptr<Reader> reader);
  const KlHead& head() const { return head_; }
  const std::string& path() const { return reader_->path(); }
  // Valid until the next call. REQUIRES: 0 <= row < head().n_rows(). kCorruption, errors of the reader.
  Result<KlRow> Row(int64_t row);

 private:
  KlFile(KlHead head, std::unique_ptr<Reader> reader) : head_(std::move(head)), reader_(std::move(reader)) {}
  KlHead head_;
  std::unique_ptr<Reader> reader_;
  std::vector<uint8_t> row_;
};

}  // namespace pantry
