// SPDX-License-Identifier: Apache-2.0
#include "eval/kl_file.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/units.h"

namespace pantry {
namespace {

static_assert(std::endian::native == std::endian::little);
static_assert(sizeof(TokenId) == 4);

constexpr std::string_view kMagic = "PANTRYKL";
constexpr uint32_t kVersion = 1;
constexpr size_t kFixedBytes = 64;
constexpr size_t kHashOffset = 56;
constexpr size_t kRowHead = 24;
constexpr int64_t kMostVocabulary = int64_t{1} << 24;
constexpr int64_t kMostTokens = int64_t{1} << 31;  // of all windows
constexpr int64_t kMostName = 4096;
constexpr double kMostSteps = 65535;

// Whether a row's numbers are what a distribution has.
bool IsSound(const KlRow& row) {
  return std::isfinite(row.loss) && std::isfinite(row.top) && std::isfinite(row.step) && row.loss >= 0 &&
         row.top <= 0 && row.step >= 0;
}

int64_t RoundUp(int64_t n) { return AlignUp(n, static_cast<int64_t>(OutputFile::kAlignment)); }

template <typename T>
T Load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}
template <typename T>
void Store(uint8_t* bytes, T value) {
  std::memcpy(bytes, &value, sizeof value);
}

// Of all of the head but the hash itself.
uint64_t HashOfHead(std::span<const uint8_t> head, size_t n_used) {
  const uint64_t fixed = XXH3_64bits(head.data(), kHashOffset);
  return XXH3_64bits_withSeed(head.data() + kFixedBytes, n_used - kFixedBytes, fixed);
}

uint64_t HashOfRow(std::span<const uint8_t> row) { return XXH3_64bits(row.data(), row.size() - sizeof(uint64_t)); }

// The fixed part, checked to be such that sizes can be computed from it.
Result<KlHead> ParseFixed(const uint8_t* bytes, const std::string& path) {
  if (std::memcmp(bytes, kMagic.data(), kMagic.size()) != 0) {
    return CorruptionError("{}: not a file of --save-logits", path);
  }
  if (const auto version = Load<uint32_t>(bytes + 8); version != kVersion) {
    return UnsupportedError("{}: version {}, this program knows {}", path, version, kVersion);
  }
  KlHead head;
  head.n_vocab = Load<uint32_t>(bytes + 12);
  head.n_ctx = Load<uint32_t>(bytes + 16);
  head.n_windows = Load<uint32_t>(bytes + 20);
  head.vocabulary = Load<uint64_t>(bytes + 24);
  const int64_t n_name = Load<uint32_t>(bytes + 32);
  const bool is_sound = head.n_vocab >= 1 && head.n_vocab <= kMostVocabulary && head.n_ctx >= 4 &&
                        head.n_windows >= 1 && head.n_ctx <= kMostTokens / head.n_windows && n_name <= kMostName;
  if (!is_sound) return CorruptionError("{}: its head is damaged", path);
  head.model.resize(static_cast<size_t>(n_name));
  return head;
}

}  // namespace

int64_t KlHead::row_bytes() const {
  return RoundUp(static_cast<int64_t>(kRowHead) + 2 * n_vocab + int64_t{sizeof(uint64_t)});
}
int64_t KlHead::rows_offset() const {
  return RoundUp(static_cast<int64_t>(kFixedBytes + model.size()) + 4 * n_windows * n_ctx);
}

uint64_t VocabularyHash(const Tokenizer& tokenizer) {
  uint64_t hash = 0;
  for (TokenId token = 0; token < tokenizer.n_vocab(); ++token) {
    const std::string_view text = tokenizer.TokenText(token);
    hash = XXH3_64bits_withSeed(text.data(), text.size(), hash);
  }
  return hash;
}

Result<KlFileWriter> KlFileWriter::Create(const std::string& path, KlHead head) {
  PANTRY_CHECK(head.tokens.size() == static_cast<size_t>(head.n_windows * head.n_ctx));
  if (head.n_vocab > kMostVocabulary || head.n_ctx > kMostTokens / head.n_windows) {
    return InvalidArgumentError("{}: {} windows of {} tokens are more than such a file holds; use --chunks N", path,
                                head.n_windows, head.n_ctx);
  }
  head.model.resize(std::min(head.model.size(), static_cast<size_t>(kMostName)));
  PANTRY_ASSIGN_OR_RETURN(std::unique_ptr<OutputFile> file, OpenOutputFile(path, /*replace=*/true));
  PANTRY_RETURN_IF_ERROR(file->Clear());
  PANTRY_RETURN_IF_ERROR(file->Reserve(static_cast<uint64_t>(head.file_bytes())));
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer bytes, AlignedBuffer::Allocate(static_cast<size_t>(head.rows_offset())));
  uint8_t* const out = bytes.data();
  std::memcpy(out, kMagic.data(), kMagic.size());
  Store(out + 8, kVersion);
  Store(out + 12, static_cast<uint32_t>(head.n_vocab));
  Store(out + 16, static_cast<uint32_t>(head.n_ctx));
  Store(out + 20, static_cast<uint32_t>(head.n_windows));
  Store(out + 24, head.vocabulary);
  Store(out + 32, static_cast<uint32_t>(head.model.size()));
  Store(out + 40, static_cast<uint64_t>(head.rows_offset()));
  std::ranges::copy(head.model, out + kFixedBytes);
  std::memcpy(out + kFixedBytes + head.model.size(), head.tokens.data(), head.tokens.size() * sizeof(TokenId));
  Store(out + kHashOffset, HashOfHead({out, bytes.size()}, bytes.size()));
  PANTRY_RETURN_IF_ERROR(file->WriteAt(0, {out, bytes.size()}));
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer row, AlignedBuffer::Allocate(static_cast<size_t>(head.row_bytes())));
  return KlFileWriter(std::move(head), std::move(file), std::move(row));
}

