// SPDX-License-Identifier: Apache-2.0
// Filters over sequences and dicts.
#include <algorithm>
#include <array>
#include <functional>

#include "text/jinja/builtins.h"
#include "text/jinja/error.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/format.h"
#include "text/jinja/merge_sort.h"
#include "text/jinja/operators.h"
#include "text/jinja/text_ops.h"
#include "text/jinja/unicode.h"

namespace pantry::jinja {
namespace {

constexpr int64_t kMaxItems = int64_t{1} << 20;  // that a number in the template can ask for

// "a.b.0" -> the value at that path.
Value AttributeAt(Evaluator& e, Value value, const Value& path) {
  if (!path.is_string()) return e.GetSubscript(value, path);
  std::string_view rest = path.bytes();
  for (;;) {
    e.heap().Spend(1);
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    const bool is_index =
        !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string_view::npos;
    value = e.GetSubscript(value, is_index ? Value::Int(std::stoll(std::string(part))) : e.heap().String(part));
    if (dot == std::string_view::npos) return value;
    rest.remove_prefix(dot + 1);
  }
}

Value IgnoreCase(Evaluator& e, const Value& value) {
  return value.is_string() ? e.heap().String(Lower(e.heap(), value.text())) : value;
}

// The key that sort, unique, min and max compare by.
Value SortKey(Evaluator& e, const Value& item, const Value* attribute, bool case_sensitive) {
  Value key = attribute && !attribute->is_none() ? AttributeAt(e, item, *attribute) : item;
  return case_sensitive ? key : IgnoreCase(e, key);
}

Value Length(Evaluator&, const Value& self, const Args&) { return Value::Int(jinja::Length(self)); }

Value Default(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("default", args, {"default_value", "boolean"});
  if (!self.is_undefined() && (!bound.Bool(1, false) || IsTrue(self))) return self;
  return bound.Has(0) ? *bound[0] : e.heap().String(MarkedText());
}

Value First(Evaluator& e, const Value& self, const Args&) {
  if (self.is_flavor(Flavor::kGenerator)) {
    const SequenceObject& generator = self.sequence();
    if (generator.n_taken < generator.items.size()) return generator.items[generator.n_taken++];
  } else if (self.is_sequence() && !self.items().empty()) {
    return self.items().front();
  } else if (!self.is_sequence()) {
    const std::vector<Value> items = Iterate(e.heap(), self);
    if (!items.empty()) return items.front();
  }
  return e.heap().Undefined("No first item, sequence was empty.");
}

Value Last(Evaluator& e, const Value& self, const Args&) {
  FailIfUndefined(self);
  if (self.is_flavor(Flavor::kGenerator)) Fail("'generator' object is not reversible; use |list|last");
  const std::vector<Value> items = Iterate(e.heap(), self);
  return items.empty() ? e.heap().Undefined("No last item, sequence was empty.") : items.back();
}

Value ListFilter(Evaluator& e, const Value& self, const Args&) { return e.heap().List(Iterate(e.heap(), self)); }

Value Items(Evaluator& e, const Value& self, const Args&) {
  std::vector<Value> items;
  if (!self.is_undefined()) {
    if (!self.is_dict()) Fail("Can only get item pairs from a mapping.");
    for (const auto& [key, value] : self.dict().entries) items.push_back(e.heap().Tuple({key, value}));
  }
  return e.heap().Generator(std::move(items));
}

Value JoinFilter(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("join", args, {"d", "attribute"});
  Heap& heap = e.heap();
  std::vector<Value> items = Iterate(heap, self);
  if (bound.Has(1) && !bound[1]->is_none()) {
    for (Value& item : items) item = AttributeAt(e, item, *bound[1]);
  }
  return heap.String(Join(heap, bound.Has(0) ? ToText(heap, *bound[0]) : MarkedText(), items));
}

// Stable; a comparison that fails ends the sort.
void SortBy(Evaluator& e, std::vector<Value>* items, const std::function<Value(const Value&)>& key, bool reverse) {
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : *items) {
    Value item_key = key(item);
    keyed.emplace_back(std::move(item_key), std::move(item));
  }
  const auto less = [&](const auto& a, const auto& b) {
    return Compare(e.heap(), reverse ? b.first : a.first, reverse ? a.first : b.first, "<") == -1;
  };
  MergeSort(&keyed, less);
  for (size_t i = 0; i < keyed.size(); ++i) (*items)[i] = std::move(keyed[i].second);
}

Value Sort(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("sort", args, {"reverse", "case_sensitive", "attribute"});
  std::vector<Value> items = Iterate(e.heap(), self);
  const auto key = [&](const Value& item) {
    if (!bound.Has(2) || !bound[2]->is_string()) return SortKey(e, item, bound[2], bound.Bool(1, false));
    std::vector<Value> keys;  // "name,age"
    const MarkedText comma(",", false);
    for (const Value& path : Split(e.heap(), bound[2]->text(), &comma, -1, false))
      keys.push_back(SortKey(e, item, &path, bound.Bool(1, false)));
    return e.heap().Tuple(std::move(keys));
  };
  SortBy(e, &items, key, bound.Bool(0, false));
  return e.heap().List(std::move(items));
}

Value DictSort(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("dictsort", args, {"case_sensitive", "by", "reverse"});
  FailIfUndefined(self);
  if (!self.is_dict()) Fail("dictsort needs a dict, not {}", TypeName(self));
  const std::string_view by = bound.Text(1) ? bound.Text(1)->bytes() : "key";
  if (by != "key" && by != "value") Fail("You can only sort by either \"key\" or \"value\"");
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict().entries) items.push_back(e.heap().Tuple({key, value}));
  const auto key = [&](const Value& item) {
    const Value& part = item.items()[by == "key" ? 0 : 1];
    return bound.Bool(0, false) ? part : IgnoreCase(e, part);
  };
  SortBy(e, &items, key, bound.Bool(2, false));
  return e.heap().List(std::move(items));
}

