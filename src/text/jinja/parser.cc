// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/parser.h"

#include <algorithm>
#include <array>

#include "text/jinja/builtins.h"

namespace pantry::jinja {
namespace {

// Far beyond any real template, and small enough for an ordinary stack with sanitizers on: one level of expression is a dozen frames.
constexpr int kMaxNesting = 100;

std::string Describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kText: return "text";
    case TokenKind::kPrintBegin: return "'{{'";
    case TokenKind::kPrintEnd: return "end of print statement '}}'";
    case TokenKind::kBlockBegin: return "'{%'";
    case TokenKind::kBlockEnd: return "end of statement block '%}'";
    case TokenKind::kEnd: return "end of template";
    case TokenKind::kString: return "a string";
    default: return fmt::format("'{}'", token.text);
  }
}

constexpr std::array<std::string_view, 8> kUnsupportedTags = {"include", "import",     "from",  "extends",
                                                              "block",   "autoescape", "trans", "do"};

}  // namespace

Parser::Nesting::Nesting(Parser* parser) : parser_(parser) {
  if (++parser_->depth_ > kMaxNesting) {
    --parser_->depth_;
    parser_->FailHere(fmt::format("nested deeper than {} levels", kMaxNesting));
  }
}

void Parser::FailAt(uint32_t offset, std::string message, StatusCode code) const {
  throw TemplateError{code, std::move(message), offset};
}
void Parser::FailHere(std::string message) const { FailAt(Current().offset, std::move(message)); }
void Parser::FailExpected(std::string_view what) const {
  FailHere(fmt::format("expected {}, found {}", what, Describe(Current())));
}

bool Parser::SkipOperator(std::string_view op) { return IsOperator(op) && (++at_, true); }
bool Parser::SkipName(std::string_view name) { return IsName(name) && (++at_, true); }
void Parser::ExpectOperator(std::string_view op) {
  if (!SkipOperator(op)) FailExpected(fmt::format("'{}'", op));
}
std::string Parser::ExpectName() {
  if (Current().kind != TokenKind::kName) FailExpected("a name");
  return tokens_[at_++].text;
}
void Parser::Expect(TokenKind kind) {
  if (Current().kind != kind) FailExpected(kind == TokenKind::kBlockEnd ? "'%}'" : "'}}'");
  ++at_;
}

Expr* Parser::NewExpr(ExprKind kind, uint32_t offset) {
  Expr& expr = tree_.exprs.emplace_back();
  expr.kind = kind;
  expr.offset = offset;
  return &expr;
}
Stmt* Parser::NewStmt(StmtKind kind, uint32_t offset) {
  Stmt& stmt = tree_.stmts.emplace_back();
  stmt.kind = kind;
  stmt.offset = offset;
  return &stmt;
}
const Expr* Parser::NewBinary(ExprKind kind, BinaryOp op, uint32_t offset, const Expr* left, const Expr* right) {
  Expr* expr = NewExpr(kind, offset);
  expr->op = op;
  expr->operands = {left, right};
  return expr;
}
const Expr* Parser::NewConst(uint32_t offset, Value value) {
  Expr* expr = NewExpr(ExprKind::kConst, offset);
  expr->value = std::move(value);
  return expr;
}
Value Parser::ConstString(std::string_view text) {
  auto object = std::make_shared<StringObject>();
  object->text.Append(text, false);
  return {Type::kString, std::move(object)};
}

void Parser::ParseTemplate() { tree_.body = ParseBlock({}, 0, ""); }

// Statements up to a tag that begins with one of `end_names`, which stays current; or up to the end of the template when there are none.
Block Parser::ParseBlock(std::initializer_list<std::string_view> end_names, uint32_t opened_at,
                         std::string_view opener) {
  const Nesting nesting(this);
  Block block;
  for (;;) {
    const Token& token = Current();
    switch (token.kind) {
      case TokenKind::kEnd:
        if (end_names.size() == 0) return block;
        FailAt(opened_at,
               fmt::format("{{% {} %}} is never closed: missing {{% {} %}}", opener, *(end_names.end() - 1)));
      case TokenKind::kText: {
        Stmt* text = NewStmt(StmtKind::kText, token.offset);
        text->expr = NewConst(token.offset, ConstString(token.text));
        block.push_back(text);
        ++at_;
        break;
      }
      case TokenKind::kPrintBegin: {
        Stmt* print = NewStmt(StmtKind::kPrint, token.offset);
        ++at_;
        print->expr = ParseTuple();
        Expect(TokenKind::kPrintEnd);
        block.push_back(print);
        break;
      }
      case TokenKind::kBlockBegin:
        ++at_;
        if (std::any_of(end_names.begin(), end_names.end(), [&](std::string_view name) { return IsName(name); }))
          return block;
        block.push_back(ParseStatement());
        Expect(TokenKind::kBlockEnd);
        break;
      default: FailExpected("text or a tag");
    }
  }
}

