// SPDX-License-Identifier: Apache-2.0
// The Parser turns tokens into a Tree: Jinja's grammar, without what needs other templates (include, import, extends, block).
//
// Recursive descent. Nesting is limited, so hostile templates cannot exhaust the stack.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace pantry::jinja {

class Parser {
 public:
  // `tree` receives the nodes.
  Parser(std::vector<Token> tokens, Tree* tree) : tokens_(std::move(tokens)), tree_(*tree) {}
  void ParseTemplate();  // throws TemplateError

 private:
  // Tokens.
  const Token& Current() const { return tokens_[at_]; }
  const Token& Ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  bool IsOperator(std::string_view op) const { return Current().kind == TokenKind::kOperator && Current().text == op; }
  bool IsName(std::string_view name) const { return Current().kind == TokenKind::kName && Current().text == name; }
  bool SkipOperator(std::string_view op);
  bool SkipName(std::string_view name);
  void ExpectOperator(std::string_view op);
  std::string ExpectName();
  void Expect(TokenKind kind);
  [[noreturn]] void FailHere(std::string message) const;
  [[noreturn]] void FailAt(uint32_t offset, std::string message, StatusCode code = StatusCode::kInvalidArgument) const;
  [[noreturn]] void FailExpected(std::string_view what) const;

  // Statements (parser.cc).
  Block ParseBlock(std::initializer_list<std::string_view> end_names, uint32_t opened_at, std::string_view opener);
  const Stmt* ParseStatement();
  void ParseIf(Stmt* stmt);
  void ParseFor(Stmt* stmt);
  void ParseSet(Stmt* stmt);
  void ParseMacro(Stmt* stmt);
  void ParseCallBlock(Stmt* stmt);
  void ParseWith(Stmt* stmt);
  void ParseParameters(Stmt* stmt);
  Block ParseBody(std::string_view end_name, uint32_t opened_at, std::string_view opener);
  const Expr* ParseTarget(bool allow_tuple, bool allow_namespace);

  // Expressions, loosest first (parse_expression.cc).
  const Expr* ParseTuple(bool in_parentheses = false);
  const Expr* ParseExpression();
  const Expr* ParseOr();
  const Expr* ParseAnd();
  const Expr* ParseNot();
  const Expr* ParseCompare();
  const Expr* ParseSum();
  const Expr* ParseConcat();
  const Expr* ParseProduct();
  const Expr* ParsePower();
  const Expr* ParseUnary(bool with_filters);
  const Expr* ParsePostfix(const Expr* expr);
  const Expr* ParseFilters(const Expr* expr);
  const Expr* ParsePrimary();
  const Expr* ParseNumber();
  const Expr* ParseSubscript(const Expr* object);
  const Expr* ParseIndex();
  const Expr* ParseFilter(const Expr* subject);  // behind the "|"
  const Expr* ParseFilterChain();                // of {% filter %} and {% set x | filter %}
  const Expr* ParseTest(const Expr* subject);
  void ParseCallArguments(Expr* call);
  bool AtEndOfTuple() const;

  Expr* NewExpr(ExprKind kind, uint32_t offset);
  const Expr* NewBinary(ExprKind kind, BinaryOp op, uint32_t offset, const Expr* left, const Expr* right);
  const Expr* NewConst(uint32_t offset, Value value);
  static Value ConstString(std::string_view text);
  Stmt* NewStmt(StmtKind kind, uint32_t offset);

  // Counts how deeply the parser has recursed; throws when too deep.
  class Nesting {
   public:
    explicit Nesting(Parser* parser);
    ~Nesting() { --parser_->depth_; }

   private:
    Parser* parser_;
  };

  std::vector<Token> tokens_;
  size_t at_ = 0;
  Tree& tree_;
  int depth_ = 0;
  int loop_depth_ = 0;         // for break and continue
  std::vector<Stmt*> macros_;  // being parsed, innermost last
};

}  // namespace pantry::jinja
