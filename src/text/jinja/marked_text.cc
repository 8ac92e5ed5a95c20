// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/marked_text.h"

#include <algorithm>

#include "text/jinja/error.h"
#include "text/jinja/unicode.h"

namespace pantry::jinja {

void MarkedText::Append(std::string_view bytes, bool is_input) {
  if (bytes.empty()) return;
  // Runs count too: a hostile template could make one per byte.
  if (bytes.size() > kMaxTextBytes || bytes_.size() + bytes.size() + runs_.size() * sizeof(Run) > kMaxTextBytes) {
    FailOutOfBudget("a text grows beyond {} MiB", kMaxTextBytes >> 20);
  }
  bytes_.append(bytes);
  if (!runs_.empty() && runs_.back().is_input == is_input) {
    runs_.back().end = bytes_.size();
  } else {
    runs_.push_back({bytes_.size(), is_input});
  }
}

void MarkedText::AppendSlice(const MarkedText& other, size_t begin, size_t end) {
  end = std::min(end, other.size());
  if (begin >= end) return;
  auto run = std::partition_point(other.runs_.begin(), other.runs_.end(), [&](const Run& r) { return r.end <= begin; });
  for (; begin < end; ++run) {
    const size_t stop = std::min(run->end, end);
    Append(std::string_view(other.bytes_).substr(begin, stop - begin), run->is_input);
    begin = stop;
  }
}

MarkedText MarkedText::Slice(size_t begin, size_t end) const {
  MarkedText slice;
  slice.AppendSlice(*this, begin, end);
  return slice;
}

void MarkedText::MarkAllInput() {
  if (bytes_.empty()) return;
  runs_.assign(1, {bytes_.size(), true});
}

void MarkedText::Clear() {
  bytes_.clear();
  runs_.clear();
}

bool CharReader::Next() {
  begin = end;
  if (begin >= text_.size()) return false;
  code_point = DecodeChar(text_.bytes(), &end);
  bytes = text_.bytes().substr(begin, end - begin);
  while (text_.runs()[run_].end <= begin) ++run_;
  is_input = text_.runs()[run_].is_input;
  return true;
}

}  // namespace pantry::jinja