// Behind the opening tag: its end, the body and the name of the closing tag.
Block Parser::ParseBody(std::string_view end_name, uint32_t opened_at, std::string_view opener) {
  Expect(TokenKind::kBlockEnd);
  Block body = ParseBlock({end_name}, opened_at, opener);
  ++at_;
  return body;
}

const Stmt* Parser::ParseStatement() {
  const Token& token = Current();
  if (token.kind != TokenKind::kName) FailExpected("the name of a tag");
  Stmt* stmt = NewStmt(StmtKind::kText, token.offset);
  const std::string& tag = token.text;
  ++at_;
  if (tag == "if") {
    ParseIf(stmt);
  } else if (tag == "for") {
    ParseFor(stmt);
  } else if (tag == "set") {
    ParseSet(stmt);
  } else if (tag == "macro") {
    ParseMacro(stmt);
  } else if (tag == "call") {
    ParseCallBlock(stmt);
  } else if (tag == "with") {
    ParseWith(stmt);
  } else if (tag == "print") {
    stmt->kind = StmtKind::kPrint;
    stmt->expr = ParseExpression();
  } else if (tag == "filter") {
    stmt->kind = StmtKind::kFilterBlock;
    stmt->filter = ParseFilterChain();
    stmt->body = ParseBody("endfilter", token.offset, tag);
  } else if (tag == "generation") {
    stmt->kind = StmtKind::kScope;
    stmt->body = ParseBody("endgeneration", token.offset, tag);
  } else if (tag == "break" || tag == "continue") {
    if (loop_depth_ == 0) FailAt(token.offset, fmt::format("'{}' outside of a loop", tag));
    stmt->kind = tag == "break" ? StmtKind::kBreak : StmtKind::kContinue;
  } else if (std::find(kUnsupportedTags.begin(), kUnsupportedTags.end(), tag) != kUnsupportedTags.end()) {
    FailAt(token.offset, fmt::format("the tag {{% {} %}} is not supported in chat templates", tag),
           StatusCode::kUnsupported);
  } else {
    FailAt(token.offset, fmt::format("unknown tag '{}'", tag));
  }
  return stmt;
}

void Parser::ParseIf(Stmt* stmt) {
  stmt->kind = StmtKind::kIf;
  const Expr* condition = ParseTuple();
  for (;;) {
    Expect(TokenKind::kBlockEnd);
    Block body = condition ? ParseBlock({"elif", "else", "endif"}, stmt->offset, "if")
                           : ParseBlock({"endif"}, stmt->offset, "if");
    stmt->branches.emplace_back(condition, std::move(body));
    if (SkipName("endif")) return;
    condition = SkipName("elif") ? ParseTuple() : (++at_, nullptr);
  }
}

void Parser::ParseFor(Stmt* stmt) {
  stmt->kind = StmtKind::kFor;
  stmt->target = ParseTarget(/*allow_tuple=*/true, /*allow_namespace=*/false);
  if (!SkipName("in")) FailExpected("'in'");
  // No conditional expression here: "if" begins the filter.
  const uint32_t offset = Current().offset;
  const Expr* iterable = ParseOr();
  if (IsOperator(",")) {
    Expr* tuple = NewExpr(ExprKind::kTuple, offset);
    tuple->operands.push_back(iterable);
    while (SkipOperator(",")) {
      if (AtEndOfTuple() || IsName("if") || IsName("recursive")) break;
      tuple->operands.push_back(ParseOr());
    }
    iterable = tuple;
  }
  stmt->expr = iterable;
  if (SkipName("if")) stmt->condition = ParseExpression();
  stmt->recursive = SkipName("recursive");
  Expect(TokenKind::kBlockEnd);
  ++loop_depth_;
  stmt->body = ParseBlock({"else", "endfor"}, stmt->offset, "for");
  --loop_depth_;
  if (SkipName("else")) {
    Expect(TokenKind::kBlockEnd);
    stmt->else_body = ParseBlock({"endfor"}, stmt->offset, "for");
  }
  ++at_;
}

