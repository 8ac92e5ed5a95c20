// SPDX-License-Identifier: Apache-2.0
// Operations on marked text that both string methods and filters offer. All keep marks byte for byte.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "text/jinja/heap.h"
#include "text/jinja/marked_text.h"

namespace pantry::jinja {

enum class Side : uint8_t { kBoth, kLeft, kRight };
// `chars`: what to strip; null: white space.
MarkedText Strip(Heap& heap, const MarkedText& text, Side side, const MarkedText* chars);

// `count` < 0: all.
MarkedText Replace(Heap& heap, const MarkedText& text, const MarkedText& from, const MarkedText& to, int64_t count);

// Strings. `separator` null: runs of white space. `max_splits` < 0: all. Splits from the right when `from_right`.
std::vector<Value> Split(Heap& heap, const MarkedText& text, const MarkedText* separator, int64_t max_splits,
                         bool from_right);
std::vector<Value> SplitLines(Heap& heap, const MarkedText& text, bool keep_ends);

MarkedText Upper(Heap& heap, const MarkedText& text);
MarkedText Lower(Heap& heap, const MarkedText& text);
MarkedText Capitalize(Heap& heap, const MarkedText& text);
MarkedText SwapCase(Heap& heap, const MarkedText& text);
MarkedText MethodTitle(Heap& heap, const MarkedText& text);  // str.title(): after anything but a letter
MarkedText FilterTitle(Heap& heap, const MarkedText& text);  // the filter: after white space, "-", and opening brackets
MarkedText Reverse(Heap& heap, const MarkedText& text);

MarkedText Join(Heap& heap, const MarkedText& separator, const std::vector<Value>& values);  // str() of each
MarkedText Indent(Heap& heap, const MarkedText& text, const MarkedText& indent, bool first, bool blank);
// To `width` characters with `fill`; `text_side`: where the text goes.
MarkedText Pad(Heap& heap, const MarkedText& text, int64_t width, const MarkedText& fill, Side text_side);
MarkedText EscapeHtml(Heap& heap, const MarkedText& text);

}  // namespace pantry::jinja
