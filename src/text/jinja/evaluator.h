// SPDX-License-Identifier: Apache-2.0
// An Evaluator runs a syntax tree against the variables of one conversation.
//
// It walks the tree. The position of the node at work is kept, so that whatever fails below can be told with line and column.
// Threads: thread-compatible; one rendering each.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/heap.h"
#include "text/jinja/scope.h"
#include "text/jinja/value.h"

namespace pantry::jinja {

class Evaluator {
 public:
  // `heap` and `tree` must outlive the evaluator.
  Evaluator(Heap& heap, const Tree& tree, int64_t now_unix_seconds)
      : heap_(heap), tree_(tree), now_unix_seconds_(now_unix_seconds) {}

  void SetVariable(std::string name, Value value) { variables_.insert_or_assign(std::move(name), std::move(value)); }
  MarkedText Render();  // throws TemplateError

  // For builtins.
  Heap& heap() { return heap_; }
  int64_t now_unix_seconds() const { return now_unix_seconds_; }
  Value Call(const Value& callee, const Args& args);
  Value GetAttribute(const Value& object, std::string_view name);  // x.name: methods first
  Value GetSubscript(const Value& object, const Value& index);     // x[index]: items first
  Value ApplyFilter(std::string_view name, const Value& subject, const Args& args);
  bool ApplyTest(std::string_view name, const Value& subject, const Args& args);

  uint32_t offset() const { return offset_; }  // of the node at work

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  class Depth;
  class CaptureBuffer;

  // Statements (evaluator.cc).
  Flow Run(const Block& block);
  Flow RunStatement(const Stmt& stmt);
  Flow RunIf(const Stmt& stmt);
  Flow RunFor(const Stmt& stmt);
  void RunLoop(const std::shared_ptr<LoopObject>& loop);
  bool PullLoopItem(LoopObject* loop);
  void RunCallBlock(const Stmt& stmt);
  Flow RunInScope(const Block& block);
  MarkedText Capture(const Block& block);  // what it prints, in a scope of its own
  void Assign(const Expr& target, const Value& value);
  Value MakeMacro(const Stmt& definition);
  Value CallMacro(const MacroObject& macro, const Args& args);
  Value CallLoop(const Value& loop, const Args& args);
  Value LoopAttribute(const Value& loop, std::string_view name);
  void Emit(const MarkedText& text);

  // Expressions (eval_expression.cc).
  Value Eval(const Expr& expr);
  Value EvalName(const Expr& expr);
  Value EvalBinary(const Expr& expr);
  Value EvalLogic(const Expr& expr);
  Value EvalCompare(const Expr& expr);
  Value EvalGetItem(const Expr& expr);
  Value EvalConcat(const Expr& expr);
  Value EvalCall(const Expr& expr, const Value* caller);
  Value EvalFilter(const Expr& expr, const Value* innermost);
  bool EvalTest(const Expr& expr);
  Args EvalArguments(const Expr& expr);
  std::vector<Value> EvalAll(const std::vector<const Expr*>& exprs);

  Heap& heap_;
  const Tree& tree_;
  int64_t now_unix_seconds_;
  std::unordered_map<std::string, Value> variables_;  // of the conversation; the template's own lie in scopes
  std::shared_ptr<Scope> scope_;
  MarkedText* out_ = nullptr;
  int64_t charged_bytes_ = 0;  // for what *out_ holds
  uint32_t offset_ = 0;
  int depth_ = 0;
};

}  // namespace pantry::jinja
