// SPDX-License-Identifier: Apache-2.0
// Global functions, and the methods of dicts and lists.
#include <algorithm>
#include <array>

#include "text/jinja/builtins.h"
#include "text/jinja/error.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/format.h"
#include "text/jinja/operators.h"
#include "text/jinja/strftime.h"

namespace pantry::jinja {
namespace {

Value RaiseException(Evaluator& e, const Value&, const Args& args) {
  const BoundArgs bound("raise_exception", args, {"message"}, 1);
  throw TemplateError{StatusCode::kInvalidArgument, std::string(ToText(e.heap(), *bound[0]).bytes()), kNoOffset,
                      /*is_refusal=*/true};
}

Value StrftimeNow(Evaluator& e, const Value&, const Args& args) {
  const BoundArgs bound("strftime_now", args, {"format"}, 1);
  const MarkedText* format = bound.Text(0);
  if (!format) Fail("strftime_now() needs a string");
  e.heap().SpendBytes(format->size());
  MarkedText text(FormatTime(format->bytes(), e.now_unix_seconds()), format->AnyInput());
  return e.heap().String(std::move(text));
}

Value Range(Evaluator& e, const Value&, const Args& args) {
  const BoundArgs bound("range", args, {"start", "stop", "step"}, 1);
  const int64_t start = bound.Has(1) ? bound.Int(0, 0) : 0;
  const int64_t stop = bound.Has(1) ? bound.Int(1, 0) : bound.Int(0, 0);
  const int64_t step = bound.Int(2, 1);
  if (step == 0) Fail("range() arg 3 must not be zero");
  uint64_t count = 0;
  if (step > 0 ? start < stop : start > stop) {
    const uint64_t distance = step > 0 ? static_cast<uint64_t>(stop) - static_cast<uint64_t>(start)
                                       : static_cast<uint64_t>(start) - static_cast<uint64_t>(stop);
    const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
    count = (distance - 1) / stride + 1;
  }
  const int64_t limit = e.heap().limits().max_range;
  if (count > static_cast<uint64_t>(limit))
    FailOutOfBudget("Range too big. The maximum size for a range is {}.", limit);
  std::vector<Value> items;
  items.reserve(count);
  int64_t at = start;
  for (uint64_t i = 0; i < count; ++i) {
    items.push_back(Value::Int(at));
    if (i + 1 < count) at += step;
  }
  return e.heap().Sequence(Flavor::kRange, std::move(items));
}

// dict(mapping_or_pairs, **more)
std::vector<std::pair<Value, Value>> DictEntries(Evaluator& e, const Args& args) {
  if (args.positional.size() > 1) Fail("dict expected at most 1 argument, got {}", args.positional.size());
  std::vector<std::pair<Value, Value>> entries;
  if (!args.positional.empty()) {
    const Value& from = args.positional[0];
    FailIfUndefined(from);
    if (from.is_dict()) {
      entries = from.dict().entries;
    } else {
      for (const Value& pair : Iterate(e.heap(), from)) {
        std::vector<Value> parts = Iterate(e.heap(), pair);
        if (parts.size() != 2)
          Fail("dictionary update sequence element #{} has length {}; 2 is required", entries.size(), parts.size());
        entries.emplace_back(std::move(parts[0]), std::move(parts[1]));
      }
    }
  }
  for (const auto& [name, value] : args.keywords) entries.emplace_back(e.heap().String(name), value);
  return entries;
}

Value Dict(Evaluator& e, const Value&, const Args& args) { return e.heap().Dict(DictEntries(e, args)); }

Value Namespace(Evaluator& e, const Value&, const Args& args) {
  const Value dict = e.heap().Dict(DictEntries(e, args));  // without doubles
  std::vector<std::pair<std::string, Value>> attributes;
  for (const auto& [key, value] : dict.dict().entries) {
    if (!key.is_string()) Fail("a namespace needs names that are strings, not {}", TypeName(key));
    attributes.emplace_back(std::string(key.bytes()), value);
  }
  return e.heap().Namespace(std::move(attributes));
}

Value UnsupportedFunction(Evaluator&, const Value&, const Args&) {
  FailUnsupported("this function is not supported in chat templates");
}

constexpr std::array<BuiltinEntry, 8> kFunctions = {{{"cycler", UnsupportedFunction},
                                                     {"dict", Dict},
                                                     {"joiner", UnsupportedFunction},
                                                     {"lipsum", UnsupportedFunction},
                                                     {"namespace", Namespace},
                                                     {"raise_exception", RaiseException},
                                                     {"range", Range},
                                                     {"strftime_now", StrftimeNow}}};

Value Get(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("get", args, {"key", "default"}, 1);
  if (const Value* value = Find(e.heap(), self.dict(), *bound[0])) return *value;
  return bound.Has(1) ? *bound[1] : Value::None();
}

enum class Part : uint8_t { kKeys, kValues, kItems };
template <Part part>
Value DictParts(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("dict method", args, {});
  std::vector<Value> parts;
  for (const auto& [key, value] : self.dict().entries)
    parts.push_back(part == Part::kKeys ? key : part == Part::kValues ? value : e.heap().Tuple({key, value}));
  return e.heap().Sequence(part == Part::kKeys     ? Flavor::kDictKeys
                           : part == Part::kValues ? Flavor::kDictValues
                                                   : Flavor::kDictItems,
                           std::move(parts));
}

Value Copy(Evaluator&, const Value& self, const Args&) { return self; }

// What the sandbox forbids: values do not change.
Value Forbidden(Evaluator&, const Value& self, const Args&) {
  Fail("this method changes a {}, which the sandbox of chat templates forbids; build a new one, or use a namespace",
       TypeName(self));
}

constexpr std::array<BuiltinEntry, 11> kDictMethods = {{{"clear", Forbidden},
                                                        {"copy", Copy},
                                                        {"fromkeys", UnsupportedFunction},
                                                        {"get", Get},
                                                        {"items", DictParts<Part::kItems>},
                                                        {"keys", DictParts<Part::kKeys>},
                                                        {"pop", Forbidden},
                                                        {"popitem", Forbidden},
                                                        {"setdefault", Forbidden},
                                                        {"update", Forbidden},
                                                        {"values", DictParts<Part::kValues>}}};

Value ListCount(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("count", args, {"value"}, 1);
  return Value::Int(std::count_if(self.items().begin(), self.items().end(),
                                  [&](const Value& item) { return Equals(e.heap(), item, *bound[0]); }));
}

Value ListIndex(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("index", args, {"value"}, 1);
  for (size_t i = 0; i < self.items().size(); ++i) {
    if (Equals(e.heap(), self.items()[i], *bound[0])) return Value::Int(static_cast<int64_t>(i));
  }
  Fail("{} is not in list", ReprText(e.heap(), *bound[0]));
}

constexpr std::array<BuiltinEntry, 11> kListMethods = {{{"append", Forbidden},
                                                        {"clear", Forbidden},
                                                        {"copy", Copy},
                                                        {"count", ListCount},
                                                        {"extend", Forbidden},
                                                        {"index", ListIndex},
                                                        {"insert", Forbidden},
                                                        {"pop", Forbidden},
                                                        {"remove", Forbidden},
                                                        {"reverse", Forbidden},
                                                        {"sort", Forbidden}}};

template <size_t n>
Builtin FindIn(const std::array<BuiltinEntry, n>& table, std::string_view name) {
  const auto* it =
      std::find_if(table.begin(), table.end(), [name](const BuiltinEntry& entry) { return entry.first == name; });
  return it == table.end() ? nullptr : it->second;
}

}  // namespace

Builtin FindFunction(std::string_view name) { return FindIn(kFunctions, name); }
Builtin FindDictMethod(std::string_view name) { return FindIn(kDictMethods, name); }
Builtin FindListMethod(std::string_view name) { return FindIn(kListMethods, name); }

}  // namespace pantry::jinja
