// SPDX-License-Identifier: Apache-2.0
// Arithmetic, indexing and iteration over values, with Python's rules.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/heap.h"
#include "text/jinja/value.h"

namespace pantry::jinja {

void FailIfUndefined(const Value& value);

Value Binary(Heap& heap, BinaryOp op, const Value& left, const Value& right);
Value Negate(const Value& value);
bool CompareWith(Heap& heap, CompareOp op, const Value& left, const Value& right);

// x[index] for sequences, strings and dicts; undefined when there is none.
Value GetItem(Heap& heap, const Value& object, const Value& index);
// x[start:stop:step]; an absent bound is None. Undefined for what cannot be sliced so.
Value GetSlice(Heap& heap, const Value& object, const Value& start, const Value& stop, const Value& step);

// The items that a loop over `value` visits: items, keys, characters. A generator gives its items once. Fails for what cannot be iterated.
std::vector<Value> Iterate(Heap& heap, const Value& value);
int64_t Length(const Value& value);  // len(); fails for what has none

// The first `needle` at or after byte `from`, npos when there is none. Linear time.
size_t FindBytes(std::string_view text, std::string_view needle, size_t from);
// The last one that begins before byte `end` - needle.size() + 1.
size_t FindLastBytes(Heap& heap, std::string_view text, std::string_view needle, size_t end);

// The whole number of an argument: an int or bool.
int64_t ToInt(const Value& value, std::string_view what);

}  // namespace pantry::jinja
