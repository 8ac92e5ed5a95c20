// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/heap.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "text/jinja/error.h"

namespace pantry::jinja {
namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;  // spreads sums of hashes
// What a container keeps per entry beside the entry itself: a node and a bucket of the index.
constexpr int64_t kIndexBytes = 48;

template <typename T>
std::shared_ptr<T> MakeObject() {
  return std::make_shared<T>();
}

}  // namespace

Heap::~Heap() {
  // All stay alive until each has let go, so no chain of destructors grows deep.
  for (const auto& object : cyclic_) object->Release();
}

void Heap::FailSteps() {
  steps_left_ = 0;
  FailOutOfBudget("rendering takes more than {} steps", limits_.max_steps);
}

void Heap::Charge(int64_t bytes) {
  if (bytes > 0 && live_bytes_ + bytes > limits_.max_live_bytes) {
    FailOutOfBudget("rendering needs more than {} MiB", limits_.max_live_bytes >> 20);
  }
  live_bytes_ += bytes;
}

void Heap::CheckDepth(int depth) const {
  if (depth > limits_.max_value_depth) FailOutOfBudget("values nest deeper than {}", limits_.max_value_depth);
}

void Heap::Adopt(Object* object, int64_t bytes) {
  constexpr int64_t kBlockBytes = 32;  // the allocator's and shared_ptr's own
  Charge(bytes + kBlockBytes);
  object->heap = this;
  object->charged_bytes = bytes + kBlockBytes;
}

Value Heap::Undefined(std::string message) {
  auto object = MakeObject<UndefinedObject>();
  object->message = std::move(message);
  Adopt(object.get(), static_cast<int64_t>(sizeof(UndefinedObject) + object->message.capacity()));
  return {Type::kUndefined, std::move(object)};
}

Value Heap::String(MarkedText text) {
  Spend(1);
  SpendBytes(text.size());
  auto object = MakeObject<StringObject>();
  object->text = std::move(text);
  Adopt(object.get(), static_cast<int64_t>(sizeof(StringObject) + object->text.MemoryBytes()));
  return {Type::kString, std::move(object)};
}

Value Heap::Sequence(Flavor flavor, std::vector<Value> items) {
  Spend(1 + static_cast<int64_t>(items.size() / 4));
  auto object = MakeObject<SequenceObject>();
  object->flavor = flavor;
  for (const Value& item : items) object->depth = std::max(object->depth, item.depth() + 1);
  CheckDepth(object->depth);
  object->items = std::move(items);
  Adopt(object.get(), static_cast<int64_t>(sizeof(SequenceObject) + object->items.capacity() * sizeof(Value)));
  return {Type::kSequence, std::move(object)};
}

Value Heap::Dict(std::vector<std::pair<Value, Value>> entries) {
  Spend(1 + static_cast<int64_t>(entries.size()));
  auto object = MakeObject<DictObject>();
  object->entries.reserve(entries.size());
  for (auto& [key, value] : entries) {
    object->depth = std::max({object->depth, key.depth() + 1, value.depth() + 1});
    if (const Value* old = Find(*this, *object, key)) {
      *const_cast<Value*>(old) = std::move(value);
      continue;
    }
    object->index.emplace(HashKey(*this, key), object->entries.size());
    object->entries.emplace_back(std::move(key), std::move(value));
  }
  CheckDepth(object->depth);
  const auto n_entries = static_cast<int64_t>(object->entries.capacity());
  Adopt(object.get(),
        static_cast<int64_t>(sizeof(DictObject)) + n_entries * (static_cast<int64_t>(2 * sizeof(Value)) + kIndexBytes));
  return {Type::kDict, std::move(object)};
}

Value Heap::Function(std::string name, Builtin builtin, const Value* self) {
  auto object = MakeObject<FunctionObject>();
  object->name = std::move(name);
  object->builtin = builtin;
  if (self) object->self = *self;
  object->depth = object->self.depth() + 1;
  CheckDepth(object->depth);
  Adopt(object.get(), static_cast<int64_t>(sizeof(FunctionObject) + object->name.capacity()));
  return {Type::kFunction, std::move(object)};
}

Value Heap::Namespace(std::vector<std::pair<std::string, Value>> attributes) {
  auto object = MakeObject<NamespaceObject>();
  object->attributes = std::move(attributes);
  Adopt(object.get(), static_cast<int64_t>(sizeof(NamespaceObject) + object->attributes.size() * 64));
  ReleaseAtEnd(object);
  return {Type::kNamespace, std::move(object)};
}

uint64_t HashKey(Heap& heap, const Value& key) {
  heap.Spend(1);
  switch (key.type()) {
    case Type::kNone: return 1;
    case Type::kBool:
    case Type::kInt: return static_cast<uint64_t>(key.integer()) * kGolden;
    case Type::kFloat: {
      const double number = key.number();
      if (std::floor(number) == number && std::fabs(number) < 0x1p62)
        return static_cast<uint64_t>(static_cast<int64_t>(number)) * kGolden;
      return std::hash<double>()(number);
    }
    case Type::kString: heap.SpendBytes(key.bytes().size()); return std::hash<std::string_view>()(key.bytes());
    case Type::kSequence:
      if (key.is_flavor(Flavor::kTuple)) {
        uint64_t hash = key.items().size();
        for (const Value& item : key.items()) hash = (hash ^ HashKey(heap, item)) * kGolden;
        return hash;
      }
      break;
    case Type::kUndefined: return 2;
    default: break;
  }
  Fail("unhashable type: '{}'", TypeName(key));
}

const Value* Find(Heap& heap, const DictObject& dict, std::string_view key) {
  heap.Spend(1);
  const auto range = dict.index.equal_range(std::hash<std::string_view>()(key));
  for (auto it = range.first; it != range.second; ++it) {
    const auto& entry = dict.entries[it->second];
    if (entry.first.is_string() && entry.first.bytes() == key) return &entry.second;
  }
  return nullptr;
}

}  // namespace pantry::jinja
