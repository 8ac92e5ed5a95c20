// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/text_ops.h"

#include <algorithm>
#include <limits>
#include <string>

#include "text/jinja/error.h"
#include "text/jinja/format.h"
#include "text/jinja/operators.h"
#include "text/jinja/unicode.h"

namespace pantry::jinja {
namespace {

constexpr size_t kMaxParts = size_t{1} << 20;  // as values they would exceed the heap's limit anyway
constexpr int64_t kAll = std::numeric_limits<int64_t>::max();

bool ContainsChar(std::string_view chars, char32_t c) {
  for (size_t pos = 0; pos < chars.size();) {
    if (DecodeChar(chars, &pos) == c) return true;
  }
  return false;
}

// Maps every character by `map(reader, out)`.
template <typename Map>
MarkedText MapChars(Heap& heap, const MarkedText& text, Map map) {
  heap.SpendBytes(4 * text.size());
  MarkedText out;
  std::string piece;
  for (CharReader reader(text); reader.Next();) {
    piece.clear();
    map(reader, &piece);
    out.Append(piece, reader.is_input);
  }
  return out;
}

}  // namespace

MarkedText Strip(Heap& heap, const MarkedText& text, Side side, const MarkedText* chars) {
  heap.SpendBytes(text.size() * (chars ? 1 + chars->size() / 8 : 1));
  const auto strips = [&](char32_t c) { return chars ? ContainsChar(chars->bytes(), c) : IsSpace(c); };
  size_t begin = 0;
  size_t end = text.size();
  while (side != Side::kRight && begin < end) {
    size_t next = begin;
    if (!strips(DecodeChar(text.bytes(), &next))) break;
    begin = next;
  }
  while (side != Side::kLeft && end > begin) {
    size_t last = end - 1;
    while (last > begin && (text.bytes()[last] & 0xC0) == 0x80) --last;
    size_t pos = last;
    if (!strips(DecodeChar(text.bytes(), &pos))) break;
    end = last;
  }
  return text.Slice(begin, end);
}

MarkedText Replace(Heap& heap, const MarkedText& text, const MarkedText& from, const MarkedText& to, int64_t count) {
  heap.SpendBytes(text.size());
  if (count < 0) count = kAll;
  MarkedText out;
  if (from.empty()) {
    // Between all characters, and at both ends.
    CharReader reader(text);
    for (; count > 0; --count) {
      heap.Spend(1);
      out.Append(to);
      if (!reader.Next()) return out;
      out.AppendSlice(text, reader.begin, reader.end);
    }
    out.AppendSlice(text, reader.end, text.size());
    return out;
  }
  size_t pos = 0;
  for (; count > 0; --count) {
    const size_t found = FindBytes(text.bytes(), from.bytes(), pos);
    if (found == std::string_view::npos) break;
    heap.Spend(1);
    out.AppendSlice(text, pos, found);
    out.Append(to);
    pos = found + from.size();
  }
  out.AppendSlice(text, pos, text.size());
  return out;
}

namespace {

std::vector<Value> SplitAtSpace(Heap& heap, const MarkedText& text, int64_t max_splits, bool from_right) {
  std::vector<std::pair<size_t, size_t>> words;
  bool in_word = false;
  for (CharReader reader(text); reader.Next();) {
    const bool is_space = IsSpace(reader.code_point);
    if (!is_space && !in_word) words.emplace_back(reader.begin, reader.end);
    if (!is_space) words.back().second = reader.end;
    if (words.size() > kMaxParts) FailOutOfBudget("a text splits into more than {} words", kMaxParts);
    in_word = !is_space;
  }
  heap.Spend(static_cast<int64_t>(words.size()));
  const auto limit = static_cast<size_t>(std::min<int64_t>(max_splits, static_cast<int64_t>(words.size())));
  std::vector<Value> parts;
  const size_t first = from_right && words.size() > limit + 1 ? words.size() - limit - 1 : 0;
  if (first > 0) {
    // The rest is one part, from the first word on.
    parts.push_back(heap.String(Strip(heap, text.Slice(0, words[first].second), Side::kRight, nullptr)));
    for (size_t i = first + 1; i < words.size(); ++i)
      parts.push_back(heap.String(text.Slice(words[i].first, words[i].second)));
    return parts;
  }
  for (size_t i = 0; i < words.size(); ++i) {
    if (i == limit) {
      parts.push_back(heap.String(text.Slice(words[i].first, text.size())));
      break;
    }
    parts.push_back(heap.String(text.Slice(words[i].first, words[i].second)));
  }
  return parts;
}

}  // namespace

std::vector<Value> Split(Heap& heap, const MarkedText& text, const MarkedText* separator, int64_t max_splits,
                         bool from_right) {
  heap.SpendBytes(text.size());
  if (max_splits < 0) max_splits = kAll;
  if (!separator) return SplitAtSpace(heap, text, max_splits, from_right);
  if (separator->empty()) Fail("empty separator");
  std::vector<Value> parts;
  if (from_right && max_splits != kAll) {
    size_t end = text.size();
    for (; max_splits > 0; --max_splits) {
      const size_t found = FindLastBytes(heap, text.bytes(), separator->bytes(), end);
      if (found == std::string_view::npos) break;
      parts.push_back(heap.String(text.Slice(found + separator->size(), end)));
      end = found;
    }
    parts.push_back(heap.String(text.Slice(0, end)));
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  size_t pos = 0;
  for (; max_splits > 0; --max_splits) {
    const size_t found = FindBytes(text.bytes(), separator->bytes(), pos);
    if (found == std::string_view::npos) break;
    heap.Spend(1);
    parts.push_back(heap.String(text.Slice(pos, found)));
    pos = found + separator->size();
  }
  parts.push_back(heap.String(text.Slice(pos, text.size())));
  return parts;
}

std::vector<Value> SplitLines(Heap& heap, const MarkedText& text, bool keep_ends) {
  heap.SpendBytes(text.size());
  std::vector<Value> lines;
  size_t line = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t c = DecodeChar(text.bytes(), &pos);
    if (!IsLineBreak(c)) continue;
    if (c == '\r' && pos < text.size() && text.bytes()[pos] == '\n') ++pos;
    heap.Spend(1);
    lines.push_back(heap.String(text.Slice(line, keep_ends ? pos : begin)));
    line = pos;
  }
  if (line < text.size()) lines.push_back(heap.String(text.Slice(line, text.size())));
  return lines;
}

MarkedText Upper(Heap& heap, const MarkedText& text) {
  return MapChars(heap, text, [](const CharReader& c, std::string* out) { AppendUpper(out, c.code_point); });
}

MarkedText Lower(Heap& heap, const MarkedText& text) {
  return MapChars(heap, text,
                  [&](const CharReader& c, std::string* out) { AppendLower(out, text.bytes(), c.begin, c.end); });
}

MarkedText Capitalize(Heap& heap, const MarkedText& text) {
  return MapChars(heap, text, [&](const CharReader& c, std::string* out) {
    if (c.begin == 0) {
      AppendTitle(out, c.code_point);
    } else {
      AppendLower(out, text.bytes(), c.begin, c.end);
    }
  });
}

MarkedText SwapCase(Heap& heap, const MarkedText& text) {
  return MapChars(heap, text, [&](const CharReader& c, std::string* out) {
    if (IsUpper(c.code_point)) {
      AppendLower(out, text.bytes(), c.begin, c.end);
    } else if (IsLower(c.code_point)) {
      AppendUpper(out, c.code_point);
    } else {
      out->append(c.bytes);
    }
  });
}

MarkedText MethodTitle(Heap& heap, const MarkedText& text) {
  bool after_cased = false;
  return MapChars(heap, text, [&](const CharReader& c, std::string* out) {
    if (after_cased) {
      AppendLower(out, text.bytes(), c.begin, c.end);
    } else {
      AppendTitle(out, c.code_point);
    }
    after_cased = IsCased(c.code_point);
  });
}

MarkedText FilterTitle(Heap& heap, const MarkedText& text) {
  bool at_start = true;
  return MapChars(heap, text, [&](const CharReader& c, std::string* out) {
    if (at_start) {
      AppendUpper(out, c.code_point);
    } else {
      AppendLower(out, text.bytes(), c.begin, c.end);
    }
    at_start = IsSpace(c.code_point) || std::string_view("-({[<").find(c.bytes) != std::string_view::npos;
  });
}

MarkedText Reverse(Heap& heap, const MarkedText& text) {
  return GetSlice(heap, heap.String(text), Value::None(), Value::None(), Value::Int(-1)).text();
}

MarkedText Join(Heap& heap, const MarkedText& separator, const std::vector<Value>& values) {
  MarkedText out;
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out.Append(separator);
    const size_t before = out.size();
    if (values[i].is_string()) {
      out.Append(values[i].text());
    } else {
      out.Append(ToText(heap, values[i]));
    }
    heap.SpendBytes(out.size() - before + separator.size() + 32);
  }
  return out;
}

