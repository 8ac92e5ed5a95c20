// SPDX-License-Identifier: Apache-2.0
// Parser: expressions.
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "text/jinja/builtins.h"
#include "text/jinja/parser.h"

namespace pantry::jinja {

bool Parser::AtEndOfTuple() const {
  return Current().kind == TokenKind::kPrintEnd || Current().kind == TokenKind::kBlockEnd || IsOperator(")");
}

// One expression, or several with commas between.
const Expr* Parser::ParseTuple(bool in_parentheses) {
  const uint32_t offset = Current().offset;
  std::vector<const Expr*> items;
  bool is_tuple = false;
  while (!AtEndOfTuple()) {
    items.push_back(ParseExpression());
    if (!SkipOperator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return items[0];
  if (items.empty() && !in_parentheses) FailExpected("an expression");
  Expr* tuple = NewExpr(ExprKind::kTuple, offset);
  tuple->operands = std::move(items);
  return tuple;
}

const Expr* Parser::ParseExpression() {
  const Nesting nesting(this);
  const Expr* expr = ParseOr();
  while (IsName("if")) {
    const uint32_t offset = Current().offset;
    ++at_;
    const Expr* condition = ParseOr();
    const Expr* otherwise = SkipName("else") ? ParseExpression() : nullptr;
    Expr* cond = NewExpr(ExprKind::kCond, offset);
    cond->operands = {condition, expr, otherwise};
    expr = cond;
  }
  return expr;
}

const Expr* Parser::ParseOr() {
  const Expr* left = ParseAnd();
  while (IsName("or")) {
    const uint32_t offset = Current().offset;
    ++at_;
    left = NewBinary(ExprKind::kOr, BinaryOp::kAdd, offset, left, ParseAnd());
  }
  return left;
}

const Expr* Parser::ParseAnd() {
  const Expr* left = ParseNot();
  while (IsName("and")) {
    const uint32_t offset = Current().offset;
    ++at_;
    left = NewBinary(ExprKind::kAnd, BinaryOp::kAdd, offset, left, ParseNot());
  }
  return left;
}

const Expr* Parser::ParseNot() {
  if (!IsName("not")) return ParseCompare();
  const Nesting nesting(this);
  Expr* expr = NewExpr(ExprKind::kNot, Current().offset);
  ++at_;
  expr->operands = {ParseNot()};
  return expr;
}

const Expr* Parser::ParseCompare() {
  static constexpr std::array<std::pair<std::string_view, CompareOp>, 6> kOps = {{{"==", CompareOp::kEqual},
                                                                                  {"!=", CompareOp::kNotEqual},
                                                                                  {"<", CompareOp::kLess},
                                                                                  {"<=", CompareOp::kLessEqual},
                                                                                  {">", CompareOp::kGreater},
                                                                                  {">=", CompareOp::kGreaterEqual}}};
  const Expr* left = ParseSum();
  Expr* compare = nullptr;
  for (;;) {
    const uint32_t offset = Current().offset;
    const CompareOp* op = nullptr;
    static constexpr CompareOp kIn = CompareOp::kIn;
    static constexpr CompareOp kNotIn = CompareOp::kNotIn;
    for (const auto& [text, compare_op] : kOps) {
      if (IsOperator(text)) op = &compare_op;
    }
    if (op) {
      ++at_;
    } else if (SkipName("in")) {
      op = &kIn;
    } else if (IsName("not") && Ahead().kind == TokenKind::kName && Ahead().text == "in") {
      at_ += 2;
      op = &kNotIn;
    } else {
      return compare ? compare : left;
    }
    if (!compare) {
      compare = NewExpr(ExprKind::kCompare, offset);
      compare->operands = {left};
    }
    compare->compare_ops.push_back(*op);
    compare->operands.push_back(ParseSum());
  }
}

const Expr* Parser::ParseSum() {
  const Expr* left = ParseConcat();
  while (IsOperator("+") || IsOperator("-")) {
    const BinaryOp op = IsOperator("+") ? BinaryOp::kAdd : BinaryOp::kSubtract;
    const uint32_t offset = Current().offset;
    ++at_;
    left = NewBinary(ExprKind::kBinary, op, offset, left, ParseConcat());
  }
  return left;
}

const Expr* Parser::ParseConcat() {
  const Expr* first = ParseProduct();
  if (!IsOperator("~")) return first;
  Expr* concat = NewExpr(ExprKind::kConcat, Current().offset);
  concat->operands = {first};
  while (SkipOperator("~")) concat->operands.push_back(ParseProduct());
  return concat;
}

const Expr* Parser::ParseProduct() {
  static constexpr std::array<std::pair<std::string_view, BinaryOp>, 4> kOps = {
      {{"*", BinaryOp::kMultiply}, {"/", BinaryOp::kDivide}, {"//", BinaryOp::kFloorDivide}, {"%", BinaryOp::kModulo}}};
  const Expr* left = ParsePower();
  for (;;) {
    const BinaryOp* op = nullptr;
    for (const auto& [text, binary_op] : kOps) {
      if (IsOperator(text)) op = &binary_op;
    }
    if (!op) return left;
    const uint32_t offset = Current().offset;
    ++at_;
    left = NewBinary(ExprKind::kBinary, *op, offset, left, ParsePower());
  }
}

const Expr* Parser::ParsePower() {
  const Expr* left = ParseUnary(true);
  while (IsOperator("**")) {
    const uint32_t offset = Current().offset;
    ++at_;
    left = NewBinary(ExprKind::kBinary, BinaryOp::kPower, offset, left, ParseUnary(true));
  }
  return left;
}

const Expr* Parser::ParseUnary(bool with_filters) {
  const Expr* expr = nullptr;
  if (IsOperator("-") || IsOperator("+")) {
    const Nesting nesting(this);
    Expr* unary = NewExpr(IsOperator("-") ? ExprKind::kNegate : ExprKind::kPlus, Current().offset);
    ++at_;
    unary->operands = {ParseUnary(false)};
    expr = unary;
  } else {
    expr = ParsePrimary();
  }
  expr = ParsePostfix(expr);
  return with_filters ? ParseFilters(expr) : expr;
}

const Expr* Parser::ParsePostfix(const Expr* expr) {
  for (;;) {
    if (IsOperator(".") || IsOperator("[")) {
      expr = ParseSubscript(expr);
    } else if (IsOperator("(")) {
      Expr* call = NewExpr(ExprKind::kCall, Current().offset);
      call->operands = {expr};
      ParseCallArguments(call);
      expr = call;
    } else {
      return expr;
    }
  }
}

const Expr* Parser::ParseFilters(const Expr* expr) {
  for (;;) {
    if (SkipOperator("|")) {
      expr = ParseFilter(expr);
    } else if (IsName("is")) {
      expr = ParseTest(expr);
    } else if (IsOperator("(")) {
      Expr* call = NewExpr(ExprKind::kCall, Current().offset);
      call->operands = {expr};
      ParseCallArguments(call);
      expr = call;
    } else {
      return expr;
    }
  }
}

const Expr* Parser::ParseNumber() {
  const Token& token = Current();
  ++at_;
  const std::string& text = token.text;
  if (token.kind == TokenKind::kFloat) {
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc::result_out_of_range) number = text.find('-') == std::string::npos ? HUGE_VAL : 0.0;
    return NewConst(token.offset, Value::Float(number));
  }
  const char prefix = text.size() > 2 ? static_cast<char>(text[1] | 0x20) : '\0';
  const int base = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 10;
  int64_t integer = 0;
  const auto [end, error] =
      std::from_chars(text.data() + (base == 10 ? 0 : 2), text.data() + text.size(), integer, base);
  if (error != std::errc()) FailAt(token.offset, fmt::format("the integer {} does not fit in 64 bits", text));
  return NewConst(token.offset, Value::Int(integer));
}

const Expr* Parser::ParsePrimary() {
  const Token& token = Current();
  switch (token.kind) {
    case TokenKind::kName: {
      ++at_;
      if (token.text == "true" || token.text == "True") return NewConst(token.offset, Value::Bool(true));
      if (token.text == "false" || token.text == "False") return NewConst(token.offset, Value::Bool(false));
      if (token.text == "none" || token.text == "None") return NewConst(token.offset, Value::None());
      Expr* name = NewExpr(ExprKind::kName, token.offset);
      name->name = token.text;
      if (!macros_.empty()) {
        if (name->name == "kwargs") macros_.back()->takes_kwargs = true;
        if (name->name == "varargs") macros_.back()->takes_varargs = true;
      }
      return name;
    }
    case TokenKind::kString: {
      std::string text;
      while (Current().kind == TokenKind::kString) text += tokens_[at_++].text;  // neighbours join
      return NewConst(token.offset, ConstString(text));
    }
    case TokenKind::kInteger:
    case TokenKind::kFloat: return ParseNumber();
    default: break;
  }
  if (SkipOperator("(")) {
    const Expr* expr = ParseTuple(/*in_parentheses=*/true);
    ExpectOperator(")");
    return expr;
  }
  if (SkipOperator("[")) {
    Expr* list = NewExpr(ExprKind::kList, token.offset);
    while (!IsOperator("]")) {
      list->operands.push_back(ParseExpression());
      if (!SkipOperator(",")) break;
    }
    ExpectOperator("]");
    return list;
  }
  if (SkipOperator("{")) {
    Expr* dict = NewExpr(ExprKind::kDict, token.offset);
    while (!IsOperator("}")) {
      dict->operands.push_back(ParseExpression());
      ExpectOperator(":");
      dict->operands.push_back(ParseExpression());
      if (!SkipOperator(",")) break;
    }
    ExpectOperator("}");
    return dict;
  }
  FailExpected("an expression");
}

const Expr* Parser::ParseSubscript(const Expr* object) {
  const uint32_t offset = Current().offset;
  if (SkipOperator(".")) {
    if (Current().kind == TokenKind::kInteger) {
      Expr* item = NewExpr(ExprKind::kGetItem, offset);
      item->operands = {object, ParseNumber()};
      return item;
    }
    Expr* attribute = NewExpr(ExprKind::kGetAttr, offset);
    attribute->operands = {object};
    attribute->name = ExpectName();
    return attribute;
  }
  ExpectOperator("[");
  Expr* item = NewExpr(ExprKind::kGetItem, offset);
  item->operands = {object, ParseIndex()};
  if (IsOperator(",")) {
    Expr* tuple = NewExpr(ExprKind::kTuple, offset);
    tuple->operands = {item->operands[1]};
    while (SkipOperator(",")) tuple->operands.push_back(ParseIndex());
    item->operands[1] = tuple;
  }
  ExpectOperator("]");
  return item;
}

// What stands between [ and ]: an expression or a slice.
const Expr* Parser::ParseIndex() {
  const uint32_t offset = Current().offset;
  const auto at_end = [&] { return IsOperator("]") || IsOperator(",") || IsOperator(":"); };
  const Expr* start = IsOperator(":") ? nullptr : ParseExpression();
  if (!SkipOperator(":")) return start;
  const Expr* stop = at_end() ? nullptr : ParseExpression();
  const Expr* step = SkipOperator(":") && !at_end() ? ParseExpression() : nullptr;
  Expr* slice = NewExpr(ExprKind::kSlice, offset);
  slice->operands = {start, stop, step};
  return slice;
}

void Parser::ParseCallArguments(Expr* call) {
  const uint32_t offset = Current().offset;
  ExpectOperator("(");
  while (!IsOperator(")")) {
    if (SkipOperator("*")) {
      if (call->star_args || call->star_keywords) FailAt(offset, "more than one * in a call");
      call->star_args = ParseExpression();
    } else if (SkipOperator("**")) {
      if (call->star_keywords) FailAt(offset, "more than one ** in a call");
      call->star_keywords = ParseExpression();
    } else if (Current().kind == TokenKind::kName && Ahead().kind == TokenKind::kOperator && Ahead().text == "=") {
      std::string name = ExpectName();
      ++at_;
      for (const auto& [other, value] : call->keywords) {
        if (other == name) FailAt(offset, fmt::format("keyword argument '{}' is given twice", name));
      }
      call->keywords.emplace_back(std::move(name), ParseExpression());
    } else {
      if (!call->keywords.empty() || call->star_args || call->star_keywords)
        FailHere("a positional argument follows a keyword argument");
      call->operands.push_back(ParseExpression());
    }
    if (!SkipOperator(",")) break;
  }
  ExpectOperator(")");
}

const Expr* Parser::ParseFilter(const Expr* subject) {
  Expr* filter = NewExpr(ExprKind::kFilter, Current().offset);
  filter->name = ExpectName();
  while (SkipOperator(".")) filter->name += "." + ExpectName();
  filter->builtin = FindFilter(filter->name);
  filter->operands = {subject};
  if (IsOperator("(")) ParseCallArguments(filter);
  return filter;
}

const Expr* Parser::ParseFilterChain() {
  const Expr* chain = ParseFilter(nullptr);
  while (SkipOperator("|")) chain = ParseFilter(chain);
  return chain;
}

const Expr* Parser::ParseTest(const Expr* subject) {
  const Nesting nesting(this);
  Expr* test = NewExpr(ExprKind::kTest, Current().offset);
  ++at_;
  const bool negated = SkipName("not");
  test->name = ExpectName();
  while (SkipOperator(".")) test->name += "." + ExpectName();
  test->builtin = FindTest(test->name);
  test->operands = {subject};
  const TokenKind kind = Current().kind;
  const bool ends = IsName("else") || IsName("or") || IsName("and") || IsName("if");
  if (IsOperator("(")) {
    ParseCallArguments(test);
  } else if (IsName("is")) {
    FailHere("tests cannot be chained with 'is'");
  } else if ((kind == TokenKind::kName && !ends && !IsName("in") && !IsName("not")) || kind == TokenKind::kString ||
             kind == TokenKind::kInteger || kind == TokenKind::kFloat || IsOperator("[") || IsOperator("{")) {
    test->operands.push_back(ParsePostfix(ParsePrimary()));  // "is divisibleby 3"
  }
  if (!negated) return test;
  Expr* expr = NewExpr(ExprKind::kNot, test->offset);
  expr->operands = {test};
  return expr;
}

}  // namespace pantry::jinja
