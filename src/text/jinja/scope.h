// SPDX-License-Identifier: Apache-2.0
// A Scope holds the variables of one block; lookups go outwards. Loops, macros and block assignments have one of their own, {% if %} has not.
//
// Threads: thread-compatible.
#pragma once

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/heap.h"
#include "text/jinja/value.h"

namespace pantry::jinja {

struct Stmt;

struct Scope : Object {
  Scope(Heap& of, std::shared_ptr<Scope> parent_scope) : parent(std::move(parent_scope)) {
    of.Adopt(this, sizeof(Scope));
  }
  void Release() override {
    variables.clear();
    parent.reset();
  }

  void Set(std::string_view name, Value value) {
    for (auto& [other, old] : variables) {
      if (other == name) {
        old = std::move(value);
        return;
      }
    }
    heap->ChargeMore(this, sizeof(variables[0]));
    variables.emplace_back(name, std::move(value));
  }
  const Value* Get(std::string_view name) const {
    for (const Scope* scope = this; scope; scope = scope->parent.get()) {
      heap->Spend(static_cast<int64_t>(scope->variables.size() / 16));
      for (const auto& [other, value] : scope->variables) {
        if (other == name) return &value;
      }
    }
    return nullptr;
  }

  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string_view, Value>> variables;  // names belong to the tree
};

// A macro, or the body of a {% call %}: its definition and the scope it was defined in, where it looks up what is not its own.
struct MacroObject : FunctionObject {
  void Release() override { scope.reset(); }
  const Stmt* definition = nullptr;
  std::shared_ptr<Scope> scope;
};

// The variable `loop`. Released when the loop is over, should someone have kept it: chains of them must not grow.
struct LoopObject : Object {
  void Release() override {
    items.clear();
    passed.clear();
    n_pulled = 0;
    scope.reset();
  }
  const Stmt* loop = nullptr;    // for its condition and, if recursive, its body
  std::shared_ptr<Scope> scope;  // around the loop
  std::vector<Value> items;      // all, before the condition
  size_t n_pulled = 0;           // of these
  std::vector<Value> passed;     // those that met the condition so far; the condition is asked as late as possible
  size_t index = 0;              // of the current one in `passed`
  int nesting = 1;               // recursive loops: 1 is the outermost
};

}  // namespace pantry::jinja
