// SPDX-License-Identifier: Apache-2.0
// A GgufCursor walks the head of a GGUF file (everything before the tensor data) once, from front to back.
//
// It reads through a small buffer, so a header of many short strings costs few system calls and the tensor data are
// never touched. Every length is compared with the bytes that are left before anything is allocated, and what is
// allocated is charged against a budget, since a few bytes of file can mean many of memory. Errors read "path: ITEM at
// offset N: detail"; the parser says what the item is with BeginItem().
// Threads: thread-compatible.
// Invariants: offset() <= size of the file; never reads behind kMaxHeaderBytes.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "io/reader.h"

namespace pantry {

// Metadata and tensor table of the largest known models take 40 MB; a file that claims more than this is not honest,
// and reading it into memory would cost a multiple of it.
inline constexpr uint64_t kMaxHeaderBytes = uint64_t{256} << 20;

// What the heads of all shards of a model may take in memory together; also the largest single allocation. A vocabulary of
// 256k tokens with its merges takes some 30 MB.
inline constexpr uint64_t kMaxHeaderMemoryBytes = uint64_t{256} << 20;

class GgufCursor {
 public:
  // `reader` and `memory_left`, the budget that Charge() takes from, must outlive the cursor.
  GgufCursor(const Reader& reader, uint64_t* memory_left);

  uint64_t offset() const { return offset_; }
  // Bytes that the header may still have: to the end of the file or to kMaxHeaderBytes.
  uint64_t remaining() const { return end_ - offset_; }

  // What is being read from here on, for messages: "metadata key 'llama.block_count'".
  void BeginItem(std::string item) { item_ = std::move(item); }

  // Little-endian; T is a fixed-width integer, float or double.
  template <typename T>
  Status Read(T* out) {
    static_assert(std::endian::native == std::endian::little, "GGUF files of other byte orders need swapping");
    uint8_t bytes[sizeof(T)];
    PANTRY_RETURN_IF_ERROR(ReadBytes(bytes));
    std::memcpy(out, bytes, sizeof(T));
    return OkStatus();
  }
  // A 64-bit length, then that many bytes; kCorruption when longer than max_bytes. Charges what the bytes take.
  Status ReadString(uint64_t max_bytes, std::string* out);
  Status ReadBytes(std::span<uint8_t> out);

  // kCorruption unless `count` things of at least `min_bytes` each can still follow; `what` names them in the message.
  Status CheckCount(uint64_t count, uint64_t min_bytes, std::string_view what) const;

  // To be called before `count` things of `bytes_each` in memory are allocated: takes them from the budget; kCorruption
  // where it does not suffice.
  Status Charge(uint64_t count, uint64_t bytes_each, std::string_view what);

  // Errors about the field that was read last.
  Status Corrupt(std::string_view detail) const;
  Status Unsupported(std::string_view detail) const;

 private:
  Status Truncated(uint64_t n_bytes) const;
  std::string Where(std::string_view detail) const;

  const Reader& reader_;
  uint64_t* memory_left_;
  uint64_t end_;
  uint64_t offset_ = 0;        // of the next byte to hand out
  uint64_t field_offset_ = 0;  // of the field that was read last
  std::string item_ = "header";
  std::vector<uint8_t> buffer_;
  uint64_t buffer_offset_ = 0;  // file offset of buffer_[0]
};

// A string from the file as messages may show it: control characters escaped, cut at max_chars, never half a UTF-8
// sequence.
std::string Printable(std::string_view text, size_t max_chars);

}  // namespace pantry
