// SPDX-License-Identifier: Apache-2.0
// Tests: "x is defined" and the like.
#include <algorithm>
#include <array>

#include "text/jinja/builtins.h"
#include "text/jinja/error.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/format.h"
#include "text/jinja/operators.h"
#include "text/jinja/unicode.h"

namespace pantry::jinja {
namespace {

template <bool (*test)(const Value&)>
Value Simple(Evaluator&, const Value& self, const Args& args) {
  if (!args.positional.empty() || !args.keywords.empty()) Fail("this test takes no argument");
  return Value::Bool(test(self));
}

bool IsDefined(const Value& v) { return !v.is_undefined(); }
bool IsUndefined(const Value& v) { return v.is_undefined(); }
bool IsNone(const Value& v) { return v.is_none(); }
bool IsBoolean(const Value& v) { return v.type() == Type::kBool; }
bool IsTrueTest(const Value& v) { return v.type() == Type::kBool && v.boolean(); }
bool IsFalseTest(const Value& v) { return v.type() == Type::kBool && !v.boolean(); }
bool IsInteger(const Value& v) { return v.type() == Type::kInt; }
bool IsFloat(const Value& v) { return v.type() == Type::kFloat; }
bool IsNumber(const Value& v) { return v.is_number(); }
bool IsString(const Value& v) { return v.is_string(); }
bool IsMapping(const Value& v) { return v.is_dict(); }
bool IsIterable(const Value& v) {
  return v.is_undefined() || v.is_string() || v.is_dict() || v.is_sequence() || v.type() == Type::kLoop;
}
bool IsSequence(const Value& v) {
  return v.is_string() || v.is_dict() || v.is_list_or_tuple() || v.is_flavor(Flavor::kRange) || v.is_undefined();
}
// The loop variable is callable in Python whether or not the loop is recursive.
bool IsCallable(const Value& v) { return v.type() == Type::kFunction || v.type() == Type::kLoop || v.is_undefined(); }
bool IsEscaped(const Value&) { return false; }

bool LeavesRest(Evaluator& e, const Value& self, const Value& divisor, int64_t rest) {
  return Equals(e.heap(), Binary(e.heap(), BinaryOp::kModulo, self, divisor), Value::Int(rest));
}
Value Odd(Evaluator& e, const Value& self, const Args&) { return Value::Bool(LeavesRest(e, self, Value::Int(2), 1)); }
Value Even(Evaluator& e, const Value& self, const Args&) { return Value::Bool(LeavesRest(e, self, Value::Int(2), 0)); }
Value DivisibleBy(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("divisibleby", args, {"num"}, 1);
  return Value::Bool(LeavesRest(e, self, *bound[0], 0));
}

template <CompareOp op>
Value Compares(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("comparison", args, {"other"}, 1);
  return Value::Bool(CompareWith(e.heap(), op, self, *bound[0]));
}

Value SameAs(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("sameas", args, {"other"}, 1);
  const Value& other = *bound[0];
  if (self.type() != other.type()) return Value::Bool(false);
  if (self.is_dict() || self.is_sequence() || self.type() == Type::kFunction)
    return Value::Bool(self.object() == other.object());
  return Value::Bool(Equals(e.heap(), self, other));
}

template <bool (*wanted)(char32_t)>
Value HasCase(Evaluator& e, const Value& self, const Args&) {
  const MarkedText text = ToText(e.heap(), self);
  e.heap().SpendBytes(4 * text.size());
  bool any = false;
  for (CharReader reader(text); reader.Next();) {
    if (IsCased(reader.code_point) && !wanted(reader.code_point)) return Value::Bool(false);
    any |= wanted(reader.code_point);
  }
  return Value::Bool(any);
}

template <Builtin (*find)(std::string_view)>
Value Exists(Evaluator&, const Value& self, const Args&) {
  return Value::Bool(self.is_string() && find(self.bytes()) != nullptr);
}

constexpr std::array<BuiltinEntry, 39> kTests = {{{"!=", Compares<CompareOp::kNotEqual>},
                                                  {"<", Compares<CompareOp::kLess>},
                                                  {"<=", Compares<CompareOp::kLessEqual>},
                                                  {"==", Compares<CompareOp::kEqual>},
                                                  {">", Compares<CompareOp::kGreater>},
                                                  {">=", Compares<CompareOp::kGreaterEqual>},
                                                  {"boolean", Simple<IsBoolean>},
                                                  {"callable", Simple<IsCallable>},
                                                  {"defined", Simple<IsDefined>},
                                                  {"divisibleby", DivisibleBy},
                                                  {"eq", Compares<CompareOp::kEqual>},
                                                  {"equalto", Compares<CompareOp::kEqual>},
                                                  {"escaped", Simple<IsEscaped>},
                                                  {"even", Even},
                                                  {"false", Simple<IsFalseTest>},
                                                  {"filter", Exists<FindFilter>},
                                                  {"float", Simple<IsFloat>},
                                                  {"ge", Compares<CompareOp::kGreaterEqual>},
                                                  {"greaterthan", Compares<CompareOp::kGreater>},
                                                  {"gt", Compares<CompareOp::kGreater>},
                                                  {"in", Compares<CompareOp::kIn>},
                                                  {"integer", Simple<IsInteger>},
                                                  {"iterable", Simple<IsIterable>},
                                                  {"le", Compares<CompareOp::kLessEqual>},
                                                  {"lessthan", Compares<CompareOp::kLess>},
                                                  {"lower", HasCase<IsLower>},
                                                  {"lt", Compares<CompareOp::kLess>},
                                                  {"mapping", Simple<IsMapping>},
                                                  {"ne", Compares<CompareOp::kNotEqual>},
                                                  {"none", Simple<IsNone>},
                                                  {"number", Simple<IsNumber>},
                                                  {"odd", Odd},
                                                  {"sameas", SameAs},
                                                  {"sequence", Simple<IsSequence>},
                                                  {"string", Simple<IsString>},
                                                  {"test", Exists<FindTest>},
                                                  {"true", Simple<IsTrueTest>},
                                                  {"undefined", Simple<IsUndefined>},
                                                  {"upper", HasCase<IsUpper>}}};

}  // namespace

Builtin FindTest(std::string_view name) {
  const auto* it =
      std::find_if(kTests.begin(), kTests.end(), [name](const BuiltinEntry& entry) { return entry.first == name; });
  return it == kTests.end() ? nullptr : it->second;
}

}  // namespace pantry::jinja