void Parser::ParseSet(Stmt* stmt) {
  stmt->target = ParseTarget(/*allow_tuple=*/true, /*allow_namespace=*/true);
  if (SkipOperator("=")) {
    stmt->kind = StmtKind::kSet;
    stmt->expr = ParseTuple();
    return;
  }
  stmt->kind = StmtKind::kSetBlock;
  if (SkipOperator("|")) stmt->filter = ParseFilterChain();
  stmt->body = ParseBody("endset", stmt->offset, "set");
}

void Parser::ParseParameters(Stmt* stmt) {
  ExpectOperator("(");
  while (!IsOperator(")")) {
    if (!stmt->parameters.empty()) ExpectOperator(",");
    std::string name = ExpectName();
    const Expr* default_value = nullptr;
    if (SkipOperator("=")) {
      default_value = ParseExpression();
    } else if (!stmt->parameters.empty() && stmt->parameters.back().second) {
      FailHere("a parameter without a default follows one with a default");
    }
    stmt->parameters.emplace_back(std::move(name), default_value);
  }
  ExpectOperator(")");
}

void Parser::ParseMacro(Stmt* stmt) {
  stmt->kind = StmtKind::kMacro;
  stmt->name = ExpectName();
  ParseParameters(stmt);
  macros_.push_back(stmt);
  const int outer_loops = std::exchange(loop_depth_, 0);
  stmt->body = ParseBody("endmacro", stmt->offset, "macro");
  loop_depth_ = outer_loops;
  macros_.pop_back();
}

void Parser::ParseCallBlock(Stmt* stmt) {
  stmt->kind = StmtKind::kCallBlock;
  if (IsOperator("(")) ParseParameters(stmt);
  stmt->expr = ParseExpression();
  if (stmt->expr->kind != ExprKind::kCall) FailAt(stmt->expr->offset, "{% call %} needs a call");
  const int outer_loops = std::exchange(loop_depth_, 0);
  stmt->body = ParseBody("endcall", stmt->offset, "call");
  loop_depth_ = outer_loops;
}

void Parser::ParseWith(Stmt* stmt) {
  stmt->kind = StmtKind::kWith;
  while (Current().kind != TokenKind::kBlockEnd) {
    if (!stmt->assignments.empty()) ExpectOperator(",");
    const Expr* target = ParseTarget(/*allow_tuple=*/false, /*allow_namespace=*/false);
    ExpectOperator("=");
    stmt->assignments.emplace_back(target, ParseExpression());
  }
  stmt->body = ParseBody("endwith", stmt->offset, "with");
}

// What can be assigned to: a name, a namespace's attribute, or a tuple of these.
const Expr* Parser::ParseTarget(bool allow_tuple, bool allow_namespace) {
  const Nesting nesting(this);
  const uint32_t offset = Current().offset;
  std::vector<const Expr*> targets;
  bool is_tuple = false;
  do {
    if (!targets.empty() && Current().kind != TokenKind::kName && !IsOperator("(")) break;  // a comma at the end
    if (!targets.empty() && IsName("in")) break;
    if (SkipOperator("(")) {
      targets.push_back(ParseTarget(true, allow_namespace));
      ExpectOperator(")");
      continue;
    }
    const uint32_t name_offset = Current().offset;
    const std::string name = ExpectName();
    static constexpr std::array<std::string_view, 6> kConstants = {"true", "false", "none", "True", "False", "None"};
    if (std::find(kConstants.begin(), kConstants.end(), name) != kConstants.end())
      FailAt(name_offset, fmt::format("cannot assign to '{}'", name));
    Expr* target = NewExpr(ExprKind::kName, name_offset);
    target->name = name;
    if (allow_namespace && SkipOperator(".")) {
      Expr* attribute = NewExpr(ExprKind::kGetAttr, name_offset);
      attribute->name = ExpectName();
      attribute->operands = {target};
      target = attribute;
    }
    targets.push_back(target);
  } while (allow_tuple && SkipOperator(",") && (is_tuple = true));
  if (targets.size() == 1 && !is_tuple) return targets[0];
  Expr* tuple = NewExpr(ExprKind::kTuple, offset);
  tuple->operands = std::move(targets);
  return tuple;
}

}  // namespace pantry::jinja
