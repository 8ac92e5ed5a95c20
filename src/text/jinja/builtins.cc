// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/builtins.h"

#include <algorithm>

#include "text/jinja/error.h"
#include "text/jinja/operators.h"

namespace pantry::jinja {

BoundArgs::BoundArgs(std::string_view callee, const Args& args, std::initializer_list<std::string_view> parameters,
                     size_t n_required)
    : callee_(callee), names_(parameters), values_(parameters.size(), nullptr) {
  if (args.positional.size() > names_.size())
    Fail("{}() takes at most {} argument(s), {} given", callee, names_.size(), args.positional.size());
  for (size_t i = 0; i < args.positional.size(); ++i) values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.keywords) {
    const auto it = std::find(names_.begin(), names_.end(), name);
    if (it == names_.end()) Fail("{}() has no argument '{}'", callee, name);
    const Value*& slot = values_[static_cast<size_t>(it - names_.begin())];
    if (slot) Fail("{}() got multiple values for argument '{}'", callee, name);
    slot = &value;
  }
  for (size_t i = 0; i < n_required; ++i) {
    if (!values_[i]) Fail("{}() is missing its argument '{}'", callee, names_[i]);
  }
}

int64_t BoundArgs::Int(size_t index, int64_t default_value) const {
  return values_[index] ? ToInt(*values_[index], fmt::format("argument '{}' of {}()", names_[index], callee_))
                        : default_value;
}

bool BoundArgs::Bool(size_t index, bool default_value) const {
  return values_[index] ? IsTrue(*values_[index]) : default_value;
}

const MarkedText* BoundArgs::Text(size_t index) const {
  const Value* value = values_[index];
  if (!value || value->is_none()) return nullptr;
  FailIfUndefined(*value);
  if (!value->is_string())
    Fail("argument '{}' of {}() must be a string, not {}", names_[index], callee_, TypeName(*value));
  return &value->text();
}

Builtin FindFilter(std::string_view name) {
  const Builtin filter = FindTextFilter(name);
  return filter ? filter : FindSequenceFilter(name);
}

}  // namespace pantry::jinja
