// SPDX-License-Identifier: Apache-2.0
// The syntax tree of a template.
//
// Nodes live in a Tree and point to each other without owning, so that a long chain of operators is no deep chain of destructors.
// Threads: immutable after parsing.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace pantry::jinja {

enum class ExprKind : uint8_t {
  kConst,    // value
  kName,     // name
  kTuple,    // operands
  kList,     // operands
  kDict,     // operands: key, value, key, value, ...
  kCond,     // operands: condition, then, else (null: undefined)
  kOr,       // operands: left, right
  kAnd,      // operands: left, right
  kNot,      // operands: one
  kNegate,   // operands: one
  kPlus,     // operands: one
  kBinary,   // op; operands: left, right
  kConcat,   // operands: two or more
  kCompare,  // operands: n + 1; compare_ops: n
  kGetAttr,  // name; operands: object
  kGetItem,  // operands: object, index
  kSlice,    // only as an index; operands: start, stop, step, each may be null
  kCall,     // operands: callee, positional...; keywords; star_args, star_keywords
  kFilter,   // name, builtin; operands: subject (null in a filter block), positional...; keywords; ...
  kTest,     // name, builtin; the same
};

enum class BinaryOp : uint8_t { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
enum class CompareOp : uint8_t { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };

struct Expr {
  ExprKind kind = ExprKind::kConst;
  BinaryOp op = BinaryOp::kAdd;
  uint32_t offset = 0;  // where in the source
  Value value;
  std::string name;
  Builtin builtin = nullptr;  // the filter or test; null: there is none of that name
  std::vector<const Expr*> operands;
  std::vector<CompareOp> compare_ops;
  std::vector<std::pair<std::string, const Expr*>> keywords;
  const Expr* star_args = nullptr;
  const Expr* star_keywords = nullptr;
};

enum class StmtKind : uint8_t {
  kText,         // expr: a constant
  kPrint,        // expr
  kIf,           // branches
  kFor,          // target, expr: iterable, condition (may be null), body, else_body, recursive
  kSet,          // target, expr
  kSetBlock,     // target, filter (may be null), body
  kMacro,        // name, parameters, body
  kCallBlock,    // expr: the call; parameters, body
  kFilterBlock,  // filter, body
  kWith,         // assignments, body
  kScope,        // body: {% generation %}
  kBreak,
  kContinue,
};

struct Stmt;
using Block = std::vector<const Stmt*>;

struct Stmt {
  StmtKind kind = StmtKind::kText;
  bool recursive = false;
  bool takes_kwargs = false;  // a macro that mentions kwargs, varargs
  bool takes_varargs = false;
  uint32_t offset = 0;
  std::string name;
  const Expr* expr = nullptr;
  const Expr* target = nullptr;  // a kName, kGetAttr of a name (namespace) or kTuple of these
  const Expr* condition = nullptr;
  const Expr* filter = nullptr;  // a kFilter chain whose innermost subject is null
  Block body;
  Block else_body;
  std::vector<std::pair<const Expr*, Block>> branches;           // if, elif..., else (null condition)
  std::vector<std::pair<std::string, const Expr*>> parameters;   // with their defaults, null where there is none
  std::vector<std::pair<const Expr*, const Expr*>> assignments;  // target, value
};

struct Tree {
  std::deque<Expr> exprs;
  std::deque<Stmt> stmts;
  Block body;
};

}  // namespace pantry::jinja