Value Unique(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("unique", args, {"case_sensitive", "attribute"});
  std::vector<std::pair<Value, Value>> entries;  // a dict keeps the last of equal keys, so it is asked backwards
  const std::vector<Value> items = Iterate(e.heap(), self);
  for (size_t i = items.size(); i-- > 0;)
    entries.emplace_back(SortKey(e, items[i], bound[1], bound.Bool(0, false)), Value::Int(static_cast<int64_t>(i)));
  const Value by_key = e.heap().Dict(std::move(entries));
  std::vector<size_t> firsts;
  for (const auto& [key, index] : by_key.dict().entries) firsts.push_back(static_cast<size_t>(index.integer()));
  std::sort(firsts.begin(), firsts.end());
  std::vector<Value> result;
  for (const size_t i : firsts) result.push_back(items[i]);
  return e.heap().Generator(std::move(result));
}

template <int sign>
Value Extreme(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound(sign < 0 ? "min" : "max", args, {"case_sensitive", "attribute"});
  const std::vector<Value> items = Iterate(e.heap(), self);
  if (items.empty()) return e.heap().Undefined("No aggregated item, sequence was empty.");
  const Value* best = &items[0];
  Value best_key = SortKey(e, *best, bound[1], bound.Bool(0, false));
  for (size_t i = 1; i < items.size(); ++i) {
    Value key = SortKey(e, items[i], bound[1], bound.Bool(0, false));
    if (Compare(e.heap(), key, best_key, sign < 0 ? "<" : ">") != sign) continue;
    best = &items[i];
    best_key = std::move(key);
  }
  return *best;
}

Value Sum(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("sum", args, {"attribute", "start"});
  Value total = bound.Has(1) ? *bound[1] : Value::Int(0);
  if (total.is_string()) Fail("sum() can't sum strings; use |join");
  for (const Value& item : Iterate(e.heap(), self)) {
    const bool by_attribute = bound.Has(0) && !bound[0]->is_none();
    total = Binary(e.heap(), BinaryOp::kAdd, total, by_attribute ? AttributeAt(e, item, *bound[0]) : item);
  }
  return total;
}

Value ReverseFilter(Evaluator& e, const Value& self, const Args&) {
  if (self.is_string()) return e.heap().String(Reverse(e.heap(), self.text()));
  std::vector<Value> items = Iterate(e.heap(), self);
  std::reverse(items.begin(), items.end());
  return e.heap().Generator(std::move(items));
}

Value Map(Evaluator& e, const Value& self, const Args& args) {
  std::vector<Value> items = Iterate(e.heap(), self);
  if (args.positional.empty()) {
    const BoundArgs bound("map", args, {"attribute", "default"});
    if (!bound.Has(0)) Fail("map requires a filter argument");
    for (Value& item : items) {
      item = AttributeAt(e, item, *bound[0]);
      if (item.is_undefined() && bound.Has(1) && !bound[1]->is_none()) item = *bound[1];
    }
    return e.heap().Generator(std::move(items));
  }
  if (!args.positional[0].is_string()) Fail("map needs the name of a filter");
  const std::string_view name = args.positional[0].bytes();
  const Args rest{{args.positional.begin() + 1, args.positional.end()}, args.keywords};
  for (Value& item : items) item = e.ApplyFilter(name, item, rest);
  return e.heap().Generator(std::move(items));
}

// select, reject, selectattr, rejectattr: by a test, or by truth when none is named.
template <bool wanted, bool by_attribute>
Value Select(Evaluator& e, const Value& self, const Args& args) {
  constexpr size_t kTestAt = by_attribute ? 1 : 0;
  if (args.positional.size() < kTestAt) Fail("Missing parameter for attribute name");
  const bool has_test = args.positional.size() > kTestAt;
  if (has_test && !args.positional[kTestAt].is_string()) Fail("select needs the name of a test");
  Args rest;
  if (has_test) rest = {{args.positional.begin() + kTestAt + 1, args.positional.end()}, args.keywords};
  std::vector<Value> result;
  for (const Value& item : Iterate(e.heap(), self)) {
    const Value subject = by_attribute ? AttributeAt(e, item, args.positional[0]) : item;
    const bool passes = has_test ? e.ApplyTest(args.positional[kTestAt].bytes(), subject, rest) : IsTrue(subject);
    if (passes == wanted) result.push_back(item);
  }
  return e.heap().Generator(std::move(result));
}

