// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/operators.h"

#include <string.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "text/jinja/error.h"
#include "text/jinja/format.h"
#include "text/jinja/unicode.h"

namespace pantry::jinja {
namespace {

constexpr std::string_view kOpNames[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};

[[noreturn]] void FailOperands(BinaryOp op, const Value& left, const Value& right) {
  Fail("unsupported operand type(s) for {}: '{}' and '{}'", kOpNames[static_cast<int>(op)], TypeName(left),
       TypeName(right));
}
[[noreturn]] void FailOverflow() { Fail("an integer does not fit in 64 bits"); }

int64_t FloorDivide(int64_t a, int64_t b) {
  if (b == 0) Fail("integer division or modulo by zero");
  if (b == -1) {
    if (a == std::numeric_limits<int64_t>::min()) FailOverflow();
    return -a;
  }
  return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

int64_t IntPower(int64_t base, int64_t exponent) {
  int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) FailOverflow();
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) FailOverflow();
  }
  return result;
}

Value IntArithmetic(BinaryOp op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case BinaryOp::kAdd: overflow = __builtin_add_overflow(a, b, &result); break;
    case BinaryOp::kSubtract: overflow = __builtin_sub_overflow(a, b, &result); break;
    case BinaryOp::kMultiply: overflow = __builtin_mul_overflow(a, b, &result); break;
    case BinaryOp::kDivide:
      if (b == 0) Fail("division by zero");
      return Value::Float(static_cast<double>(a) / static_cast<double>(b));
    case BinaryOp::kFloorDivide: result = FloorDivide(a, b); break;
    case BinaryOp::kModulo: result = b == -1 ? 0 : a - FloorDivide(a, b) * b; break;
    case BinaryOp::kPower:
      if (b < 0 && a == 0) Fail("0.0 cannot be raised to a negative power");
      if (b < 0) return Value::Float(std::pow(static_cast<double>(a), static_cast<double>(b)));
      result = IntPower(a, b);
      break;
  }
  if (overflow) FailOverflow();
  return Value::Int(result);
}

double FloatModulo(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

Value FloatArithmetic(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::kAdd: return Value::Float(a + b);
    case BinaryOp::kSubtract: return Value::Float(a - b);
    case BinaryOp::kMultiply: return Value::Float(a * b);
    case BinaryOp::kDivide:
      if (b == 0) Fail("float division by zero");
      return Value::Float(a / b);
    case BinaryOp::kFloorDivide:
      if (b == 0) Fail("float floor division by zero");
      return Value::Float(std::floor((a - FloatModulo(a, b)) / b + 0.5));  // exact quotient up to rounding
    case BinaryOp::kModulo:
      if (b == 0) Fail("float modulo");
      return Value::Float(FloatModulo(a, b));
    case BinaryOp::kPower:
      if (a == 0 && b < 0) Fail("0.0 cannot be raised to a negative power");
      return Value::Float(std::pow(a, b));
  }
  return Value::Float(0);
}

Value Repeat(Heap& heap, const Value& subject, int64_t count) {
  count = std::max<int64_t>(count, 0);
  if (subject.is_string()) {
    const MarkedText& text = subject.text();
    if (count > 0 && text.size() > kMaxTextBytes / static_cast<uint64_t>(count))
      FailOutOfBudget("a repeated text is longer than {} MiB", kMaxTextBytes >> 20);
    MarkedText result;
    if (!text.empty()) {
      for (int64_t i = 0; i < count; ++i) {
        heap.Spend(1);
        result.Append(text);
      }
    }
    return heap.String(std::move(result));
  }
  const std::vector<Value>& items = subject.items();
  constexpr uint64_t kMaxItems = uint64_t{1} << 20;
  if (count > 0 && items.size() > kMaxItems / static_cast<uint64_t>(count))
    FailOutOfBudget("a repeated list has more than {} items", kMaxItems);
  std::vector<Value> result;
  if (!items.empty()) {
    for (int64_t i = 0; i < count; ++i) result.insert(result.end(), items.begin(), items.end());
  }
  return heap.Sequence(subject.sequence().flavor, std::move(result));
}

