// SPDX-License-Identifier: Apache-2.0
// Evaluator: statements.
#include "text/jinja/evaluator.h"

#include <algorithm>
#include <array>

#include "text/jinja/depth.h"
#include "text/jinja/error.h"
#include "text/jinja/format.h"
#include "text/jinja/operators.h"

namespace pantry::jinja {
namespace {

constexpr int64_t kStepsPerIteration = 4;  // a scope is made and freed

// Sets a variable for as long as it lives.
template <typename T>
class Swap {
 public:
  Swap(T* variable, T value) : variable_(variable), old_(std::exchange(*variable, std::move(value))) {}
  ~Swap() { *variable_ = std::move(old_); }
  Swap(const Swap&) = delete;
  Swap& operator=(const Swap&) = delete;

 private:
  T* variable_;
  T old_;
};

}  // namespace

// Where a block prints to while it is being captured. Text on its way into a variable is memory too, however deeply such texts nest.
class Evaluator::CaptureBuffer {
 public:
  explicit CaptureBuffer(Evaluator* evaluator)
      : evaluator_(*evaluator), out_(&evaluator->out_, &text), charged_(&evaluator->charged_bytes_, 0) {}
  ~CaptureBuffer() { evaluator_.heap_.Charge(-evaluator_.charged_bytes_); }
  MarkedText text;

