// SPDX-License-Identifier: Apache-2.0
// Evaluator: expressions.
#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/depth.h"
#include "text/jinja/error.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/format.h"
#include "text/jinja/operators.h"

namespace pantry::jinja {

Value Evaluator::Eval(const Expr& expr) {
  if (expr.kind == ExprKind::kConst) return expr.value;
  const Depth depth(this);
  heap_.Spend(1);
  switch (expr.kind) {
    case ExprKind::kConst: return expr.value;
    case ExprKind::kName: return EvalName(expr);
    case ExprKind::kTuple: return heap_.Tuple(EvalAll(expr.operands));
    case ExprKind::kList: return heap_.List(EvalAll(expr.operands));
    case ExprKind::kDict: {
      std::vector<std::pair<Value, Value>> entries;
      for (size_t i = 0; i < expr.operands.size(); i += 2) {
        Value key = Eval(*expr.operands[i]);
        entries.emplace_back(std::move(key), Eval(*expr.operands[i + 1]));
      }
      offset_ = expr.offset;
      return heap_.Dict(std::move(entries));
    }
    case ExprKind::kCond:
      if (IsTrue(Eval(*expr.operands[0]))) return Eval(*expr.operands[1]);
      if (expr.operands[2]) return Eval(*expr.operands[2]);
      return heap_.Undefined("the inline if-expression evaluated to false and no else section was defined");
    case ExprKind::kOr:
    case ExprKind::kAnd: return EvalLogic(expr);
    case ExprKind::kNot: return Value::Bool(!IsTrue(Eval(*expr.operands[0])));
    case ExprKind::kNegate: {
      const Value value = Eval(*expr.operands[0]);
      offset_ = expr.offset;
      return Negate(value);
    }
    case ExprKind::kPlus: {
      const Value value = Eval(*expr.operands[0]);
      offset_ = expr.offset;
      FailIfUndefined(value);
      if (!value.is_number()) Fail("bad operand type for unary +: '{}'", TypeName(value));
      return value.type() == Type::kBool ? Value::Int(value.integer()) : value;
    }
    case ExprKind::kBinary: return EvalBinary(expr);
    case ExprKind::kConcat: return EvalConcat(expr);
    case ExprKind::kCompare: return EvalCompare(expr);
    case ExprKind::kGetAttr: {
      const Value object = Eval(*expr.operands[0]);
      offset_ = expr.offset;
      return GetAttribute(object, expr.name);
    }
    case ExprKind::kGetItem: return EvalGetItem(expr);
    case ExprKind::kSlice: Fail("a slice is only possible inside of []");
    case ExprKind::kCall: return EvalCall(expr, nullptr);
    case ExprKind::kFilter: return EvalFilter(expr, nullptr);
    case ExprKind::kTest: return Value::Bool(EvalTest(expr));
  }
  return {};
}

std::vector<Value> Evaluator::EvalAll(const std::vector<const Expr*>& exprs) {
  std::vector<Value> values;
  values.reserve(exprs.size());
  for (const Expr* expr : exprs) values.push_back(Eval(*expr));
  return values;
}

Value Evaluator::EvalName(const Expr& expr) {
  offset_ = expr.offset;
  if (const Value* value = scope_->Get(expr.name)) return *value;
  if (const auto it = variables_.find(expr.name); it != variables_.end()) return it->second;
  if (const Builtin function = FindFunction(expr.name)) return heap_.Function(expr.name, function);
  return heap_.Undefined(fmt::format("'{}' is undefined", expr.name));
}

// a + b + c + ... nests to the left; templates write long ones, so they cost no depth.
Value Evaluator::EvalBinary(const Expr& expr) {
  std::vector<const Expr*> spine;
  const Expr* leftmost = &expr;
  for (; leftmost->kind == ExprKind::kBinary; leftmost = leftmost->operands[0]) spine.push_back(leftmost);
  Value left = Eval(*leftmost);
  for (auto it = spine.rbegin(); it != spine.rend(); ++it) {
    const Value right = Eval(*(*it)->operands[1]);
    offset_ = (*it)->offset;
    left = Binary(heap_, (*it)->op, left, right);
  }
  return left;
}

// As EvalBinary: a or b or c ... costs no depth.
Value Evaluator::EvalLogic(const Expr& expr) {
  std::vector<const Expr*> spine;
  const Expr* leftmost = &expr;
  for (; leftmost->kind == ExprKind::kOr || leftmost->kind == ExprKind::kAnd; leftmost = leftmost->operands[0])
    spine.push_back(leftmost);
  heap_.Spend(static_cast<int64_t>(spine.size()));
  Value left = Eval(*leftmost);
  for (auto it = spine.rbegin(); it != spine.rend(); ++it) {
    const bool goes_on = IsTrue(left) == ((*it)->kind == ExprKind::kAnd);
    if (goes_on) left = Eval(*(*it)->operands[1]);
  }
  return left;
}

Value Evaluator::EvalConcat(const Expr& expr) {
  MarkedText text;
  for (const Expr* operand : expr.operands) {
    const Value value = Eval(*operand);
    offset_ = expr.offset;
    text.Append(ToText(heap_, value));
  }
  return heap_.String(std::move(text));
}

Value Evaluator::EvalCompare(const Expr& expr) {
  Value left = Eval(*expr.operands[0]);
  for (size_t i = 0; i < expr.compare_ops.size(); ++i) {
    Value right = Eval(*expr.operands[i + 1]);
    offset_ = expr.offset;
    if (!CompareWith(heap_, expr.compare_ops[i], left, right)) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

Value Evaluator::EvalGetItem(const Expr& expr) {
  const Value object = Eval(*expr.operands[0]);
  const Expr& index = *expr.operands[1];
  if (index.kind == ExprKind::kSlice) {
    Value bounds[3];
    for (size_t i = 0; i < 3; ++i) bounds[i] = index.operands[i] ? Eval(*index.operands[i]) : Value::None();
    offset_ = expr.offset;
    FailIfUndefined(object);
    return GetSlice(heap_, object, bounds[0], bounds[1], bounds[2]);
  }
  const Value key = Eval(index);
  offset_ = expr.offset;
  return GetSubscript(object, key);
}

Args Evaluator::EvalArguments(const Expr& expr) {
  Args args;
  for (size_t i = 1; i < expr.operands.size(); ++i) args.positional.push_back(Eval(*expr.operands[i]));
  for (const auto& [name, value] : expr.keywords) args.keywords.emplace_back(name, Eval(*value));
  if (expr.star_args) {
    const Value more = Eval(*expr.star_args);
    offset_ = expr.offset;
    for (Value& value : Iterate(heap_, more)) args.positional.push_back(std::move(value));
  }
  if (expr.star_keywords) {
    const Value more = Eval(*expr.star_keywords);
    offset_ = expr.offset;
    if (!more.is_dict()) Fail("argument after ** must be a mapping, not {}", TypeName(more));
    heap_.Spend(static_cast<int64_t>(more.dict().entries.size()));
    for (const auto& [key, value] : more.dict().entries) {
      if (!key.is_string()) Fail("keywords must be strings");
      args.keywords.emplace_back(std::string(key.bytes()), value);
    }
  }
  return args;
}

Value Evaluator::EvalCall(const Expr& expr, const Value* caller) {
  const Value callee = Eval(*expr.operands[0]);
  Args args = EvalArguments(expr);
  if (caller) args.keywords.emplace_back("caller", *caller);
  offset_ = expr.offset;
  return Call(callee, args);
}

Value Evaluator::EvalFilter(const Expr& expr, const Value* innermost) {
  const Depth depth(this);
  const Expr* operand = expr.operands[0];
  Value subject;
  if (!operand) {
    subject = *innermost;
  } else if (operand->kind == ExprKind::kFilter) {
    subject = EvalFilter(*operand, innermost);
  } else {
    subject = Eval(*operand);
  }
  const Args args = EvalArguments(expr);
  offset_ = expr.offset;
  if (!expr.builtin) Fail("no filter named '{}'", expr.name);
  return expr.builtin(*this, subject, args);
}

bool Evaluator::EvalTest(const Expr& expr) {
  const Value subject = Eval(*expr.operands[0]);
  const Args args = EvalArguments(expr);
  offset_ = expr.offset;
  if (!expr.builtin) Fail("no test named '{}'", expr.name);
  return IsTrue(expr.builtin(*this, subject, args));
}

Value Evaluator::ApplyFilter(std::string_view name, const Value& subject, const Args& args) {
  const Depth depth(this);
  heap_.Spend(1);
  const Builtin filter = FindFilter(name);
  if (!filter) Fail("no filter named '{}'", name);
  return filter(*this, subject, args);
}

bool Evaluator::ApplyTest(std::string_view name, const Value& subject, const Args& args) {
  const Depth depth(this);
  heap_.Spend(1);
  const Builtin test = FindTest(name);
  if (!test) Fail("no test named '{}'", name);
  return IsTrue(test(*this, subject, args));
}

Value Evaluator::Call(const Value& callee, const Args& args) {
  FailIfUndefined(callee);
  if (callee.type() == Type::kLoop) return CallLoop(callee, args);
  if (callee.type() != Type::kFunction) Fail("'{}' object is not callable", TypeName(callee));
  const FunctionObject& function = callee.function();
  if (function.builtin) return function.builtin(*this, function.self, args);
  return CallMacro(static_cast<const MacroObject&>(function), args);
}

Value Evaluator::GetAttribute(const Value& object, std::string_view name) {
  FailIfUndefined(object);
  const auto method = [&](Builtin builtin) { return heap_.Function(std::string(name), builtin, &object); };
  switch (object.type()) {
    case Type::kLoop: return LoopAttribute(object, name);
    case Type::kNamespace: {
      const auto& attributes = object.name_space().attributes;
      heap_.Spend(static_cast<int64_t>(attributes.size() / 8));
      const auto it = std::find_if(attributes.begin(), attributes.end(),
                                   [&](const auto& attribute) { return attribute.first == name; });
      if (it != attributes.end()) return it->second;
      return heap_.Undefined(fmt::format("'Namespace object' has no attribute '{}'", name));
    }
    case Type::kDict:
      if (const Builtin builtin = FindDictMethod(name)) return method(builtin);
      if (const Value* value = Find(heap_, object.dict(), name)) return *value;
      return heap_.Undefined(fmt::format("'dict object' has no attribute '{}'", name));
    case Type::kString:
      if (const Builtin builtin = FindStringMethod(name)) return method(builtin);
      break;
    case Type::kSequence:
      if (object.is_list_or_tuple()) {
        if (const Builtin builtin = FindListMethod(name)) return method(builtin);
      }
      break;
    case Type::kNone: return heap_.Undefined(fmt::format("'None' has no attribute '{}'", name));
    default: break;
  }
  if (object.type() == Type::kFunction && name == "name") return heap_.String(object.function().name);
  return heap_.Undefined(fmt::format("'{} object' has no attribute '{}'", TypeName(object), name));
}

Value Evaluator::GetSubscript(const Value& object, const Value& index) {
  FailIfUndefined(object);
  if (!index.is_string()) return GetItem(heap_, object, index);
  if (object.is_dict()) {
    if (const Value* value = Find(heap_, object.dict(), index)) return *value;
  }
  return GetAttribute(object, index.bytes());
}

}  // namespace pantry::jinja
