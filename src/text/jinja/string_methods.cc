// SPDX-License-Identifier: Apache-2.0
// The methods of str.
#include <algorithm>
#include <array>

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
  const BoundArgs bound("string method", args, {});
  return e.heap().String(map(e.heap(), self.text()));
}

template <Side side>
Value StripMethod(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("strip", args, {"chars"});
  return e.heap().String(Strip(e.heap(), self.text(), side, bound.Text(0)));
}

template <bool from_right>
Value SplitMethod(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("split", args, {"sep", "maxsplit"});
  return e.heap().List(Split(e.heap(), self.text(), bound.Text(0), bound.Int(1, -1), from_right));
}

Value SplitLinesMethod(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("splitlines", args, {"keepends"});
  return e.heap().List(SplitLines(e.heap(), self.text(), bound.Bool(0, false)));
}

template <bool from_right>
Value Partition(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("partition", args, {"sep"}, 1);
  const MarkedText* separator = bound.Text(0);
  if (!separator) Fail("partition() needs a string");
  std::vector<Value> parts = Split(e.heap(), self.text(), separator, 1, from_right);
  if (parts.size() == 1) {
    parts.resize(3, e.heap().String(MarkedText()));
    if (from_right) std::swap(parts[0], parts[2]);
  } else {
    parts.insert(parts.begin() + 1, *bound[0]);
  }
  return e.heap().Tuple(std::move(parts));
}

// The bytes of characters [start, end) that find(), count(), startswith() and their like look at.
struct Window {
  size_t begin;
  size_t end;
  bool is_valid;  // start <= the length, as even an empty needle needs
};
Window GetWindow(Heap& heap, std::string_view text, const BoundArgs& bound, size_t start_arg) {
  heap.SpendBytes(text.size());
  const bool given = bound.Has(start_arg) || bound.Has(start_arg + 1);
  if (!given) return {0, text.size(), true};
  const auto size = static_cast<int64_t>(CountChars(text));
  const auto clip = [&](size_t arg, int64_t otherwise) {
    if (!bound.Has(arg) || bound[arg]->is_none()) return otherwise;
    int64_t i = std::clamp(bound.Int(arg, 0), -size - 1, size + 1);
    if (i < 0) i = std::max<int64_t>(0, i + size);
    return i;
  };
  const int64_t start = clip(start_arg, 0);
  const int64_t end = std::min(clip(start_arg + 1, size), size);
  return {ByteOfChar(text, static_cast<size_t>(start)), ByteOfChar(text, static_cast<size_t>(end)), start <= end};
}

const MarkedText& Needle(const BoundArgs& bound) {
  const MarkedText* needle = bound.Text(0);
  if (!needle) Fail("must be str, not NoneType");
  return *needle;
}

template <bool from_right, bool must_exist>
Value FindMethod(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("find", args, {"sub", "start", "end"}, 1);
  const std::string_view needle = Needle(bound).bytes();
  const Window window = GetWindow(e.heap(), self.bytes(), bound, 1);
  const std::string_view text = self.bytes().substr(0, window.end);
  size_t found = std::string_view::npos;
  if (window.is_valid)
    found = from_right ? FindLastBytes(e.heap(), text, needle, text.size()) : FindBytes(text, needle, window.begin);
  if (found != std::string_view::npos && found >= window.begin)
    return Value::Int(static_cast<int64_t>(CountChars(text.substr(0, found))));
  if (must_exist) Fail("substring not found");
  return Value::Int(-1);
}

Value CountMethod(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("count", args, {"sub", "start", "end"}, 1);
  const std::string_view needle = Needle(bound).bytes();
  const Window window = GetWindow(e.heap(), self.bytes(), bound, 1);
  if (!window.is_valid) return Value::Int(0);
  const std::string_view text = self.bytes().substr(window.begin, window.end - window.begin);
  if (needle.empty()) return Value::Int(static_cast<int64_t>(CountChars(text)) + 1);
  int64_t n = 0;
  for (size_t at = FindBytes(text, needle, 0); at != std::string_view::npos;
       at = FindBytes(text, needle, at + needle.size())) {
    e.heap().Spend(1);
    ++n;
  }
  return Value::Int(n);
}

