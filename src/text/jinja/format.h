// SPDX-License-Identifier: Apache-2.0
// Values as text: str(), repr(), JSON, and the two ways Python formats strings.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "text/jinja/heap.h"
#include "text/jinja/value.h"

namespace pantry::jinja {

// repr(1.0) is "1.0", repr(1e16) is "1e+16": the shortest text that reads back the same.
std::string FormatFloat(double value);

// str(): what printing gives. Undefined is empty. Marks of a string stay; a list or dict that holds any input is all input.
MarkedText ToText(Heap& heap, const Value& value);
MarkedText Repr(Heap& heap, const Value& value);
std::string ReprText(Heap& heap, const Value& value);

// json.dumps().
struct JsonOptions {
  std::optional<std::string> indent;  // of one level; none: all on one line
  std::string item_separator = ", ";  // "," by default when there is an indent
  std::string key_separator = ": ";
  bool ensure_ascii = false;
  bool sort_keys = false;
};
MarkedText ToJson(Heap& heap, const Value& value, const JsonOptions& options);

// "%s and %d" % arguments.
MarkedText FormatPercent(Heap& heap, const MarkedText& format, const Value& arguments);
// "{} and {name}".format(...). `evaluator` looks up attributes.
MarkedText FormatBraces(Evaluator& evaluator, const MarkedText& format, const Args& args);

// One number with flags, width and precision, as both kinds of format want it.
struct NumberSpec {
  char type = 'd';  // d x X o b e E f F g G %
  char sign = '-';  // '-', '+' or ' '
  bool alternate = false;
  bool group = false;  // thousands by ","
  int precision = -1;  // -1: the default of the type
};
// Without padding. Fails for a type that does not fit the value.
std::string FormatNumber(const Value& value, const NumberSpec& spec);

// Widths and precisions are bounded, or a template could ask for gigabytes of spaces.
inline constexpr int64_t kMaxFormatWidth = 1 << 20;

}  // namespace pantry::jinja
