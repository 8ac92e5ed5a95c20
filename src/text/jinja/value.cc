// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/value.h"

#include <string.h>

#include <algorithm>
#include <cmath>

#include "text/jinja/error.h"
#include "text/jinja/heap.h"
#include "text/jinja/operators.h"

namespace pantry::jinja {

Object::~Object() {
  if (heap) heap->Charge(-charged_bytes);
}

Value Value::Float(double value) {
  Value result(Type::kFloat);
  result.float_ = value;
  return result;
}

std::string_view TypeName(const Value& value) {
  switch (value.type()) {
    case Type::kUndefined: return "Undefined";
    case Type::kNone: return "NoneType";
    case Type::kBool: return "bool";
    case Type::kInt: return "int";
    case Type::kFloat: return "float";
    case Type::kString: return "str";
    case Type::kDict: return "dict";
    case Type::kFunction: return "function";
    case Type::kNamespace: return "Namespace";
    case Type::kLoop: return "LoopContext";
    case Type::kSequence: break;
  }
  switch (value.sequence().flavor) {
    case Flavor::kList: return "list";
    case Flavor::kTuple: return "tuple";
    case Flavor::kRange: return "range";
    case Flavor::kGenerator: return "generator";
    case Flavor::kDictKeys: return "dict_keys";
    case Flavor::kDictValues: return "dict_values";
    case Flavor::kDictItems: return "dict_items";
  }
  return "object";
}

std::string UndefinedMessage(const Value& value) {
  if (!value.object()) return "value is undefined";
  return static_cast<const UndefinedObject&>(*value.object()).message;
}

bool IsTrue(const Value& value) {
  switch (value.type()) {
    case Type::kUndefined:
    case Type::kNone: return false;
    case Type::kBool:
    case Type::kInt: return value.integer() != 0;
    case Type::kFloat: return value.number() != 0;
    case Type::kString: return !value.text().empty();
    case Type::kSequence: return value.is_flavor(Flavor::kGenerator) || !value.items().empty();
    case Type::kDict: return !value.dict().entries.empty();
    default: return true;
  }
}

namespace {

bool DictsEqual(Heap& heap, const DictObject& a, const DictObject& b) {
  if (a.entries.size() != b.entries.size()) return false;
  return std::all_of(a.entries.begin(), a.entries.end(), [&](const auto& entry) {
    const Value* other = Find(heap, b, entry.first);
    return other && Equals(heap, entry.second, *other);
  });
}

}  // namespace

bool Equals(Heap& heap, const Value& a, const Value& b) {
  heap.Spend(1);
  if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
  if (a.is_number() && b.is_number()) return a.number() == b.number();
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::kUndefined:
    case Type::kNone: return true;
    case Type::kString: heap.SpendBytes(std::min(a.bytes().size(), b.bytes().size())); return a.bytes() == b.bytes();
    case Type::kSequence: {
      if (a.object() == b.object()) return true;
      if (a.sequence().flavor != b.sequence().flavor || a.is_flavor(Flavor::kGenerator)) return false;
      const auto& x = a.items();
      const auto& y = b.items();
      return x.size() == y.size() && std::equal(x.begin(), x.end(), y.begin(),
                                                [&](const Value& l, const Value& r) { return Equals(heap, l, r); });
    }
    case Type::kDict: return a.object() == b.object() || DictsEqual(heap, a.dict(), b.dict());
    default: return a.object() == b.object();
  }
}

int Compare(Heap& heap, const Value& a, const Value& b, std::string_view op) {
  heap.Spend(1);
  FailIfUndefined(a);
  FailIfUndefined(b);
  if (a.is_integral() && b.is_integral()) return a.integer() < b.integer() ? -1 : a.integer() > b.integer();
  if (a.is_number() && b.is_number()) {
    if (std::isnan(a.number()) || std::isnan(b.number())) return 2;  // neither: every comparison is false
    return a.number() < b.number() ? -1 : a.number() > b.number();
  }
  if (a.is_string() && b.is_string()) {
    // UTF-8 sorts bytewise in the order of code points.
    heap.SpendBytes(std::min(a.bytes().size(), b.bytes().size()));
    const int order = a.bytes().compare(b.bytes());
    return order < 0 ? -1 : order > 0;
  }
  if (a.is_list_or_tuple() && b.is_list_or_tuple() && a.sequence().flavor == b.sequence().flavor) {
    const auto& x = a.items();
    const auto& y = b.items();
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!Equals(heap, x[i], y[i])) return Compare(heap, x[i], y[i], op);
    }
    return x.size() < y.size() ? -1 : x.size() > y.size();
  }
  Fail("'{}' not supported between instances of '{}' and '{}'", op, TypeName(a), TypeName(b));
}

bool Contains(Heap& heap, const Value& container, const Value& item) {
  switch (container.type()) {
    case Type::kUndefined: return false;
    case Type::kString:
      FailIfUndefined(item);
      if (!item.is_string()) Fail("'in <string>' requires string as left operand, not {}", TypeName(item));
      heap.SpendBytes(container.bytes().size());
      return FindBytes(container.bytes(), item.bytes(), 0) != std::string_view::npos;
    case Type::kSequence:
      return std::any_of(container.items().begin(), container.items().end(),
                         [&](const Value& v) { return Equals(heap, v, item); });
    case Type::kDict: return Find(heap, container.dict(), item) != nullptr;
    default: Fail("argument of type '{}' is not iterable", TypeName(container));
  }
}

const Value* Find(Heap& heap, const DictObject& dict, const Value& key) {
  const auto range = dict.index.equal_range(HashKey(heap, key));
  for (auto it = range.first; it != range.second; ++it) {
    const auto& entry = dict.entries[it->second];
    if (Equals(heap, entry.first, key)) return &entry.second;
  }
  return nullptr;
}

}  // namespace pantry::jinja