template <bool at_end>
Value Affix(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound(at_end ? "endswith" : "startswith", args, {at_end ? "suffix" : "prefix", "start", "end"}, 1);
  const Window window = GetWindow(e.heap(), self.bytes(), bound, 1);
  if (!window.is_valid) return Value::Bool(false);
  const std::string_view text = self.bytes().substr(window.begin, window.end - window.begin);
  const auto matches = [&](const Value& affix) {
    FailIfUndefined(affix);
    if (!affix.is_string())
      Fail("{} first arg must be str or a tuple of str, not {}", at_end ? "endswith" : "startswith", TypeName(affix));
    return at_end ? text.ends_with(affix.bytes()) : text.starts_with(affix.bytes());
  };
  if (!bound[0]->is_flavor(Flavor::kTuple)) return Value::Bool(matches(*bound[0]));
  const auto& affixes = bound[0]->items();
  return Value::Bool(std::any_of(affixes.begin(), affixes.end(), matches));
}

template <bool at_end>
Value RemoveAffix(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound(at_end ? "removesuffix" : "removeprefix", args, {"affix"}, 1);
  const std::string_view affix = Needle(bound).bytes();
  const size_t size = self.bytes().size();
  if (at_end ? !self.bytes().ends_with(affix) : !self.bytes().starts_with(affix)) return self;
  return e.heap().String(at_end ? self.text().Slice(0, size - affix.size()) : self.text().Slice(affix.size(), size));
}

Value ReplaceMethod(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("replace", args, {"old", "new", "count"}, 2);
  if (!bound.Text(0) || !bound.Text(1)) Fail("replace() needs two strings");
  return e.heap().String(Replace(e.heap(), self.text(), *bound.Text(0), *bound.Text(1), bound.Int(2, -1)));
}

Value JoinMethod(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("join", args, {"iterable"}, 1);
  FailIfUndefined(*bound[0]);
  const std::vector<Value> items = Iterate(e.heap(), *bound[0]);
  for (size_t i = 0; i < items.size(); ++i) {
    FailIfUndefined(items[i]);
    if (!items[i].is_string()) Fail("sequence item {}: expected str instance, {} found", i, TypeName(items[i]));
  }
  return e.heap().String(Join(e.heap(), self.text(), items));
}

Value FormatMethod(Evaluator& e, const Value& self, const Args& args) {
  return e.heap().String(FormatBraces(e, self.text(), args));
}

template <Side text_side>
Value PadMethod(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("center", args, {"width", "fillchar"}, 1);
  const MarkedText space(" ", false);
  return e.heap().String(
      Pad(e.heap(), self.text(), bound.Int(0, 0), bound.Text(1) ? *bound.Text(1) : space, text_side));
}

Value Zfill(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("zfill", args, {"width"}, 1);
  const size_t n_sign = !self.bytes().empty() && (self.bytes()[0] == '-' || self.bytes()[0] == '+') ? 1 : 0;
  MarkedText out = self.text().Slice(0, n_sign);
  const MarkedText digits = self.text().Slice(n_sign, self.bytes().size());
  out.Append(
      Pad(e.heap(), digits, bound.Int(0, 0) - static_cast<int64_t>(n_sign), MarkedText("0", false), Side::kRight));
  return e.heap().String(std::move(out));
}

// True when there are characters and all pass.
template <bool (*test)(char32_t)>
Value AllChars(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("string method", args, {});
  e.heap().SpendBytes(4 * self.bytes().size());
  for (size_t pos = 0; pos < self.bytes().size();) {
    if (!test(DecodeChar(self.bytes(), &pos))) return Value::Bool(false);
  }
  return Value::Bool(!self.bytes().empty());
}
bool IsAlnum(char32_t c) { return IsAlpha(c) || IsNumeric(c) || IsDigit(c); }
bool IsAscii(char32_t c) { return c < 0x80; }

Value IsAsciiMethod(Evaluator& e, const Value& self, const Args& args) {
  return self.bytes().empty() ? Value::Bool(true) : AllChars<IsAscii>(e, self, args);
}