Status KlFileWriter::Add(std::span<const float> logits, float largest, double log_sum, TokenId next) {
  PANTRY_CHECK(logits.size() == static_cast<size_t>(head_.n_vocab) && n_rows_ < head_.n_rows());
  const float smallest = *std::min_element(logits.begin(), logits.end());
  const double range = std::min(static_cast<double>(largest) - smallest, KlFile::kRange);
  const auto step = static_cast<float>(range / kMostSteps);
  const double loss = -(static_cast<double>(logits[static_cast<size_t>(next)]) - largest - log_sum);
  const auto top = static_cast<float>(-log_sum);
  if (!IsSound({.loss = loss, .top = top, .step = step, .steps = {}})) {
    return CorruptionError("row {}: token {} follows, whose log probability is {}: no perplexity can be told of that",
                           n_rows_, next, -loss);
  }
  uint8_t* const row = row_.data();
  Store(row, loss);
  Store(row + 8, top);
  Store(row + 12, step);
  Store(row + 16, static_cast<uint32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
  for (size_t i = 0; i < logits.size(); ++i) {
    const double below = step > 0 ? (static_cast<double>(largest) - logits[i]) / step : 0.0;
    Store(row + kRowHead + 2 * i, static_cast<uint16_t>(std::min(below + 0.5, kMostSteps)));
  }
  Store(row + row_.size() - sizeof(uint64_t), HashOfRow({row, row_.size()}));
  const auto offset = static_cast<uint64_t>(head_.rows_offset() + n_rows_ * head_.row_bytes());
  ++n_rows_;
  return file_->WriteAt(offset, {row, row_.size()});
}

Status KlFileWriter::Publish() {
  PANTRY_CHECK(n_rows_ == head_.n_rows());
  return file_->Publish();
}

Result<KlFile> KlFile::Open(std::unique_ptr<Reader> reader) {
  const std::string& path = reader->path();
  std::vector<uint8_t> bytes(kFixedBytes);
  if (reader->size() < bytes.size()) return CorruptionError("{}: not a file of --save-logits", path);
  PANTRY_RETURN_IF_ERROR(reader->ReadAt(0, bytes));
  PANTRY_ASSIGN_OR_RETURN(KlHead head, ParseFixed(bytes.data(), path));
  if (static_cast<uint64_t>(head.file_bytes()) != reader->size()) {
    return CorruptionError("{}: {} bytes, expected {}: it is cut or damaged", path, reader->size(), head.file_bytes());
  }
  bytes.resize(static_cast<size_t>(head.rows_offset()));
  PANTRY_RETURN_IF_ERROR(reader->ReadAt(0, bytes));
  if (Load<uint64_t>(bytes.data() + kHashOffset) != HashOfHead(bytes, bytes.size())) {
    return CorruptionError("{}: the checksum of its head is wrong: it is damaged", path);
  }
  if (Load<uint64_t>(bytes.data() + 40) != static_cast<uint64_t>(head.rows_offset())) {
    return CorruptionError("{}: its rows do not begin where its head ends", path);
  }
  std::memcpy(head.model.data(), bytes.data() + kFixedBytes, head.model.size());
  head.tokens.resize(static_cast<size_t>(head.n_windows * head.n_ctx));
  std::memcpy(head.tokens.data(), bytes.data() + kFixedBytes + head.model.size(), head.tokens.size() * sizeof(TokenId));
  for (const TokenId token : head.tokens) {
    if (token < 0 || token >= head.n_vocab)
      return CorruptionError("{}: token {} is not in its vocabulary", path, token);
  }
  return KlFile(std::move(head), std::move(reader));
}

Result<KlRow> KlFile::Row(int64_t row) {
  PANTRY_CHECK(row >= 0 && row < head_.n_rows());
  row_.resize(static_cast<size_t>(head_.row_bytes()));
  const auto offset = static_cast<uint64_t>(head_.rows_offset() + row * head_.row_bytes());
  PANTRY_RETURN_IF_ERROR(reader_->ReadAt(offset, row_));
  if (Load<uint64_t>(row_.data() + row_.size() - sizeof(uint64_t)) != HashOfRow(row_)) {
    return CorruptionError("{}: the checksum of row {} at offset {} is wrong: it is damaged", path(), row, offset);
  }
  KlRow read;
  read.loss = Load<double>(row_.data());
  read.top = Load<float>(row_.data() + 8);
  read.step = Load<float>(row_.data() + 12);
  const auto best = Load<uint32_t>(row_.data() + 16);
  if (!IsSound(read) || best >= static_cast<uint64_t>(head_.n_vocab))
    return CorruptionError("{}: row {} holds no probabilities", path(), row);
  read.best = static_cast<TokenId>(best);
  static_assert(kRowHead % sizeof(uint16_t) == 0);  // vectors are aligned for any number
  read.steps = {reinterpret_cast<const uint16_t*>(row_.data() + kRowHead), static_cast<size_t>(head_.n_vocab)};
  return read;
}

}  // namespace pantry
