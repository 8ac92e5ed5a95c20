// SPDX-License-Identifier: Apache-2.0
// What a template can call: filters (x | f), tests (x is f), global functions and the methods of values.
//
// All have one shape: Value f(evaluator, subject, arguments). Each file beside this one holds a table of one kind.
#pragma once

#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace pantry::jinja {

using BuiltinEntry = std::pair<std::string_view, Builtin>;

// Null when there is none of that name.
Builtin FindFilter(std::string_view name);
Builtin FindTest(std::string_view name);
Builtin FindFunction(std::string_view name);
Builtin FindStringMethod(std::string_view name);
Builtin FindDictMethod(std::string_view name);
Builtin FindListMethod(std::string_view name);  // of lists and tuples

// The parts of the filter table.
Builtin FindTextFilter(std::string_view name);
Builtin FindSequenceFilter(std::string_view name);

// The arguments of a call by the names of its parameters, null where not given. Fails for too many, unknown or doubled ones.
class BoundArgs {
 public:
  BoundArgs(std::string_view callee, const Args& args, std::initializer_list<std::string_view> parameters,
            size_t n_required = 0);
  const Value* operator[](size_t index) const { return values_[index]; }
  bool Has(size_t index) const { return values_[index] != nullptr; }
  // With a type, failing otherwise.
  int64_t Int(size_t index, int64_t default_value) const;
  bool Bool(size_t index, bool default_value) const;  // truth of any value
  // Null where absent or None.
  const MarkedText* Text(size_t index) const;

 private:
  std::string_view callee_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

}  // namespace pantry::jinja