Value IsTitleMethod(Evaluator& e, const Value& self, const Args&) {
  e.heap().SpendBytes(4 * self.bytes().size());
  bool after_cased = false;
  bool any = false;
  for (size_t pos = 0; pos < self.bytes().size();) {
    const char32_t c = DecodeChar(self.bytes(), &pos);
    if (IsCased(c) && IsLower(c) != after_cased) return Value::Bool(false);
    after_cased = IsCased(c);
    any |= after_cased;
  }
  return Value::Bool(any);
}

// isupper(), islower(): some cased character and none of the other case.
template <bool (*wanted)(char32_t)>
Value HasCase(Evaluator& e, const Value& self, const Args&) {
  e.heap().SpendBytes(4 * self.bytes().size());
  bool any = false;
  for (size_t pos = 0; pos < self.bytes().size();) {
    const char32_t c = DecodeChar(self.bytes(), &pos);
    if (IsCased(c) && !wanted(c)) return Value::Bool(false);
    any |= wanted(c);
  }
  return Value::Bool(any);
}

Value Unsupported(Evaluator&, const Value&, const Args&) { FailUnsupported("this method of str is not supported"); }

constexpr std::array<BuiltinEntry, 47> kMethods = {{{"capitalize", Mapped<Capitalize>},
                                                    {"casefold", Mapped<Lower>},
                                                    {"center", PadMethod<Side::kBoth>},
                                                    {"count", CountMethod},
                                                    {"encode", Unsupported},
                                                    {"endswith", Affix<true>},
                                                    {"expandtabs", Unsupported},
                                                    {"find", FindMethod<false, false>},
                                                    {"format", FormatMethod},
                                                    {"format_map", Unsupported},
                                                    {"index", FindMethod<false, true>},
                                                    {"isalnum", AllChars<IsAlnum>},
                                                    {"isalpha", AllChars<IsAlpha>},
                                                    {"isascii", IsAsciiMethod},
                                                    {"isdecimal", AllChars<IsDecimal>},
                                                    {"isdigit", AllChars<IsDigit>},
                                                    {"isidentifier", Unsupported},
                                                    {"islower", HasCase<IsLower>},
                                                    {"isnumeric", AllChars<IsNumeric>},
                                                    {"isprintable", Unsupported},
                                                    {"isspace", AllChars<IsSpace>},
                                                    {"istitle", IsTitleMethod},
                                                    {"isupper", HasCase<IsUpper>},
                                                    {"join", JoinMethod},
                                                    {"ljust", PadMethod<Side::kLeft>},
                                                    {"lower", Mapped<Lower>},
                                                    {"lstrip", StripMethod<Side::kLeft>},
                                                    {"maketrans", Unsupported},
                                                    {"partition", Partition<false>},
                                                    {"removeprefix", RemoveAffix<false>},
                                                    {"removesuffix", RemoveAffix<true>},
                                                    {"replace", ReplaceMethod},
                                                    {"rfind", FindMethod<true, false>},
                                                    {"rindex", FindMethod<true, true>},
                                                    {"rjust", PadMethod<Side::kRight>},
                                                    {"rpartition", Partition<true>},
                                                    {"rsplit", SplitMethod<true>},
                                                    {"rstrip", StripMethod<Side::kRight>},
                                                    {"split", SplitMethod<false>},
                                                    {"splitlines", SplitLinesMethod},
                                                    {"startswith", Affix<false>},
                                                    {"strip", StripMethod<Side::kBoth>},
                                                    {"swapcase", Mapped<SwapCase>},
                                                    {"title", Mapped<MethodTitle>},
                                                    {"translate", Unsupported},
                                                    {"upper", Mapped<Upper>},
                                                    {"zfill", Zfill}}};

}  // namespace

Builtin FindStringMethod(std::string_view name) {
  const auto* it =
      std::find_if(kMethods.begin(), kMethods.end(), [name](const BuiltinEntry& entry) { return entry.first == name; });
  return it == kMethods.end() ? nullptr : it->second;
}

}  // namespace pantry::jinja
