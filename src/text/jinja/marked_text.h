// SPDX-License-Identifier: Apache-2.0
// A MarkedText is a string that remembers which of its bytes came from the conversation ("input") and which from the template.
//
// Every operation of the template language builds its result from slices of its operands, so the marks survive concatenation, trimming,
// replacing and joining exactly. Always UTF-8.
// Invariants: runs are not empty, neighbours differ in is_input, the last one ends at size(); no runs when empty.
// Threads: thread-compatible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pantry::jinja {

// No string may grow beyond this (nor the rendered prompt): templates are outside input. Exceeding it throws TemplateError.
inline constexpr size_t kMaxTextBytes = size_t{64} << 20;

class MarkedText {
 public:
  struct Run {
    size_t end;  // one past its last byte
    bool is_input;
  };

  MarkedText() = default;
  MarkedText(std::string_view bytes, bool is_input) { Append(bytes, is_input); }

  std::string_view bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  const std::vector<Run>& runs() const { return runs_; }
  bool AnyInput() const { return runs_.size() > 1 || (runs_.size() == 1 && runs_[0].is_input); }
  // What it takes in memory, for accounting.
  size_t MemoryBytes() const { return bytes_.capacity() + runs_.capacity() * sizeof(Run); }

  void Append(std::string_view bytes, bool is_input);
  void Append(const MarkedText& other) { AppendSlice(other, 0, other.size()); }
  void AppendSlice(const MarkedText& other, size_t begin,
                   size_t end);  // bytes [begin, end) of `other`, which is not *this
  MarkedText Slice(size_t begin, size_t end) const;
  void MarkAllInput();  // for results that mix beyond telling apart
  void Clear();

 private:
  std::string bytes_;
  std::vector<Run> runs_;
};

// A CharReader walks a MarkedText by code points.
class CharReader {
 public:
  explicit CharReader(const MarkedText& text) : text_(text) {}
  // False at the end; else the fields below describe the next character.
  bool Next();
  char32_t code_point = 0;
  std::string_view bytes;  // its UTF-8
  bool is_input = false;
  size_t begin = 0;  // byte offsets in the text
  size_t end = 0;

 private:
  const MarkedText& text_;
  size_t run_ = 0;
};

}  // namespace pantry::jinja
