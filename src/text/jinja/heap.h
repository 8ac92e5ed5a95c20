// SPDX-License-Identifier: Apache-2.0
// A Heap makes values and keeps the rendering inside its limits: steps of work, bytes alive, depth of nesting.
//
// A template comes with a model file and is outside input: it must not hang, crash or eat the memory. Everything whose cost a template can
// choose is paid for here, and going over a limit throws TemplateError.
// Threads: thread-compatible; one rendering each. All values of a rendering die before its Heap.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace pantry::jinja {

struct Limits {
  // One step is one node evaluated, one item handled or 32 bytes of text; 40 M take 1 to 4 seconds, and a conversation of a thousand messages
  // stays below one million with most templates.
  int64_t max_steps = 40'000'000;
  int64_t max_live_bytes =
      int64_t{192} << 20;       // of values; with the largest texts in flight on top the process stays below 1 GiB
  int max_depth = 400;          // nested evaluation: calls of macros, parentheses, blocks. Bounds the C++ stack
  int max_value_depth = 200;    // lists in lists
  int64_t max_range = 100'000;  // items of one range(), as in Python's sandbox
};

class Heap {
 public:
  explicit Heap(const Limits& limits) : limits_(limits), steps_left_(limits.max_steps) {}
  ~Heap();
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  void Spend(int64_t steps) {
    steps_left_ -= steps;
    if (steps_left_ < 0) FailSteps();
  }
  void SpendBytes(size_t bytes) { Spend(static_cast<int64_t>(bytes / 32)); }
  // Accounts for memory; the caller gives it back with a negative amount.
  void Charge(int64_t bytes);
  const Limits& limits() const { return limits_; }

  Value Undefined(std::string message);
  Value String(MarkedText text);
  Value String(std::string_view template_text) { return String(MarkedText(template_text, false)); }
  Value Sequence(Flavor flavor, std::vector<Value> items);
  Value List(std::vector<Value> items) { return Sequence(Flavor::kList, std::move(items)); }
  Value Tuple(std::vector<Value> items) { return Sequence(Flavor::kTuple, std::move(items)); }
  Value Generator(std::vector<Value> items) { return Sequence(Flavor::kGenerator, std::move(items)); }
  // A later entry with an equal key replaces the value of the earlier one. Fails for keys that cannot be hashed.
  Value Dict(std::vector<std::pair<Value, Value>> entries);
  Value Function(std::string name, Builtin builtin, const Value* self = nullptr);
  Value Namespace(std::vector<std::pair<std::string, Value>> attributes);

  // Fails when `depth` exceeds the limit for nested values.
  void CheckDepth(int depth) const;
  // Accounts for an object made elsewhere.
  void Adopt(Object* object, int64_t bytes);
  void ChargeMore(Object* object, int64_t bytes) {
    Charge(bytes);
    object->charged_bytes += bytes;
  }
  // Something that may be part of a cycle: `release` of each is called once when the rendering ends.
  void ReleaseAtEnd(std::shared_ptr<Object> object) { cyclic_.push_back(std::move(object)); }

 private:
  [[noreturn]] void FailSteps();
  Limits limits_;
  int64_t steps_left_;
  int64_t live_bytes_ = 0;
  std::vector<std::shared_ptr<Object>> cyclic_;
};

// Hash of a key; equal values have equal hashes. Fails for lists, dicts and the like.
uint64_t HashKey(Heap& heap, const Value& key);

}  // namespace pantry::jinja
