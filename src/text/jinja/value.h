// SPDX-License-Identifier: Apache-2.0
// A Value is what a template computes with: Python's None, bool, int, float, str, list, tuple, dict, and a few callables.
//
// Values are immutable, as the sandbox that templates are written for demands; only a namespace changes. So they share their insides, never
// form cycles (namespaces and scopes aside, which the Heap breaks at its end), and know how deeply they nest.
// Threads: a parsed template's constants are shared by all renderings; everything else belongs to one rendering.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status.h"
#include "text/jinja/marked_text.h"

namespace pantry::jinja {

class Evaluator;
class Heap;

enum class Type : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kSequence,
  kDict,
  kFunction,
  kNamespace,
  kLoop
};

// Anything with insides.
struct Object {
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object();
  virtual void Release() {}  // lets go of what it refers to, to break cycles
  Heap* heap = nullptr;      // where its bytes are accounted; null for constants of the template
  int64_t charged_bytes = 0;
  int depth = 1;  // 1 + the deepest of the values in it
};
struct UndefinedObject;
struct StringObject;
struct SequenceObject;
struct DictObject;
struct FunctionObject;
struct NamespaceObject;

// One class for the sequences that Python keeps apart; the flavour decides how one prints and what it can do.
enum class Flavor : uint8_t { kList, kTuple, kRange, kGenerator, kDictKeys, kDictValues, kDictItems };

class Value {
 public:
  Value() = default;  // undefined without a message
  static Value None() { return Value(Type::kNone); }
  static Value Bool(bool value) { return Value(Type::kBool, int64_t{value}); }
  static Value Int(int64_t value) { return Value(Type::kInt, value); }
  static Value Float(double value);
  Value(Type type, std::shared_ptr<Object> object) : type_(type), object_(std::move(object)) {}

  Type type() const { return type_; }
  bool is_undefined() const { return type_ == Type::kUndefined; }
  bool is_none() const { return type_ == Type::kNone; }
  bool is_string() const { return type_ == Type::kString; }
  bool is_integral() const { return type_ == Type::kInt || type_ == Type::kBool; }  // bool is an int in Python
  bool is_number() const { return is_integral() || type_ == Type::kFloat; }
  bool is_dict() const { return type_ == Type::kDict; }
  bool is_sequence() const { return type_ == Type::kSequence; }
  bool is_flavor(Flavor flavor) const;
  bool is_list_or_tuple() const { return is_flavor(Flavor::kList) || is_flavor(Flavor::kTuple); }

  // REQUIRES the type.
  int64_t integer() const { return integer_; }  // bool, int
  bool boolean() const { return integer_ != 0; }
  double number() const { return type_ == Type::kFloat ? float_ : static_cast<double>(integer_); }
  const MarkedText& text() const;
  std::string_view bytes() const { return text().bytes(); }
  const SequenceObject& sequence() const;
  const std::vector<Value>& items() const;
  const DictObject& dict() const;
  const FunctionObject& function() const;
  NamespaceObject& name_space() const;
  const std::shared_ptr<Object>& object() const { return object_; }
  int depth() const { return object_ ? object_->depth : 0; }

 private:
  explicit Value(Type type, int64_t integer = 0) : type_(type), integer_(integer) {}
  Type type_ = Type::kUndefined;
  union {
    int64_t integer_ = 0;
    double float_;
  };
  std::shared_ptr<Object> object_;
};

// Using an undefined value in an expression fails with its message; printing it gives nothing.
struct UndefinedObject : Object {
  std::string message;
};

struct StringObject : Object {
  MarkedText text;
};

struct SequenceObject : Object {
  Flavor flavor = Flavor::kList;
  std::vector<Value> items;
  mutable size_t n_taken = 0;  // a generator gives each item once
};

struct DictObject : Object {
  std::vector<std::pair<Value, Value>> entries;     // in the order of insertion
  std::unordered_multimap<uint64_t, size_t> index;  // hash of the key -> entry
};

// What a call passes.
struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;
};

using Builtin = Value (*)(Evaluator&, const Value& self, const Args&);
struct FunctionObject : Object {
  std::string name;
  Builtin builtin = nullptr;  // null: a MacroObject
  Value self;                 // what a method is bound to
};

struct NamespaceObject : Object {
  void Release() override { attributes.clear(); }
  std::vector<std::pair<std::string, Value>> attributes;
};

inline const MarkedText& Value::text() const { return static_cast<const StringObject&>(*object_).text; }
inline const SequenceObject& Value::sequence() const { return static_cast<const SequenceObject&>(*object_); }
inline const std::vector<Value>& Value::items() const { return sequence().items; }
inline const DictObject& Value::dict() const { return static_cast<const DictObject&>(*object_); }
inline const FunctionObject& Value::function() const { return static_cast<const FunctionObject&>(*object_); }
inline NamespaceObject& Value::name_space() const { return static_cast<NamespaceObject&>(*object_); }
inline bool Value::is_flavor(Flavor flavor) const { return is_sequence() && sequence().flavor == flavor; }

// "str", "dict", ... as Python's error messages name types.
std::string_view TypeName(const Value& value);
std::string UndefinedMessage(const Value& value);  // REQUIRES: undefined

bool IsTrue(const Value& value);
// ==, with 1 == 1.0 == True. `heap` pays for the walk.
bool Equals(Heap& heap, const Value& a, const Value& b);
// <0, 0, >0; fails for values without an order.
int Compare(Heap& heap, const Value& a, const Value& b, std::string_view op);
// Python's `x in container`.
bool Contains(Heap& heap, const Value& container, const Value& item);
// The value under `key`, null when there is none; fails for keys that cannot be hashed.
const Value* Find(Heap& heap, const DictObject& dict, const Value& key);
const Value* Find(Heap& heap, const DictObject& dict, std::string_view key);

}  // namespace pantry::jinja