// REQUIRES: integers or None. Start, stop and step of a slice over `size` items, as Python clips them. Returns how many items it takes.
struct SliceRange {
  int64_t start = 0;
  int64_t step = 1;
  int64_t count = 0;
};
SliceRange ResolveSlice(int64_t size, const Value& start, const Value& stop, const Value& step) {
  const auto given = [](const Value& v) { return !v.is_none(); };
  SliceRange range;
  if (given(step)) range.step = step.integer();
  if (range.step == 0) Fail("slice step cannot be zero");
  const bool backwards = range.step < 0;
  const int64_t lowest = backwards ? -1 : 0;
  const int64_t highest = backwards ? size - 1 : size;
  const auto clip = [&](const Value& bound, int64_t otherwise) {
    if (!given(bound)) return otherwise;
    int64_t i = bound.integer();
    if (i < 0) i = i < -size ? lowest - size : i;  // keeps the sum below from overflowing
    return std::clamp(i < 0 ? i + size : i, lowest, highest);
  };
  range.start = clip(start, backwards ? highest : lowest);
  const int64_t end = clip(stop, backwards ? lowest : highest);
  if (backwards ? range.start > end : range.start < end) {
    const auto distance = static_cast<uint64_t>(backwards ? range.start - end : end - range.start);
    const uint64_t stride = backwards ? 0 - static_cast<uint64_t>(range.step) : static_cast<uint64_t>(range.step);
    range.count = static_cast<int64_t>((distance - 1) / stride + 1);
  }
  return range;
}

Value SliceText(Heap& heap, const MarkedText& text, const Value& start, const Value& stop, const Value& step) {
  heap.SpendBytes(text.size());
  const size_t n_chars = CountChars(text.bytes());
  const SliceRange range = ResolveSlice(static_cast<int64_t>(n_chars), start, stop, step);
  if (range.count == 0) return heap.String(MarkedText());
  if (range.step == 1) {
    const size_t begin = ByteOfChar(text.bytes(), static_cast<size_t>(range.start));
    const size_t length = ByteOfChar(text.bytes().substr(begin), static_cast<size_t>(range.count));
    return heap.String(text.Slice(begin, begin + length));
  }
  std::vector<uint32_t> begins;
  begins.reserve(n_chars + 1);
  for (size_t pos = 0; pos < text.size(); DecodeChar(text.bytes(), &pos)) begins.push_back(static_cast<uint32_t>(pos));
  begins.push_back(static_cast<uint32_t>(text.size()));
  heap.Spend(static_cast<int64_t>(begins.size()) / 4);
  MarkedText result;
  for (int64_t i = 0, at = range.start; i < range.count; ++i, at += range.step) {
    result.AppendSlice(text, begins[static_cast<size_t>(at)], begins[static_cast<size_t>(at) + 1]);
    if (i + 1 == range.count) break;  // the next step might overflow
  }
  return heap.String(std::move(result));
}

}  // namespace

void FailIfUndefined(const Value& value) {
  if (value.is_undefined()) Fail("{}", UndefinedMessage(value));
}

Value Binary(Heap& heap, BinaryOp op, const Value& left, const Value& right) {
  FailIfUndefined(left);
  if (op == BinaryOp::kModulo && left.is_string()) return heap.String(FormatPercent(heap, left.text(), right));
  FailIfUndefined(right);
  if (left.is_integral() && right.is_integral()) return IntArithmetic(op, left.integer(), right.integer());
  if (left.is_number() && right.is_number()) return FloatArithmetic(op, left.number(), right.number());
  if (op == BinaryOp::kAdd) {
    if (left.is_string() && right.is_string()) {
      MarkedText text = left.text();
      text.Append(right.text());
      return heap.String(std::move(text));
    }
    if (left.is_string()) Fail("can only concatenate str (not \"{}\") to str", TypeName(right));
    if (left.is_list_or_tuple() && right.is_list_or_tuple() && left.sequence().flavor == right.sequence().flavor) {
      std::vector<Value> items = left.items();
      items.insert(items.end(), right.items().begin(), right.items().end());
      return heap.Sequence(left.sequence().flavor, std::move(items));
    }
  }
  if (op == BinaryOp::kMultiply) {
    if ((left.is_string() || left.is_list_or_tuple()) && right.is_integral())
      return Repeat(heap, left, right.integer());
    if ((right.is_string() || right.is_list_or_tuple()) && left.is_integral())
      return Repeat(heap, right, left.integer());
  }
  FailOperands(op, left, right);
}

Value Negate(const Value& value) {
  FailIfUndefined(value);
  if (value.is_integral()) return IntArithmetic(BinaryOp::kSubtract, 0, value.integer());
  if (value.is_number()) return Value::Float(-value.number());
  Fail("bad operand type for unary -: '{}'", TypeName(value));
}

bool CompareWith(Heap& heap, CompareOp op, const Value& left, const Value& right) {
  constexpr int kUnordered = 2;
  switch (op) {
    case CompareOp::kEqual: return Equals(heap, left, right);
    case CompareOp::kNotEqual: return !Equals(heap, left, right);
    case CompareOp::kLess: return Compare(heap, left, right, "<") < 0;
    case CompareOp::kLessEqual: return Compare(heap, left, right, "<=") <= 0;
    case CompareOp::kGreater: return Compare(heap, left, right, ">") == 1;
    case CompareOp::kGreaterEqual: {
      const int order = Compare(heap, left, right, ">=");
      return order >= 0 && order != kUnordered;
    }
    case CompareOp::kIn:
    case CompareOp::kNotIn:
      if (right.is_sequence()) heap.Spend(static_cast<int64_t>(right.items().size() / 4));
      return Contains(heap, right, left) == (op == CompareOp::kIn);
  }
  return false;
}