 private:
  Evaluator& evaluator_;
  Swap<MarkedText*> out_;
  Swap<int64_t> charged_;
};

MarkedText Evaluator::Render() {
  MarkedText out;
  const Swap<MarkedText*> output(&out_, &out);
  scope_ = std::make_shared<Scope>(heap_, nullptr);
  heap_.ReleaseAtEnd(scope_);
  Run(tree_.body);
  return out;
}

void Evaluator::Emit(const MarkedText& text) {
  heap_.SpendBytes(text.size());
  const auto bytes = static_cast<int64_t>(text.size() + text.runs().size() * sizeof(MarkedText::Run));
  heap_.Charge(bytes);
  charged_bytes_ += bytes;
  out_->Append(text);
}

Evaluator::Flow Evaluator::Run(const Block& block) {
  for (const Stmt* stmt : block) {
    const Flow flow = RunStatement(*stmt);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::RunInScope(const Block& block) {
  const Swap<std::shared_ptr<Scope>> scope(&scope_, std::make_shared<Scope>(heap_, scope_));
  return Run(block);
}

MarkedText Evaluator::Capture(const Block& block) {
  CaptureBuffer buffer(this);
  RunInScope(block);
  return std::move(buffer.text);
}

Evaluator::Flow Evaluator::RunStatement(const Stmt& stmt) {
  const Depth depth(this);
  heap_.Spend(1);
  offset_ = stmt.offset;
  switch (stmt.kind) {
    case StmtKind::kText: Emit(stmt.expr->value.text()); break;
    case StmtKind::kPrint: Emit(ToText(heap_, Eval(*stmt.expr))); break;
    case StmtKind::kIf: return RunIf(stmt);
    case StmtKind::kFor: return RunFor(stmt);
    case StmtKind::kSet: Assign(*stmt.target, Eval(*stmt.expr)); break;
    case StmtKind::kSetBlock: {
      const Value text = heap_.String(Capture(stmt.body));
      Assign(*stmt.target, stmt.filter ? EvalFilter(*stmt.filter, &text) : text);
      break;
    }
    case StmtKind::kFilterBlock: {
      const Value text = heap_.String(Capture(stmt.body));
      Emit(ToText(heap_, EvalFilter(*stmt.filter, &text)));
      break;
    }
    case StmtKind::kMacro: scope_->Set(stmt.name, MakeMacro(stmt)); break;
    case StmtKind::kCallBlock: RunCallBlock(stmt); break;
    case StmtKind::kWith: {
      // All values are computed outside before any name is set inside.
      std::vector<Value> values;
      for (const auto& assignment : stmt.assignments) values.push_back(Eval(*assignment.second));
      const Swap<std::shared_ptr<Scope>> scope(&scope_, std::make_shared<Scope>(heap_, scope_));
      for (size_t i = 0; i < values.size(); ++i) Assign(*stmt.assignments[i].first, values[i]);
      return Run(stmt.body);
    }
    case StmtKind::kScope: return RunInScope(stmt.body);
    case StmtKind::kBreak: return Flow::kBreak;
    case StmtKind::kContinue: return Flow::kContinue;
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::RunIf(const Stmt& stmt) {
  for (const auto& [condition, body] : stmt.branches) {
    if (!condition || IsTrue(Eval(*condition))) return Run(body);
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::RunFor(const Stmt& stmt) {
  auto loop = std::make_shared<LoopObject>();
  loop->loop = &stmt;
  loop->scope = scope_;
  const Value iterable = Eval(*stmt.expr);
  loop->items = Iterate(heap_, iterable);
  heap_.Adopt(loop.get(), static_cast<int64_t>(sizeof(LoopObject) + 2 * loop->items.size() * sizeof(Value)));
  RunLoop(loop);
  return Flow::kNext;
}

// Moves the next item that meets the loop's condition to `passed`; false when there is none.
bool Evaluator::PullLoopItem(LoopObject* loop) {
  while (loop->n_pulled < loop->items.size()) {
    const Value& item = loop->items[loop->n_pulled++];
    if (loop->loop->condition) {
      const Swap<std::shared_ptr<Scope>> scope(&scope_, std::make_shared<Scope>(heap_, loop->scope));
      Assign(*loop->loop->target, item);
      if (!IsTrue(Eval(*loop->loop->condition))) continue;
    }
    loop->passed.push_back(item);
    return true;
  }
  return false;
}

void Evaluator::RunLoop(const std::shared_ptr<LoopObject>& loop) {
  struct Releaser {
    ~Releaser() { loop->Release(); }
    LoopObject* loop;
  };
  const Releaser releaser{loop.get()};
  const Stmt& stmt = *loop->loop;
  const Value loop_value(Type::kLoop, loop);
  for (size_t index = 0; index < loop->passed.size() || PullLoopItem(loop.get()); ++index) {
    heap_.Spend(kStepsPerIteration);
    loop->index = index;
    auto inner = std::make_shared<Scope>(heap_, loop->scope);
    const Swap<std::shared_ptr<Scope>> scope(&scope_, inner);
    inner->Set("loop", loop_value);
    Assign(*stmt.target, loop->passed[loop->index]);
    if (Run(stmt.body) == Flow::kBreak) break;
  }
  if (loop->passed.empty() && !stmt.else_body.empty()) {
    const Swap<std::shared_ptr<Scope>> scope(&scope_, loop->scope);
    RunInScope(stmt.else_body);
  }
}

Value Evaluator::LoopAttribute(const Value& value, std::string_view name) {
  auto& loop = static_cast<LoopObject&>(*value.object());
  const auto index = static_cast<int64_t>(loop.index);
  const auto length = [&] {
    while (PullLoopItem(&loop)) continue;
    return static_cast<int64_t>(loop.passed.size());
  };
  const auto has_next = [&] { return loop.index + 1 < loop.passed.size() || PullLoopItem(&loop); };
  if (name == "index") return Value::Int(index + 1);
  if (name == "index0") return Value::Int(index);
  if (name == "first") return Value::Bool(index == 0);
  if (name == "last") return Value::Bool(!has_next());
  if (name == "length") return Value::Int(length());
  if (name == "revindex") return Value::Int(length() - index);
  if (name == "revindex0") return Value::Int(length() - index - 1);
  if (name == "depth") return Value::Int(loop.nesting);
  if (name == "depth0") return Value::Int(loop.nesting - 1);
  if (name == "previtem") {
    const bool has_previous = index > 0 && loop.index <= loop.passed.size();
    return has_previous ? loop.passed[loop.index - 1] : heap_.Undefined("there is no previous item");
  }
  if (name == "nextitem") return has_next() ? loop.passed[loop.index + 1] : heap_.Undefined("there is no next item");
  if (name == "cycle") {
    const Builtin cycle = [](Evaluator&, const Value& self, const Args& args) {
      if (args.positional.empty()) Fail("no items for cycling given");
      return args.positional[static_cast<const LoopObject&>(*self.object()).index % args.positional.size()];
    };
    return heap_.Function("cycle", cycle, &value);
  }
  if (name == "changed") FailUnsupported("loop.changed() is not supported");
  return heap_.Undefined(fmt::format("'LoopContext object' has no attribute '{}'", name));
}

// loop(items) inside of a recursive loop.
Value Evaluator::CallLoop(const Value& value, const Args& args) {
  const auto& outer = static_cast<const LoopObject&>(*value.object());
  if (!outer.loop->recursive) Fail("the loop must have the 'recursive' marker to be called recursively");
  if (!outer.scope) Fail("the loop is over");
  if (args.positional.size() != 1 || !args.keywords.empty()) Fail("loop() takes one argument");
  auto loop = std::make_shared<LoopObject>();
  loop->loop = outer.loop;
  loop->scope = outer.scope;
  loop->items = Iterate(heap_, args.positional[0]);
  loop->nesting = outer.nesting + 1;
  heap_.Adopt(loop.get(), static_cast<int64_t>(sizeof(LoopObject) + 2 * loop->items.size() * sizeof(Value)));
  const Depth depth(this);
  CaptureBuffer buffer(this);
  RunLoop(loop);
  return heap_.String(std::move(buffer.text));
}

void Evaluator::Assign(const Expr& target, const Value& value) {
  if (target.kind == ExprKind::kName) return scope_->Set(target.name, value);
  if (target.kind == ExprKind::kGetAttr) {
    const Value object = EvalName(*target.operands[0]);
    offset_ = target.offset;
    if (object.type() != Type::kNamespace) Fail("cannot assign attribute on non-namespace object");
    auto& attributes = object.name_space().attributes;
    heap_.Spend(static_cast<int64_t>(attributes.size() / 8));
    const auto it = std::find_if(attributes.begin(), attributes.end(),
                                 [&](const auto& attribute) { return attribute.first == target.name; });
    if (it == attributes.end()) {
      heap_.ChargeMore(object.object().get(), static_cast<int64_t>(sizeof(attributes[0]) + target.name.size()));
      attributes.emplace_back(target.name, value);
    } else {
      it->second = value;
    }
    return;
  }
  const std::vector<Value> values = Iterate(heap_, value);
  if (values.size() != target.operands.size()) {
    offset_ = target.offset;
    Fail("cannot unpack {} values into {} names", values.size(), target.operands.size());
  }
  for (size_t i = 0; i < values.size(); ++i) Assign(*target.operands[i], values[i]);
}

Value Evaluator::MakeMacro(const Stmt& definition) {
  auto macro = std::make_shared<MacroObject>();
  macro->name = definition.name;
  macro->definition = &definition;
  macro->scope = scope_;
  heap_.Adopt(macro.get(), sizeof(MacroObject));
  heap_.ReleaseAtEnd(macro);
  return {Type::kFunction, std::move(macro)};
}

void Evaluator::RunCallBlock(const Stmt& stmt) {
  const Value caller = MakeMacro(stmt);
  Emit(ToText(heap_, EvalCall(*stmt.expr, &caller)));
}

Value Evaluator::CallMacro(const MacroObject& macro, const Args& args) {
  const Depth depth(this);
  const Stmt& definition = *macro.definition;
  const auto& parameters = definition.parameters;
  auto inner = std::make_shared<Scope>(heap_, macro.scope);
  const Swap<std::shared_ptr<Scope>> scope(&scope_, inner);
  if (args.positional.size() > parameters.size() && !definition.takes_varargs) {
    Fail("macro '{}' takes not more than {} argument(s)", macro.name, parameters.size());
  }
  std::vector<const Value*> given(parameters.size(), nullptr);
  for (size_t i = 0; i < std::min(parameters.size(), args.positional.size()); ++i) given[i] = &args.positional[i];
  std::vector<std::pair<Value, Value>> more;
  for (const auto& [name, value] : args.keywords) {
    const auto it = std::find_if(parameters.begin(), parameters.end(),
                                 [&](const auto& parameter) { return parameter.first == name; });
    const auto i = static_cast<size_t>(it - parameters.begin());
    if (it != parameters.end() && !given[i]) {
      given[i] = &value;
    } else if (name == "caller" && it == parameters.end()) {
      inner->Set("caller", value);
    } else if (definition.takes_kwargs) {
      more.emplace_back(heap_.String(name), value);
    } else {
      Fail("macro '{}' takes no keyword argument '{}'", macro.name, name);
    }
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& [name, default_value] = parameters[i];
    inner->Set(name, given[i]        ? *given[i]
                     : default_value ? Eval(*default_value)
                                     : heap_.Undefined(fmt::format("parameter '{}' was not provided", name)));
  }
  if (definition.takes_kwargs) inner->Set("kwargs", heap_.Dict(std::move(more)));
  if (definition.takes_varargs) {
    const auto begin =
        args.positional.begin() + static_cast<ptrdiff_t>(std::min(args.positional.size(), parameters.size()));
    inner->Set("varargs", heap_.Tuple({begin, args.positional.end()}));
  }
  CaptureBuffer buffer(this);
  Run(definition.body);
  return heap_.String(std::move(buffer.text));
}

}  // namespace pantry::jinja
