// SPDX-License-Identifier: Apache-2.0
#include "weights/gguf/gguf_cursor.h"

#include <algorithm>

#include "base/units.h"

namespace pantry {
namespace {

// Large enough that a 6 MB vocabulary takes 50 reads, small enough that little is read in vain.
constexpr uint64_t kBufferBytes = 128 << 10;

// Strings up to this length lie in the std::string itself; longer ones take a block of the heap with its overhead.
constexpr uint64_t kInlineStringBytes = 15;
constexpr uint64_t kHeapBlockOverhead = 32;

}  // namespace

GgufCursor::GgufCursor(const Reader& reader, uint64_t* memory_left)
    : reader_(reader), memory_left_(memory_left), end_(std::min(reader.size(), kMaxHeaderBytes)) {}

Status GgufCursor::ReadBytes(std::span<uint8_t> out) {
  field_offset_ = offset_;
  if (out.size() > remaining()) return Truncated(out.size());
  while (!out.empty()) {
    if (offset_ < buffer_offset_ || offset_ >= buffer_offset_ + buffer_.size()) {
      buffer_.resize(std::min(kBufferBytes, remaining()));
      buffer_offset_ = offset_;
      Status status = reader_.ReadAt(offset_, buffer_);
      if (!status.ok()) {
        buffer_.clear();
        return status;
      }
    }
    const size_t begin = offset_ - buffer_offset_;
    const size_t n = std::min(out.size(), buffer_.size() - begin);
    std::memcpy(out.data(), buffer_.data() + begin, n);
    offset_ += n;
    out = out.subspan(n);
  }
  return OkStatus();
}

Status GgufCursor::ReadString(uint64_t max_bytes, std::string* out) {
  uint64_t n_bytes = 0;
  PANTRY_RETURN_IF_ERROR(Read(&n_bytes));
  if (n_bytes > remaining()) return Truncated(n_bytes);
  if (n_bytes > max_bytes) return Corrupt(fmt::format("a string of {} bytes, expected at most {}", n_bytes, max_bytes));
  if (n_bytes > kInlineStringBytes) PANTRY_RETURN_IF_ERROR(Charge(1, n_bytes + kHeapBlockOverhead, "string"));
  out->resize(n_bytes);
  return ReadBytes({reinterpret_cast<uint8_t*>(out->data()), out->size()});
}

Status GgufCursor::CheckCount(uint64_t count, uint64_t min_bytes, std::string_view what) const {
  if (count <= remaining() / min_bytes) return OkStatus();
  return Corrupt(fmt::format("{} {} need at least {} bytes each, but only {} bytes are left", count, what, min_bytes,
                             remaining()));
}

Status GgufCursor::Charge(uint64_t count, uint64_t bytes_each, std::string_view what) {
  if (count <= *memory_left_ / bytes_each) {
    *memory_left_ -= count * bytes_each;
    return OkStatus();
  }
  return Corrupt(fmt::format(
      "{} {} would take {} of memory, only {} of the {} that a model's headers may take are left", count, what,
      FormatBytes(static_cast<int64_t>(count * bytes_each)), FormatBytes(static_cast<int64_t>(*memory_left_)),
      FormatBytes(static_cast<int64_t>(kMaxHeaderMemoryBytes))));
}

Status GgufCursor::Truncated(uint64_t n_bytes) const {
  if (end_ < reader_.size()) {
    return Corrupt(fmt::format("{} more bytes would make the header larger than {}, the most that is read", n_bytes,
                               FormatBytes(static_cast<int64_t>(kMaxHeaderBytes))));
  }
  return CorruptionError("{}: truncated file: {} needs {} bytes at offset {}, the file ends at {}; download it again",
                         reader_.path(), item_, n_bytes, offset_, reader_.size());
}

std::string GgufCursor::Where(std::string_view detail) const {
  return fmt::format("{}: {} at offset {}: {}", reader_.path(), item_, field_offset_, detail);
}
Status GgufCursor::Corrupt(std::string_view detail) const {
  return CorruptionError("{}; the file is damaged: download or convert it again", Where(detail));
}
Status GgufCursor::Unsupported(std::string_view detail) const { return UnsupportedError("{}", Where(detail)); }

std::string Printable(std::string_view text, size_t max_chars) {
  std::string out;
  size_t i = 0;
  while (i < text.size() && out.size() < max_chars) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    if (c == '\n' || c == '\t' || c == '\r' || c == '\\') {
      out += '\\';
      out += c == '\n' ? 'n' : c == '\t' ? 't' : c == '\r' ? 'r' : '\\';
      ++i;
    } else if (c < 0x20 || c == 0x7F) {
      out += fmt::format("\\x{:02x}", c);
      ++i;
    } else if (c < 0x80) {
      out += text[i++];
    } else {
      // A whole sequence as it stands; C1 controls (0x80..0x9F, encoded C2 80..C2 9F) and strays are escaped byte by
      // byte.
      const size_t length = c >= 0xF0 && c < 0xF8 ? 4 : c >= 0xE0 && c < 0xF0 ? 3 : c >= 0xC2 && c < 0xE0 ? 2 : 0;
      bool whole = length > 0 && i + length <= text.size();
      for (size_t k = 1; whole && k < length; ++k) whole = (static_cast<unsigned char>(text[i + k]) & 0xC0) == 0x80;
      if (whole && c == 0xC2 && static_cast<unsigned char>(text[i + 1]) < 0xA0) whole = false;
      if (whole) {
        out += text.substr(i, length);
        i += length;
      } else {
        out += fmt::format("\\x{:02x}", c);
        ++i;
      }
    }
  }
  if (i < text.size()) out += "...";
  return out;
}

}  // namespace pantry