Value GetItem(Heap& heap, const Value& object, const Value& index) {
  if (object.is_dict()) {
    if (const Value* value = Find(heap, object.dict(), index)) return *value;
    return heap.Undefined(index.is_string() ? fmt::format("'dict object' has no attribute '{}'", index.bytes())
                                            : fmt::format("dict object has no element {}", ReprText(heap, index)));
  }
  const bool is_indexable = object.is_list_or_tuple() || object.is_flavor(Flavor::kRange);
  if (index.is_integral() && (is_indexable || object.is_string())) {
    const auto size = static_cast<int64_t>(object.is_string() ? CountChars(object.bytes()) : object.items().size());
    if (object.is_string()) heap.SpendBytes(object.bytes().size());
    const int64_t i = index.integer() < 0 ? index.integer() + size : index.integer();
    if (i >= 0 && i < size) {
      if (!object.is_string()) return object.items()[static_cast<size_t>(i)];
      const size_t begin = ByteOfChar(object.bytes(), static_cast<size_t>(i));
      size_t end = begin;
      DecodeChar(object.bytes(), &end);
      return heap.String(object.text().Slice(begin, end));
    }
  }
  return heap.Undefined(fmt::format("{} object has no element {}", TypeName(object), ReprText(heap, index)));
}

Value GetSlice(Heap& heap, const Value& object, const Value& start, const Value& stop, const Value& step) {
  const auto is_bound = [](const Value& v) { return v.is_integral() || v.is_none(); };
  const bool can_be_sliced = object.is_string() || object.is_list_or_tuple() || object.is_flavor(Flavor::kRange);
  if (!can_be_sliced || !is_bound(start) || !is_bound(stop) || !is_bound(step)) {
    return heap.Undefined(fmt::format("{} object has no such slice", TypeName(object)));
  }
  if (object.is_string()) return SliceText(heap, object.text(), start, stop, step);
  const std::vector<Value>& items = object.items();
  const SliceRange range = ResolveSlice(static_cast<int64_t>(items.size()), start, stop, step);
  std::vector<Value> result;
  result.reserve(static_cast<size_t>(range.count));
  for (int64_t i = 0, at = range.start; i < range.count; ++i) {
    result.push_back(items[static_cast<size_t>(at)]);
    if (i + 1 < range.count) at += range.step;
  }
  return heap.Sequence(object.sequence().flavor, std::move(result));
}

std::vector<Value> Iterate(Heap& heap, const Value& value) {
  std::vector<Value> items;
  switch (value.type()) {
    case Type::kUndefined: return items;
    case Type::kSequence:
      heap.Spend(static_cast<int64_t>(value.items().size() / 4));
      if (!value.is_flavor(Flavor::kGenerator)) return value.items();
      items.assign(value.items().begin() + static_cast<ptrdiff_t>(value.sequence().n_taken), value.items().end());
      value.sequence().n_taken = value.items().size();
      return items;
    case Type::kDict:
      heap.Spend(static_cast<int64_t>(value.dict().entries.size() / 4));
      for (const auto& [key, item] : value.dict().entries) items.push_back(key);
      return items;
    case Type::kString:
      for (CharReader reader(value.text()); reader.Next();)
        items.push_back(heap.String(value.text().Slice(reader.begin, reader.end)));
      return items;
    default: Fail("'{}' object is not iterable", TypeName(value));
  }
}

int64_t Length(const Value& value) {
  switch (value.type()) {
    case Type::kUndefined: return 0;
    case Type::kString: return static_cast<int64_t>(CountChars(value.bytes()));
    case Type::kDict: return static_cast<int64_t>(value.dict().entries.size());
    case Type::kSequence:
      if (!value.is_flavor(Flavor::kGenerator)) return static_cast<int64_t>(value.items().size());
      [[fallthrough]];
    default: Fail("object of type '{}' has no len()", TypeName(value));
  }
}

size_t FindBytes(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  // memmem is linear whatever the needle; string_view::find is not.
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  return found ? static_cast<size_t>(static_cast<const char*>(found) - text.data()) : std::string_view::npos;
}

size_t FindLastBytes(Heap& heap, std::string_view text, std::string_view needle, size_t end) {
  if (needle.size() > end) return std::string_view::npos;
  // Quadratic in the worst case, so the worst case is paid for.
  heap.SpendBytes(end);
  heap.SpendBytes((end / 32) * needle.size());
  return text.substr(0, end).rfind(needle);
}

int64_t ToInt(const Value& value, std::string_view what) {
  FailIfUndefined(value);
  if (!value.is_integral()) Fail("{} must be an integer, not {}", what, TypeName(value));
  return value.integer();
}

}  // namespace pantry::jinja