Value GroupBy(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  const auto attribute = [&](const Value& item) {
    const Value value = AttributeAt(e, item, *bound[0]);
    return value.is_undefined() && bound.Has(1) && !bound[1]->is_none() ? *bound[1] : value;
  };
  const auto key = [&](const Value& item) {
    return bound.Bool(2, false) ? attribute(item) : IgnoreCase(e, attribute(item));
  };
  std::vector<Value> items = Iterate(e.heap(), self);
  SortBy(e, &items, key, false);
  std::vector<Value> groups;
  for (size_t begin = 0; begin < items.size();) {
    const Value group_key = key(items[begin]);
    size_t end = begin + 1;
    while (end < items.size() && Equals(e.heap(), group_key, key(items[end]))) ++end;
    const std::vector<Value> members(items.begin() + static_cast<ptrdiff_t>(begin),
                                     items.begin() + static_cast<ptrdiff_t>(end));
    groups.push_back(e.heap().Tuple({attribute(items[begin]), e.heap().List(members)}));
    begin = end;
  }
  return e.heap().List(std::move(groups));
}

Value Batch(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("batch", args, {"linecount", "fill_with"}, 1);
  const int64_t size = bound.Int(0, 0);
  if (size < 1 || size > kMaxItems) Fail("batch needs a size in 1..{}", kMaxItems);
  const std::vector<Value> items = Iterate(e.heap(), self);
  std::vector<Value> batches;
  for (size_t begin = 0; begin < items.size(); begin += static_cast<size_t>(size)) {
    const size_t end = std::min(items.size(), begin + static_cast<size_t>(size));
    std::vector<Value> batch(items.begin() + static_cast<ptrdiff_t>(begin),
                             items.begin() + static_cast<ptrdiff_t>(end));
    if (bound.Has(1) && !bound[1]->is_none()) batch.resize(static_cast<size_t>(size), *bound[1]);
    batches.push_back(e.heap().List(std::move(batch)));
  }
  return e.heap().Generator(std::move(batches));
}

Value Slice(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("slice", args, {"slices", "fill_with"}, 1);
  const int64_t n_slices = bound.Int(0, 0);
  if (n_slices < 1 || n_slices > kMaxItems) Fail("slice needs a number in 1..{}", kMaxItems);
  const std::vector<Value> items = Iterate(e.heap(), self);
  const size_t each = items.size() / static_cast<size_t>(n_slices);
  const size_t n_longer = items.size() % static_cast<size_t>(n_slices);
  std::vector<Value> slices;
  size_t begin = 0;
  for (size_t i = 0; i < static_cast<size_t>(n_slices); ++i) {
    const size_t end = begin + each + (i < n_longer ? 1 : 0);
    std::vector<Value> slice(items.begin() + static_cast<ptrdiff_t>(begin),
                             items.begin() + static_cast<ptrdiff_t>(end));
    if (bound.Has(1) && !bound[1]->is_none() && i >= n_longer) slice.push_back(*bound[1]);
    slices.push_back(e.heap().List(std::move(slice)));
    begin = end;
  }
  return e.heap().Generator(std::move(slices));
}

Value Attr(Evaluator& e, const Value& self, const Args& args) {
  const BoundArgs bound("attr", args, {"name"}, 1);
  // Attributes only: the items of a dict are none.
  const MarkedText* name = bound.Text(0);
  if (!name) Fail("attr needs a name");
  if (self.is_dict() && !FindDictMethod(name->bytes()))
    return e.heap().Undefined(fmt::format("'dict object' has no attribute '{}'", name->bytes()));
  return e.GetAttribute(self, name->bytes());
}

constexpr std::array<BuiltinEntry, 25> kFilters = {{{"attr", Attr},
                                                    {"batch", Batch},
                                                    {"count", Length},
                                                    {"d", Default},
                                                    {"default", Default},
                                                    {"dictsort", DictSort},
                                                    {"first", First},
                                                    {"groupby", GroupBy},
                                                    {"items", Items},
                                                    {"join", JoinFilter},
                                                    {"last", Last},
                                                    {"length", Length},
                                                    {"list", ListFilter},
                                                    {"map", Map},
                                                    {"max", Extreme<1>},
                                                    {"min", Extreme<-1>},
                                                    {"reject", Select<false, false>},
                                                    {"rejectattr", Select<false, true>},
                                                    {"reverse", ReverseFilter},
                                                    {"select", Select<true, false>},
                                                    {"selectattr", Select<true, true>},
                                                    {"slice", Slice},
                                                    {"sort", Sort},
                                                    {"sum", Sum},
                                                    {"unique", Unique}}};

}  // namespace

Builtin FindSequenceFilter(std::string_view name) {
  const auto* it =
      std::find_if(kFilters.begin(), kFilters.end(), [name](const BuiltinEntry& entry) { return entry.first == name; });
  return it == kFilters.end() ? nullptr : it->second;
}

}  // namespace pantry::jinja