MarkedText Indent(Heap& heap, const MarkedText& text, const MarkedText& indent, bool first, bool blank) {
  MarkedText with_end = text;
  with_end.Append("\n", false);  // so that a newline at the end counts as an empty line
  const std::vector<Value> lines = SplitLines(heap, with_end, false);
  MarkedText out;
  for (size_t i = 0; i < lines.size(); ++i) {
    heap.SpendBytes(lines[i].bytes().size() + indent.size());
    if (i > 0) out.Append("\n", false);
    if (i == 0 ? first : blank || !lines[i].bytes().empty()) out.Append(indent);
    out.Append(lines[i].text());
  }
  return out;
}

MarkedText Pad(Heap& heap, const MarkedText& text, int64_t width, const MarkedText& fill, Side text_side) {
  if (width > kMaxFormatWidth) Fail("a width of {} exceeds {}", width, kMaxFormatWidth);
  if (CountChars(fill.bytes()) != 1) Fail("The fill character must be exactly one character long");
  const int64_t n_missing = std::max<int64_t>(0, width - static_cast<int64_t>(CountChars(text.bytes())));
  heap.Spend(n_missing / 4);
  // str.center() puts the odd one left when the width is odd.
  const int64_t n_left = text_side == Side::kLeft    ? 0
                         : text_side == Side::kRight ? n_missing
                                                     : n_missing / 2 + (n_missing & width & 1);
  MarkedText out;
  for (int64_t i = 0; i < n_left; ++i) out.Append(fill);
  out.Append(text);
  for (int64_t i = n_left; i < n_missing; ++i) out.Append(fill);
  return out;
}

MarkedText EscapeHtml(Heap& heap, const MarkedText& text) {
  return MapChars(heap, text, [](const CharReader& c, std::string* out) {
    switch (c.code_point) {
      case '&': out->append("&amp;"); break;
      case '<': out->append("&lt;"); break;
      case '>': out->append("&gt;"); break;
      case '\'': out->append("&#39;"); break;
      case '"': out->append("&#34;"); break;
      default: out->append(c.bytes);
    }
  });
}

}  // namespace pantry::jinja
