// SPDX-License-Identifier: Apache-2.0
// Filters that give text or numbers.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "text/jinja/builtins.h"
#include "text/jinja/error.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/format.h"
#include "text/jinja/operators.h"
#include "text/jinja/text_ops.h"
#include "text/jinja/unicode.h"

namespace pantry::jinja {
namespace {

using TextMap = MarkedText (*)(Heap&, const MarkedText&);

template <TextMap map>
Value Mapped(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("filter", args, {});
  return e.heap().String(map(e.heap(), ToText(e.heap(), self)));
}

Value Trim(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("trim", args, {"chars"});
  return e.heap().String(Strip(e.heap(), ToText(e.heap(), self), Side::kBoth, bound.Text(0)));
}

Value ReplaceFilter(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("replace", args, {"old", "new", "count"}, 2);
  Heap& heap = e.heap();
  const int64_t count = bound.Has(2) && !bound[2]->is_none() ? bound.Int(2, -1) : -1;
  return heap.String(Replace(heap, ToText(heap, self), ToText(heap, *bound[0]), ToText(heap, *bound[1]), count));
}

Value IndentFilter(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("indent", args, {"width", "first", "blank"});
  FailIfUndefined(self);
  if (!self.is_string()) Fail("indent needs a string, not {}", TypeName(self));
  MarkedText indent;
  if (bound.Has(0) && bound[0]->is_string()) {
    indent = bound[0]->text();
  } else {
    const int64_t width = std::clamp<int64_t>(bound.Int(0, 4), 0, kMaxFormatWidth);
    indent.Append(std::string(static_cast<size_t>(width), ' '), false);
  }
  return e.heap().String(Indent(e.heap(), self.text(), indent, bound.Bool(1, false), bound.Bool(2, false)));
}

Value CenterFilter(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("center", args, {"width"});
  return e.heap().String(Pad(e.heap(), ToText(e.heap(), self), bound.Int(0, 80), MarkedText(" ", false), Side::kBoth));
}

Value FormatFilter(Evaluator& e, const Value& self, const Args& args) {
  Heap& heap = e.heap();
  if (!args.positional.empty() && !args.keywords.empty())
    Fail("can't handle positional and keyword arguments at the same time");
  const MarkedText format = ToText(heap, self);
  if (args.keywords.empty()) return heap.String(FormatPercent(heap, format, heap.Tuple(args.positional)));
  std::vector<std::pair<Value, Value>> entries;
  for (const auto& [name, value] : args.keywords) entries.emplace_back(heap.String(name), value);
  return heap.String(FormatPercent(heap, format, heap.Dict(std::move(entries))));
}

Value ToJsonFilter(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonOptions options;
  options.ensure_ascii = bound.Bool(0, false);
  options.sort_keys = bound.Bool(3, false);
  if (bound.Has(1) && !bound[1]->is_none()) {
    options.item_separator = ",";
    if (bound[1]->is_string()) {
      options.indent = bound[1]->bytes();
    } else {
      options.indent = std::string(static_cast<size_t>(std::clamp<int64_t>(bound.Int(1, 0), 0, kMaxFormatWidth)), ' ');
    }
  }
  if (bound.Has(2) && !bound[2]->is_none()) {
    const auto pair = Iterate(e.heap(), *bound[2]);
    if (pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string())
      Fail("separators of tojson must be two strings");
    options.item_separator = pair[0].bytes();
    options.key_separator = pair[1].bytes();
  }
  FailIfUndefined(self);
  return e.heap().String(ToJson(e.heap(), self, options));
}

Value StringFilter(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("string", args, {});
  return self.is_string() ? self : e.heap().String(ToText(e.heap(), self));
}

Value WordCount(Evaluator& e, const Value& self, const Args&) {
  const MarkedText text = ToText(e.heap(), self);
  e.heap().SpendBytes(4 * text.size());
  int64_t n_words = 0;
  bool in_word = false;
  for (CharReader reader(text); reader.Next();) {
    const bool is_word = reader.code_point == '_' || IsAlpha(reader.code_point) || IsNumeric(reader.code_point);
    n_words += is_word && !in_word;
    in_word = is_word;
  }
  return Value::Int(n_words);
}

Value Truncate(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("truncate", args, {"length", "killwords", "end", "leeway"});
  const MarkedText text = ToText(e.heap(), self);
  const MarkedText dots("...", false);
  const MarkedText& end = bound.Text(2) ? *bound.Text(2) : dots;
  const int64_t length = bound.Int(0, 255);
  const int64_t leeway = bound.Has(3) && !bound[3]->is_none() ? bound.Int(3, 5) : 5;
  const auto n_end = static_cast<int64_t>(CountChars(end.bytes()));
  if (length < n_end) Fail("expected length >= {}, got {}", n_end, length);
  if (leeway < 0) Fail("expected leeway >= 0, got {}", leeway);
  e.heap().SpendBytes(text.size());
  if (static_cast<int64_t>(CountChars(text.bytes())) - leeway <= length) return e.heap().String(text);
  MarkedText head = text.Slice(0, ByteOfChar(text.bytes(), static_cast<size_t>(length - n_end)));
  const size_t space = head.bytes().rfind(' ');
  if (!bound.Bool(1, false) && space != std::string_view::npos) head = head.Slice(0, space);
  head.Append(end);
  return e.heap().String(std::move(head));
}

// Digits of int("...") or float("..."): stripped, without single underscores. False when there is something else.
bool CleanNumber(std::string_view text, std::string* clean) {
  size_t begin = 0;
  size_t end = text.size();
  while (begin < end && IsSpace(static_cast<unsigned char>(text[begin]))) ++begin;
  while (end > begin && IsSpace(static_cast<unsigned char>(text[end - 1]))) --end;
  const auto digit = [&](size_t i) {
    return i < end && ((text[i] >= '0' && text[i] <= '9') || ((text[i] | 0x20) >= 'a' && (text[i] | 0x20) <= 'f'));
  };
  for (size_t i = begin; i < end; ++i) {
    if (text[i] != '_') {
      clean->push_back(text[i]);
    } else if (i == begin || !digit(i - 1) || !digit(i + 1)) {
      return false;
    }
  }
  if (clean->starts_with('+') && clean->size() > 1 && (*clean)[1] != '-') clean->erase(0, 1);
  return !clean->empty();
}

bool ParseFloat(std::string_view text, double* number) {
  std::string clean;
  if (!CleanNumber(text, &clean)) return false;
  const auto [end, error] = std::from_chars(clean.data(), clean.data() + clean.size(), *number);
  if (error == std::errc::result_out_of_range)
    *number = clean.find("e-") != std::string::npos ? 0.0 : std::copysign(HUGE_VAL, clean[0] == '-' ? -1 : 1);
  return (error == std::errc() || error == std::errc::result_out_of_range) && end == clean.data() + clean.size();
}

bool ParseInt(std::string_view text, int base, int64_t* number) {
  std::string clean;
  if (!CleanNumber(text, &clean)) return false;
  const size_t sign = clean[0] == '-' ? 1 : 0;
  const char prefix = clean.size() > sign + 2 && clean[sign] == '0' ? static_cast<char>(clean[sign + 1] | 0x20) : '\0';
  const bool has_prefix = (base == 16 && prefix == 'x') || (base == 8 && prefix == 'o') || (base == 2 && prefix == 'b');
  if (has_prefix) clean.erase(sign, 2);
  const auto [end, error] = std::from_chars(clean.data(), clean.data() + clean.size(), *number, base);
  if (error == std::errc::result_out_of_range) Fail("an integer does not fit in 64 bits");
  return error == std::errc() && end == clean.data() + clean.size();
}

Value IntFilter(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("int", args, {"default", "base"});
  e.heap().SpendBytes(self.is_string() ? self.bytes().size() : 0);
  const int64_t base = bound.Int(1, 10);
  if (base < 2 || base > 36) Fail("int() base must be >= 2 and <= 36");
  int64_t integer = 0;
  if (self.is_string() && ParseInt(self.bytes(), static_cast<int>(base), &integer)) return Value::Int(integer);
  double number = 0;
  if (self.is_integral()) return Value::Int(self.integer());
  if (self.is_number() || (self.is_string() && ParseFloat(self.bytes(), &number))) {
    if (!self.is_string()) number = self.number();
    if (std::fabs(number) < 9.2e18) return Value::Int(static_cast<int64_t>(number));
    if (std::isfinite(number)) Fail("an integer does not fit in 64 bits");
  }
  FailIfUndefined(self);
  return bound.Has(0) ? *bound[0] : Value::Int(0);
}

Value FloatFilter(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("float", args, {"default"});
  FailIfUndefined(self);
  e.heap().SpendBytes(self.is_string() ? self.bytes().size() : 0);
  double number = 0;
  if (self.is_number()) return Value::Float(self.number());
  if (self.is_string() && ParseFloat(self.bytes(), &number)) return Value::Float(number);
  return bound.Has(0) ? *bound[0] : Value::Float(0.0);
}

Value AbsFilter(Evaluator&, const Value& self, const Args&) {
  FailIfUndefined(self);
  if (!self.is_number()) Fail("bad operand type for abs(): '{}'", TypeName(self));
  if (!self.is_integral()) return Value::Float(std::fabs(self.number()));
  return self.integer() < 0 ? Negate(self) : Value::Int(self.integer());
}

Value RoundFilter(Evaluator&, const Value& self, const Args& args) {
  const BoundArgs bound("round", args, {"precision", "method"});
  FailIfUndefined(self);
  if (!self.is_number()) Fail("type {} doesn't define __round__ method", TypeName(self));
  const int64_t precision = std::clamp<int64_t>(bound.Int(0, 0), -300, 300);
  const std::string_view method = bound.Text(1) ? bound.Text(1)->bytes() : "common";
  if (method == "common") {
    if (self.is_integral() && precision >= 0) return Value::Int(self.integer());
    if (self.is_integral() || precision < 0) {
      const double scale = std::pow(10.0, static_cast<double>(-precision));
      const double rounded = std::nearbyint(self.number() / scale) * scale;
      return self.is_integral() && std::fabs(rounded) < 9.2e18 ? Value::Int(static_cast<int64_t>(rounded))
                                                               : Value::Float(rounded);
    }
    if (!std::isfinite(self.number())) return self;
    // Correctly rounded from the decimal digits, halves to even, as Python does.
    const std::string digits = fmt::format("{:.{}f}", self.number(), precision);
    double rounded = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), rounded);
    return Value::Float(rounded);
  }
  if (method != "ceil" && method != "floor") Fail("method must be common, ceil or floor");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = self.number() * scale;
  return Value::Float((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value Unsupported(Evaluator&, const Value&, const Args&) {
  FailUnsupported("this filter is not supported in chat templates");
}

constexpr std::array<BuiltinEntry, 29> kFilters = {{{"abs", AbsFilter},
                                                    {"capitalize", Mapped<Capitalize>},
                                                    {"center", CenterFilter},
                                                    {"e", Mapped<EscapeHtml>},
                                                    {"escape", Mapped<EscapeHtml>},
                                                    {"filesizeformat", Unsupported},
                                                    {"float", FloatFilter},
                                                    {"forceescape", Mapped<EscapeHtml>},
                                                    {"format", FormatFilter},
                                                    {"indent", IndentFilter},
                                                    {"int", IntFilter},
                                                    {"lower", Mapped<Lower>},
                                                    {"pprint", Unsupported},
                                                    {"random", Unsupported},
                                                    {"replace", ReplaceFilter},
                                                    {"round", RoundFilter},
                                                    {"safe", StringFilter},
                                                    {"string", StringFilter},
                                                    {"striptags", Unsupported},
                                                    {"title", Mapped<FilterTitle>},
                                                    {"tojson", ToJsonFilter},
                                                    {"trim", Trim},
                                                    {"truncate", Truncate},
                                                    {"upper", Mapped<Upper>},
                                                    {"urlencode", Unsupported},
                                                    {"urlize", Unsupported},
                                                    {"wordcount", WordCount},
                                                    {"wordwrap", Unsupported},
                                                    {"xmlattr", Unsupported}}};

}  // namespace

Builtin FindTextFilter(std::string_view name) {
  const auto* it =
      std::find_if(kFilters.begin(), kFilters.end(), [name](const BuiltinEntry& entry) { return entry.first == name; });
  return it == kFilters.end() ? nullptr : it->second;
}

}  // namespace pantry::jinja
